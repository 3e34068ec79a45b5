//! Whole-file locks between daemons (flock(2)).

use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};

use crate::error::Errno;

/// Takes an exclusive lock that lives as long as the open file description, without waiting.
///
/// # Errors
/// `EAGAIN` where somebody else holds it.
pub fn exclusive(fd: impl AsFd) -> Result<(), Errno> {
    Ok(flock(fd, FlockOperation::NonBlockingLockExclusive)?)
}

/// Takes a lock that is shared with other takers of this one, in place of the one that is held, without waiting. The one that was
/// held is lost where it fails.
///
/// # Errors
/// `EAGAIN` where somebody else holds an exclusive one.
pub fn shared_if_free(fd: impl AsFd) -> Result<(), Errno> {
    Ok(flock(fd, FlockOperation::NonBlockingLockShared)?)
}

/// Takes a lock that is shared with other takers of this one, in place of the one that is held; waits while somebody holds an
/// exclusive one.
///
/// # Errors
/// What flock(2) answers.
pub fn shared(fd: impl AsFd) -> Result<(), Errno> {
    Ok(flock(fd, FlockOperation::LockShared)?)
}
