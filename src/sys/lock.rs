//! Whole-file locks between daemons (flock(2)).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::Errno;

/// Takes an exclusive lock that lives as long as the open file description, without waiting.
///
/// # Errors
/// `EAGAIN` where somebody else holds it.
pub fn exclusive(fd: impl AsFd) -> Result<(), Errno> {
    Ok(flock(fd, FlockOperation::NonBlockingLockExclusive)?)
}

/// How long [`exclusive_soon`] waits: for what is held during a few writes.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Takes an exclusive lock as [`exclusive`], but waits up to a second: for one that is held during a few writes, which a child has,
/// too, between its fork and its exec.
///
/// # Errors
/// `EAGAIN` where somebody else holds it still.
pub fn exclusive_soon(fd: impl AsFd) -> Result<(), Errno> {
    exclusive_within(fd, PATIENCE)
}

/// The same with another limit.
///
/// # Errors
/// As for [`exclusive_soon`].
pub fn exclusive_within(fd: impl AsFd, patience: Duration) -> Result<(), Errno> {
    let start = Instant::now();
    loop {
        match exclusive(&fd) {
            Err(Errno::EAGAIN) if start.elapsed() < patience => std::thread::sleep(PATIENCE / 50),
            answer => return answer,
        }
    }
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
/// exclusive one, without a limit: only for what nobody else may open.
///
/// # Errors
/// What flock(2) answers.
pub fn shared(fd: impl AsFd) -> Result<(), Errno> {
    Ok(flock(fd, FlockOperation::LockShared)?)
}
