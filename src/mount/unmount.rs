//! `haosfs umount`: takes a union away and waits until its upper is free again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::data::Attached;
use super::fusermount;
use super::generation;
use super::holders::{holders, told};
use super::mountinfo::{self, Elsewhere, MountEntry, elsewhere, haosfs_at};
use super::presence::Watch;
use super::probe::probe;
use super::record::{self, Record};
use super::superblock::errno;
use crate::error::{Errno, Error, Result};
use crate::sys::fuse_mount;

/// How long a daemon may take to write out and end after its mount has gone.
const LIMIT: Duration = Duration::from_secs(60);
/// After this time it is looked whether it has a reason not to end.
const STEP: Duration = Duration::from_secs(1);

/// How long a mount is looked at again that somebody unseen keeps busy.
const GLANCE: Duration = Duration::from_secs(1);

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
    if let Some((mount, record, note)) = record::kept_by_kernel(&mountpoint)? {
        let daemon = unmount_kernel(asked, &mountpoint, &mount, &record, lazy)?;
        if daemon == Daemon::Ended {
            note.forget()?;
        }
        return Ok(daemon);
    }
    let Some(mount) = haosfs_at(&mountpoint)? else {
        return Err(Error::Refused(format!("{} is not a haosfs mount", asked.display())));
    };
    take_away(asked, &mountpoint, &mount, lazy)
}

/// The kernel's overlayfs has nobody who could note afterwards that the upper was left in order.
fn unmount_kernel(asked: &Path, mountpoint: &Path, mount: &MountEntry, record: &Record, lazy: bool) -> Result<Daemon> {
    let ours =
        record.generation.as_ref().filter(|kept| kept.writable && !kept.is_in_memory() && record.backend == Backend::Kernel);
    // Held, the data partition's file system outlives the union for a moment and need not be mounted anew.
    let data =
        ours.map(|kept| Attached::again(&kept.data, kept.driver.as_deref(), &kept.options).map(|data| (data, kept.number)));
    let daemon = take_away(asked, mountpoint, mount, lazy)?;
    if let Some(elsewhere) = remains(mount) {
        return Ok(Daemon::GoesOn(elsewhere));
    }
    // Lazily detached, it may still be written to.
    if let (Some(data), false) = (data, lazy)
        && let Err(e) = data.and_then(|(data, number)| generation::unmounted(&data, number, record.upper_inode))
    {
        tracing::warn!("the upper's generation is not marked as left in order: {e}");
    }
    Ok(daemon)
}

/// A process that is just starting may have the mounts of its parent for a moment.
fn remains(mount: &MountEntry) -> Option<Elsewhere> {
    let end = Instant::now() + STEP;
    loop {
        match elsewhere(mount) {
            Some(_) if Instant::now() < end => std::thread::sleep(STEP / 20),
            found => return found,
        }
    }
}

fn take_away(asked: &Path, mountpoint: &Path, mount: &MountEntry, lazy: bool) -> Result<Daemon> {
    let watch = Watch::start(&mount.device, mount.user);
    remove_patiently(asked, mountpoint, lazy)?;
    match watch {
        Some(watch) if !lazy => await_end(&watch, mount, asked),
        _ => Ok(Daemon::Ended),
    }
}

/// Where nobody can be seen who keeps it busy, it was somebody who is gone by now: a program that had just been forked, or that
/// looks at every mount.
fn remove_patiently(asked: &Path, mountpoint: &Path, lazy: bool) -> Result<()> {
    let end = Instant::now() + GLANCE;
    loop {
        let e = match remove(mountpoint, lazy) {
            Err(e) if e.errno() == Errno::EBUSY => e,
            answer => return answer,
        };
        tracing::debug!("{e}");
        let mounts: Vec<PathBuf> = mountinfo::all().unwrap_or_default().into_iter().map(|mount| mount.mountpoint).collect();
        let who = match told(&holders(mountpoint, &mounts)) {
            who if !who.is_empty() => who,
            _ if Instant::now() < end => {
                std::thread::sleep(GLANCE / 20);
                continue;
            }
            _ => "nobody that this user may see uses it".to_owned(),
        };
        return Err(Error::Refused(format!("{} is busy: {who}; -l detaches it at once", asked.display())));
    }
}

fn await_end(watch: &Watch, mount: &MountEntry, asked: &Path) -> Result<Daemon> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if watch.wait(STEP) {
            return Ok(Daemon::Ended);
        }
        if let Some(elsewhere) = elsewhere(mount) {
            return Ok(Daemon::GoesOn(elsewhere));
        }
    }
    let (shown, daemon) = (asked.display(), watch.told());
    Err(Error::Refused(format!("{shown} is unmounted, but {daemon} has not ended after {} s", LIMIT.as_secs())))
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
