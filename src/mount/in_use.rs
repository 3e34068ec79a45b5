//! Whether the kernel's overlayfs writes to an upper already. It takes no locks that one could ask for, and mounts a second time
//! what it has, with a mere warning in its log (fs/overlayfs/super.c, `ovl_report_in_use`).

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mountinfo::{self, elsewhere_as};
use super::record;
use crate::error::{Error, Result};
use crate::sys::spot::Spot;

/// Refuses an upper directory that is in use: by an overlay of this mount namespace whose options lead to it, or by one that we
/// made, wherever it is mounted.
///
/// # Errors
/// [`Error::Refused`], saying where it is mounted.
pub fn refuse(upper: &Arc<OwnedFd>) -> Result<()> {
    let stat = Spot::Fd(Arc::clone(upper)).stat().map_err(|e| Error::sys("stat", "the upper directory", e))?;
    let inode = (stat.dev, stat.attr.ino);
    let of_path = |path: &Path| fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == inode);
    match mountinfo::overlay_with_upper(of_path)?.or_else(|| noted(inode)) {
        Some(at) => Err(Error::Refused(format!(
            "the upper is in use by the kernel's overlayfs mounted at {}; unmount that first",
            at.display()
        ))),
        None => Ok(()),
    }
}

fn noted(inode: (u64, u64)) -> Option<PathBuf> {
    let ours = record::all().into_iter().filter(|(_, record)| record.upper_inode == Some(inode));
    ours.filter_map(|(device, record)| elsewhere_as(&device, |mount| mount.fs_type == "overlay" && mount.source == record.source))
        .map(|found| found.mountpoint)
        .next()
}
