//! Descriptors that go from one process to another over a socket (unix(7), `SCM_RIGHTS`), and those that a thread has for itself.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Descriptors of one message, at most.
pub const MOST: usize = 2;

/// Sends up to [`MOST`] of them, with a byte.
///
/// # Errors
/// What sendmsg(2) answers; `EINVAL` for more.
pub fn send(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The descriptors of one message; none where the other side closed without sending any.
///
/// # Errors
/// What recvmsg(2) answers, for instance `EAGAIN` when the socket's time to wait is over.
pub fn receive(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => break,
        }
    }
    let mut received = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    Ok(received)
}

/// From now on this thread has these descriptors, by the same numbers, and none of the others' any more, not even the standard ones. So it
/// keeps nothing open that they close, should it hang while its process is killed.
///
/// # Errors
/// What close_range(2) answers, for instance `ENOSYS` before Linux 5.9; then it has those of all.
pub fn keep_alone(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    // Those behind the last are not even copied.
    close_all(kept.last().map_or(0, |last| last.saturating_add(1)), u32::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    let mut first = 0;
    for fd in kept {
        if let Some(last) = fd.checked_sub(1).filter(|last| first <= *last) {
            close_all(first, last, 0)?;
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

fn close_all(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range(2) touches no memory. The first call gives this thread a table of its own, with copies that belong to nobody.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_thread_can_have_its_own() {
        let (kept, other) = (File::open("/").unwrap(), File::open("/dev/null").unwrap());
        let numbers = || -> Vec<i32> {
            let names = std::fs::read_dir("/proc/thread-self/fd").unwrap();
            let mut numbers: Vec<i32> = names.map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
            numbers.sort_unstable();
            numbers
        };
        let number = kept.as_raw_fd();
        for kept_there in [vec![kept.try_clone().unwrap()], vec![kept.try_clone().unwrap(), other.try_clone().unwrap()]] {
            let there = std::thread::spawn(move || {
                let ours: Vec<i32> = kept_there.iter().map(AsRawFd::as_raw_fd).collect();
                keep_alone(&kept_there.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
                assert!(kept_there.iter().all(|fd| rustix::fs::fstat(fd).is_ok()));
                // One more is the directory of them itself.
                numbers().into_iter().filter(|n| !ours.contains(n)).count()
            });
            assert!(there.join().unwrap() <= 1);
        }
        assert!(numbers().contains(&number));
        assert!(kept.metadata().unwrap().is_dir() && other.metadata().is_ok(), "those of others stay");
    }

    #[test]
    fn what_is_sent_arrives_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let files = ["/dev/null", "/dev/zero"].map(|path| File::open(path).unwrap());
        send(&here, &[files[0].as_fd(), files[1].as_fd()]).unwrap();
        let came: Vec<u64> = receive(&there).unwrap().into_iter().map(|fd| File::from(fd).metadata().unwrap().rdev()).collect();
        assert_eq!(came, files.map(|file| file.metadata().unwrap().rdev()));
        drop(here);
        assert!(receive(&there).unwrap().is_empty());
    }
}
