//! Locks that nobody but root can take. flock(2) asks for no more than a descriptor that reads: on whatever others may open, they can
//! hold a lock for as long as they like. So these stand in a directory that only root may open.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno as Answer;
use rustix::process::geteuid;

use super::lock;
use super::replace::{self, Rights};
use crate::error::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Where they are, from the outside in. The first is for everybody to look into; all are gone after a reboot, as locks are.
const PLACES: [(&str, u32); 2] = [("/run/haosfs", 0o755), ("/run/haosfs/locks", 0o700)];

/// The directory of private locks, made where it is missing. It may be locked itself.
///
/// # Errors
/// `EPERM` for anybody but root; what the kernel answers.
pub fn directory() -> Result<OwnedFd> {
    if !geteuid().is_root() {
        return Err(Errno::EPERM);
    }
    for (place, perm) in PLACES {
        match fs::mkdirat(CWD, place, Mode::from_raw_mode(perm)) {
            Ok(()) | Err(Answer::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let [_, (path, perm)] = PLACES;
    let directory = replace::open_dir(Path::new(path))?;
    replace::set_rights(&directory, Rights { perm, owner: None })?;
    Ok(directory)
}

/// True for what none but its owner, and root, may open.
///
/// # Errors
/// The kernel's answer.
pub fn is_private(fd: impl AsFd) -> Result<bool> {
    Ok(fs::fstat(fd)?.st_mode & 0o077 == 0)
}

/// The private lock of a file or directory, held for as long as this lives.
#[derive(Debug)]
pub struct PrivateLock {
    directory: OwnedFd,
    name: String,
    _file: OwnedFd,
    owner: u32,
}

impl PrivateLock {
    /// Takes the lock of what is open, by its device and inode number; waits so long where somebody else has it.
    ///
    /// # Errors
    /// `EAGAIN` where somebody else has it still; otherwise as for [`directory`].
    pub fn of(object: impl AsFd, patience: Duration) -> Result<Self> {
        let start = Instant::now();
        let found = fs::fstat(object)?;
        let (directory, name) = (directory()?, format!("{}-{}", found.st_dev, found.st_ino));
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = fs::openat(&directory, name.as_str(), flags, Mode::from_raw_mode(0o600))?;
            lock::exclusive_within(&file, patience.saturating_sub(start.elapsed()))?;
            // Whoever had it has taken it away with him.
            if fs::fstat(&file)?.st_nlink > 0 {
                return Ok(Self { directory, name, _file: file, owner: std::process::id() });
            }
        }
    }
}

impl Drop for PrivateLock {
    fn drop(&mut self) {
        // Only with the lock: the name is nobody else's. A process that was forked off has none of its own.
        if self.owner == std::process::id() {
            let _ = fs::unlinkat(&self.directory, self.name.as_str(), AtFlags::empty());
        }
    }
}
