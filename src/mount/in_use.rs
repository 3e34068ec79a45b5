//! Whether the kernel's overlayfs writes to an upper, or by its work directory, already. With index=off, which is its default, it mounts a second time what it
//! has, with a mere warning in its log (fs/overlayfs/super.c, `ovl_report_in_use`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::mountinfo::{self, elsewhere_as};
use super::record;
use crate::error::{Errno, Error, Result};
use crate::sys::fs_context::FsContext;
use crate::sys::fuse_mount::Attributes;
use crate::sys::spot::Spot;

/// How long an overlay that one does not see is waited for: a process that is just starting may have the mounts of its parent for
/// a moment, which are not those that were unmounted here.
const PATIENCE: Duration = Duration::from_secs(1);

/// Refuses an upper directory and its work directory where an overlay has one of them, for whichever use, wherever that is mounted, and
/// if it is mounted nowhere any more but still used. What an overlay has in its work directory is not ours to clear away.
///
/// # Errors
/// [`Error::Refused`], saying where it is mounted, as far as that can be seen.
pub fn refuse(directories: &[Arc<OwnedFd>; 2]) -> Result<()> {
    let [upper, work] = directories;
    refuse_one("upper", upper)?;
    refuse_one("work directory", work)
}

fn refuse_one(role: &str, directory: &Arc<OwnedFd>) -> Result<()> {
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
            None if asked(directory) == Err(Errno::EBUSY) => {
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

/// Asks the kernel for an overlay that it cannot make, since its work directory is on another file system: with index=on it says
/// `EBUSY` for an upper in use before it says `EINVAL` for that. A directory that is the work directory of an overlay is in use in the
/// same way (`ovl_inuse_trylock`). Nothing is changed by it. Where overlays cannot be asked for, the
/// answer is another one.
fn asked(directory: &Arc<OwnedFd>) -> Result<(), Errno> {
    let empty = FsContext::open("tmpfs")?.mount(Attributes::default())?;
    let context = FsContext::open("overlay")?;
    let path = |fd: &dyn AsFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).into_os_string();
    context.string("lowerdir", &path(&empty))?;
    context.string("upperdir", &path(&**directory))?;
    context.string("workdir", &path(&empty))?;
    context.string("index", "on".as_ref())?;
    context.mount(Attributes::default()).map(drop)
}
