//! Whether a descriptor can be read at once.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// True where read(2) would not wait: something is there, or never will be. Does not wait either.
#[must_use]
pub fn is_readable(fd: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn data_and_the_end_are_readable() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(!is_readable(&ours));
        theirs.write_all(b"x").unwrap();
        assert!(is_readable(&ours));
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(is_readable(&ours));
    }
}
