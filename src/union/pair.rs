//! Upper and work directory before they become an [`Upper`](super::Upper): opened, compared, locked.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Errno, Error, Result};
use crate::sys::data::OFlags;
use crate::sys::lock;
use crate::sys::spot::{Spot, Stat, open_dir, open_dir_at};

/// How long a lock may be waited for: a daemon that has just ended lets go of its files in any order.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens one of the two.
///
/// # Errors
/// [`Error::Refused`] where there is no such directory.
pub fn open(role: &str, path: &Path) -> Result<Arc<OwnedFd>> {
    open_dir(path).map_err(|e| match e {
        Errno::ENOENT => Error::Refused(format!("{}: the {role} directory does not exist; create it first", path.display())),
        Errno::ENOTDIR => Error::Refused(format!("{}: the {role} directory is not a directory", path.display())),
        e => Error::sys("open", path, e),
    })
}

/// Checks that this process may write to it.
///
/// # Errors
/// [`Error::Refused`] where it may not.
pub fn check_writable(role: &str, path: &Path) -> Result<()> {
    crate::sys::spot::may_write(path).map_err(|e| {
        let shown = path.display();
        Error::Refused(format!("{shown}: the {role} directory cannot be written to ({e}); choose one of your own"))
    })
}

/// Checks that both are on one mount, and neither is inside the other.
///
/// # Errors
/// [`Error::Refused`], naming both.
pub fn check_apart(upper: &Path, upper_dir: &Arc<OwnedFd>, work: &Path, work_dir: &Arc<OwnedFd>) -> Result<()> {
    let stat = |path: &Path, fd: &Arc<OwnedFd>| Spot::Fd(Arc::clone(fd)).stat().map_err(|e| Error::sys("stat", path, e));
    let (u, w) = (stat(upper, upper_dir)?, stat(work, work_dir)?);
    if (u.dev, u.mount) != (w.dev, w.mount) {
        return Err(Error::Refused(format!(
            "{} and {}: the work directory must be on the same mounted file system as the upper directory",
            work.display(),
            upper.display()
        )));
    }
    let within = |dir: &Arc<OwnedFd>, other: &Stat| is_within(dir, other).map_err(|e| Error::sys("look around", upper, e));
    if within(upper_dir, &w)? || within(work_dir, &u)? {
        return Err(Error::Refused(format!(
            "{} and {}: upper and work directory must be separate, neither inside the other",
            upper.display(),
            work.display()
        )));
    }
    Ok(())
}

/// Whether a directory is another or lies in it, by going up: paths may say nothing (a mount that stands nowhere).
fn is_within(dir: &Arc<OwnedFd>, other: &Stat) -> Result<bool, Errno> {
    let mut here = Arc::clone(dir);
    let mut stat = Spot::Fd(Arc::clone(&here)).stat()?;
    loop {
        let inode = (stat.dev, stat.attr.ino);
        if inode == (other.dev, other.attr.ino) {
            return Ok(true);
        }
        here = open_dir_at(&here, OsStr::new(".."))?;
        stat = Spot::Fd(Arc::clone(&here)).stat()?;
        if inode == (stat.dev, stat.attr.ino) {
            return Ok(false);
        }
    }
}

/// Takes a directory for this process alone, as long as the descriptor is open.
///
/// # Errors
/// [`Error::Refused`] where another mount has it.
pub fn lock(path: &Path, dir: &Arc<OwnedFd>) -> Result<OwnedFd> {
    let fd = Spot::Fd(Arc::clone(dir)).open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| Error::sys("open", path, e))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match lock::exclusive(&fd) {
            Ok(()) => break,
            Err(Errno::EAGAIN) if Instant::now() < end => std::thread::sleep(PATIENCE / 50),
            Err(Errno::EAGAIN) => {
                return Err(Error::Refused(format!(
                    "{}: in use by another mount; unmount that one first (findmnt -t fuse.haosfs lists them)",
                    path.display()
                )));
            }
            Err(e) => return Err(Error::sys("lock", path, e)),
        }
    }
    Ok(fd)
}
