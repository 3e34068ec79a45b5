//! Descriptors that go from one process to another over a socket (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

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
