//! `umount -f`: takes a union away whose daemon does not answer.

use std::path::Path;
use std::time::Duration;

use super::mountinfo::haosfs_at;
use super::presence::Watch;
use super::record;
use super::superblock::errno;
use super::unmount::{canonical, unmount};
use crate::error::{Error, Result};
use crate::sys::fuse_mount;

/// How long a daemon whose connection is broken may take to write out and end.
const LIMIT: Duration = Duration::from_secs(10);

/// Breaks the connection to the daemon, so that every waiting request fails, and unmounts; `lazy` also while in use. A daemon that
/// is well makes its upper durable all the same, and is waited for.
///
/// # Errors
/// [`Error::Refused`] where no haosfs mount stands; `EBUSY` while in use and not `lazy`.
pub fn unmount_forced(asked: &Path, lazy: bool) -> Result<()> {
    let mountpoint = canonical(asked)?;
    if record::kept_by_kernel(&mountpoint)?.is_some() {
        // The kernel's overlayfs can be unmounted without any daemon: that would only read for it.
        return unmount(asked, lazy).map(drop);
    }
    let Some(mount) = haosfs_at(&mountpoint)? else {
        return Err(Error::Refused(format!("{} is not a haosfs mount", asked.display())));
    };
    let watch = Watch::start(&mount.device, mount.user);
    fuse_mount::unmount_forced(&mountpoint, lazy).map_err(|e| Error::sys("unmount", asked, errno(e)))?;
    if let Some(watch) = watch.filter(|_| !lazy)
        && !watch.wait(LIMIT)
    {
        tracing::warn!("{} is unmounted, but {} has not ended yet", asked.display(), watch.told());
    }
    Ok(())
}
