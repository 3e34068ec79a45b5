//! What is mounted, and by whom.

use std::fs::File;
use std::path::Path;

use super::mountinfo::{self, MountEntry};
use super::presence::Watch;
use super::record::{self, Record};
use crate::error::{Errno, Error, Result};
use crate::fuse::requests::NAMES;
use crate::sys::fuse_mount::TYPE;
use crate::sys::union_ioctl;

/// One union.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its entry in the table of mounts.
    pub mount: MountEntry,
    /// What was noted when it was mounted; another user's mount, or one by an earlier program, may have nothing.
    pub record: Option<Record>,
    /// Its daemon, where it has one that shows itself.
    pub daemon: Option<i32>,
    /// Room on the file system of its upper, or why that cannot be told: `ENOTCONN` where the daemon has died.
    pub room: std::result::Result<Room, Errno>,
    /// How many requests the kernel has sent to a daemon that joins the layers, by their names; empty without such a daemon.
    pub requests: Vec<(&'static str, u64)>,
    /// How many blocks of images such a daemon has decompressed, and found decompressed in pages of the kernel.
    pub blocks: Option<[u64; 2]>,
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of them.
    pub size: u64,
    /// Those in use.
    pub used: u64,
    /// Those that an ordinary user may still use.
    pub available: u64,
}

/// All unions that one sees in this mount namespace, or the one at `mountpoint`.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read; [`Error::Refused`] where nothing of ours stands at `mountpoint`.
pub fn status(mountpoint: Option<&Path>) -> Result<Vec<Status>> {
    let mounts = match mountpoint {
        Some(asked) => mountinfo::mount_at(&super::unmount::canonical(asked)?)?.into_iter().collect(),
        None => mountinfo::all()?,
    };
    let found: Vec<Status> = mounts.into_iter().filter_map(of).collect();
    match (mountpoint, found.is_empty()) {
        (Some(asked), true) => Err(Error::Refused(format!("{} is not a haosfs mount", asked.display()))),
        _ => Ok(found),
    }
}

fn of(mount: MountEntry) -> Option<Status> {
    let record = record::of(&mount).map(|(record, _)| record);
    let is_ours = mount.fs_type == TYPE || (mount.fs_type == "overlay" && record.is_some());
    is_ours.then(|| Status {
        daemon: Watch::start(&mount.device, mount.user).and_then(|watch| watch.pid()),
        requests: if mount.fs_type == TYPE { requests(&mount.mountpoint) } else { Vec::new() },
        blocks: if mount.fs_type == TYPE { blocks(&mount.mountpoint) } else { None },
        room: room(&mount.mountpoint),
        record,
        mount,
    })
}

/// Those of which there were any.
fn requests(mountpoint: &Path) -> Vec<(&'static str, u64)> {
    let asked = File::open(mountpoint).map(|union| union_ioctl::requests(&union));
    let Ok(Ok(counts)) = asked else { return Vec::new() };
    NAMES.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
}

fn blocks(mountpoint: &Path) -> Option<[u64; 2]> {
    union_ioctl::blocks(&File::open(mountpoint).ok()?).ok()
}

fn room(mountpoint: &Path) -> Result<Room, Errno> {
    let found = rustix::fs::statvfs(mountpoint)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Room {
        size: bytes(found.f_blocks),
        used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
        available: bytes(found.f_bavail),
    })
}
