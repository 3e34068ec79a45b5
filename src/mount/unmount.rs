//! `haosfs umount`: takes a union away and waits until its upper is free again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fusermount;
use super::mountinfo::{Elsewhere, elsewhere, haosfs_at};
use super::presence::Watch;
use super::probe::probe;
use super::superblock::errno;
use crate::error::{Errno, Error, Result};
use crate::sys::fuse_mount;

/// How long a daemon may take to write out and end after its mount has gone.
const LIMIT: Duration = Duration::from_secs(60);
/// After this time it is looked whether it has a reason not to end.
const STEP: Duration = Duration::from_secs(1);

/// What has become of a daemon whose mount was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// It has ended, or nobody waits for it.
    Ended,
    /// The union is mounted elsewhere, too, so it goes on, and the upper stays in use.
    GoesOn(Elsewhere),
}

/// Unmounts and waits for the daemon's end, unless the union is mounted elsewhere, too; `lazy` detaches at once, also while in
/// use, and does not wait.
///
/// # Errors
/// [`Error::Refused`] where no haosfs mount stands, or while it is in use, with the remedy.
pub fn unmount(asked: &Path, lazy: bool) -> Result<Daemon> {
    let mountpoint = canonical(asked)?;
    let shown = asked.display();
    let Some(mount) = haosfs_at(&mountpoint)? else {
        return Err(Error::Refused(format!("{shown} is not a haosfs mount")));
    };
    let watch = Watch::start(&mount.device, mount.user);
    remove(&mountpoint, lazy).map_err(|e| match e.errno() {
        Errno::EBUSY => {
            Error::Refused(format!("{shown} is busy: programs use it (`fuser -vm {shown}` lists them); -l detaches it at once"))
        }
        _ => e,
    })?;
    match watch {
        Some(watch) if !lazy => await_end(&watch, &mount.device, asked),
        _ => Ok(Daemon::Ended),
    }
}

fn await_end(watch: &Watch, device: &str, asked: &Path) -> Result<Daemon> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if watch.wait(STEP).map_err(|e| Error::sys("wait for the daemon of", asked, e))? {
            return Ok(Daemon::Ended);
        }
        if let Some(elsewhere) = elsewhere(device) {
            return Ok(Daemon::GoesOn(elsewhere));
        }
    }
    let (shown, pid) = (asked.display(), watch.pid);
    Err(Error::Refused(format!("{shown} is unmounted, but its daemon (pid {pid}) has not ended after {} s", LIMIT.as_secs())))
}

/// Directly where we may, else through fusermount3.
fn remove(mountpoint: &Path, lazy: bool) -> Result<()> {
    match fuse_mount::unmount(mountpoint, lazy) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => match probe().fusermount {
            Some(program) => fusermount::unmount(&program, mountpoint, lazy),
            None => Err(Error::Refused(format!(
                "no permission to unmount {}, and fusermount3 is missing: install the package fuse3",
                mountpoint.display()
            ))),
        },
        Err(e) => Err(Error::sys("unmount", mountpoint, errno(e))),
    }
}

/// The root of a mount whose daemon is gone cannot be resolved; its parent can.
pub(super) fn canonical(asked: &Path) -> Result<PathBuf> {
    match fs::canonicalize(asked) {
        Ok(path) => Ok(path),
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => beside_parent(asked).map_err(|e| Error::sys("umount", asked, e)),
        Err(e) => Err(Error::sys("umount", asked, e)),
    }
}

fn beside_parent(asked: &Path) -> io::Result<PathBuf> {
    let asked = std::path::absolute(asked)?;
    match (asked.parent(), asked.file_name()) {
        (Some(parent), Some(name)) => fs::canonicalize(parent).map(|parent| parent.join(name)),
        _ => Ok(asked),
    }
}
