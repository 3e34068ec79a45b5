//! Whether the kernel's overlayfs writes to an upper, or by its work directory, already. With index=off, which is its default, it mounts a
//! second time what it has, with a mere warning in its log (fs/overlayfs/super.c, `ovl_report_in_use`).

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::data::Attached;
use super::mountinfo::{self, elsewhere_as};
use super::question::Question;
use super::record;
use crate::error::{Error, Result};
use crate::sys::spot::Spot;

/// How long an overlay that one does not see is waited for: a process that is just starting may have the mounts of its parent for
/// a moment, which are not those that were unmounted here.
const PATIENCE: Duration = Duration::from_secs(1);

/// Refuses an upper directory and its work directory where an overlay has one of them, for whichever use, wherever that is mounted, and
/// if it is mounted nowhere any more but still used. What an overlay has in its work directory is not ours to clear away. `data` is the
/// data partition that they are on, where they are on one.
///
/// # Errors
/// [`Error::Refused`], saying where it is mounted, as far as that can be seen.
pub fn refuse(directories: &[Arc<OwnedFd>; 2], data: Option<&Attached>) -> Result<()> {
    let ([upper, work], mut question) = (directories, Question::new(data));
    refuse_one("upper", upper, &mut question)?;
    refuse_one("work directory", work, &mut question)
}

fn refuse_one(role: &str, directory: &Arc<OwnedFd>, question: &mut Question<'_>) -> Result<()> {
    let stat = Spot::Fd(Arc::clone(directory)).stat().map_err(|e| Error::sys("stat the directory", role, e))?;
    let inode = (stat.dev, stat.attr.ino);
    let of_path = |path: &Path| fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == inode);
    let refused = |at: String| Err(Error::Refused(format!("the {role} is in use by the kernel's overlayfs{at}")));
    let mounted = |at: PathBuf| format!(" mounted at {}; unmount that first", at.display());
    if let Some(at) = mountinfo::overlay_with(of_path)? {
        return refused(mounted(at));
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let at = match noted(inode) {
            Some(at) => mounted(at),
            None if question.is_in_use(directory) => {
                ", which is mounted out of sight; end what uses it, as after `umount -l`, or look into other mount namespaces"
                    .into()
            }
            None => return Ok(()),
        };
        if Instant::now() >= end {
            return refused(at);
        }
        sleep(PATIENCE / 20);
    }
}

/// Overlays that we made, in other mount namespaces too.
fn noted(inode: (u64, u64)) -> Option<PathBuf> {
    let ours = record::all().into_iter().filter(|(_, record)| record.upper_inode == Some(inode));
    ours.filter_map(|(device, record)| elsewhere_as(&device, |mount| mount.fs_type == "overlay" && record.is_of(mount)))
        .map(|found| found.mountpoint)
        .next()
}
