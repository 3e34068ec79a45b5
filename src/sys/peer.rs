//! Who is at the other end of a socket.
#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The process that has listened at, or connected, the other end, as it was then (unix(7), `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub user: u32,
    /// Its number; `None` where it is of a PID namespace that is not seen from here.
    pub pid: Option<i32>,
}

impl Peer {
    /// That of a connected socket.
    ///
    /// # Errors
    /// What getsockopt(2) answers.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let mut peer = MaybeUninit::<libc::ucred>::zeroed();
        let mut len = mem::size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `peer`, which has as many.
        let done = unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, peer.as_mut_ptr().cast(), &raw mut len)
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zeros is a value of it, and so is what the kernel has written.
        let peer = unsafe { peer.assume_init() };
        Ok(Self { user: peer.uid, pid: Some(peer.pid).filter(|&pid| pid > 0) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn both_ends_of_a_pair_are_ours() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = Peer { user: rustix::process::geteuid().as_raw(), pid: i32::try_from(std::process::id()).ok() };
        assert_eq!(Peer::of(one.as_fd()).unwrap(), own);
        assert!(Peer::of(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
