//! Descriptors that a process was started with.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that whoever started this process left open for it under an agreed number. Programs that this one
/// starts do not get it. Call it once for a number, before anything opens files.
///
/// # Errors
/// `EBADF` where it is not open.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: this only sets a flag, of whatever is open under the number.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, as the call above found, and by the agreement nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
