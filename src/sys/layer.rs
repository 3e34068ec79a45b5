//! Directories as layers, each seen through a private clone of its mount: so what is mounted inside is no part of it, before and
//! after, and stays free to be unmounted (fs/overlayfs/super.c does the same by `clone_private_mount`).
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::OpenTreeFlags;

use super::spot::{Spot, open_beneath, open_dir};
use crate::error::Errno;
use crate::types::Atime;

type Result<T> = std::result::Result<T, Errno>;

/// Opens a directory as the root of a lower, through which nothing is written, access times included. Where we may not have a
/// clone of the mount (which needs `CAP_SYS_ADMIN`), the directory itself.
///
/// # Errors
/// As for [`open_dir`].
pub fn open_lower(path: &Path) -> Result<Arc<OwnedFd>> {
    let dir = open_dir(path)?;
    let Ok(clone) = clone_private(&dir) else { return Ok(dir) };
    // Before Linux 5.12 it stays as the mount is; nobody writes by it all the same.
    let _as_it_is = set_attributes(&clone, &stamped(Atime::Never, libc::MOUNT_ATTR_RDONLY));
    Ok(Arc::new(clone))
}

/// Opens two directories of one mount once more, below one clone of it: a rename cannot leave a mount, not even for another clone
/// of the same. Reading stamps access times as `atime` says. `None` where we may not have a clone, or it shows other directories than those that are open.
pub fn open_pair(paths: [&Path; 2], open: [&Arc<OwnedFd>; 2], atime: Atime) -> Option<[Arc<OwnedFd>; 2]> {
    let [one, two] = [paths[0].canonicalize().ok()?, paths[1].canonicalize().ok()?];
    let common: PathBuf = one.components().zip(two.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let above = open_dir(&common).ok()?;
    let stat = |fd: &Arc<OwnedFd>| Spot::Fd(Arc::clone(fd)).stat().ok();
    if stat(&above)?.mount != stat(open[0])?.mount {
        return None;
    }
    let root = Arc::new(clone_private(&above).ok()?);
    // Before Linux 5.12, and where a user namespace may not change it, it stays as the mount is.
    let _as_it_is = set_attributes(&root, &stamped(atime, 0));
    let again = |path: &Path, known: &Arc<OwnedFd>| {
        let found = open_beneath(&root, path.strip_prefix(&common).ok()?).ok()?;
        let (a, b) = (stat(&found)?, stat(known)?);
        ((a.dev, a.attr.ino) == (b.dev, b.attr.ino)).then_some(found)
    };
    Some([again(&one, open[0])?, again(&two, open[1])?])
}

/// A mount of the directory alone, in no name space, that no later mount or unmount reaches.
fn clone_private(dir: &OwnedFd) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = rustix::mount::open_tree(dir, "", flags)?;
    let private = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // Before Linux 5.12 it can only be left in its peer group, from which nothing comes into a mount that is in no name space.
    let _as_it_is = set_attributes(&clone, &private);
    Ok(clone)
}

/// These flags, and the access times that reading stamps.
const fn stamped(atime: Atime, flags: u64) -> libc::mount_attr {
    let mode = match atime {
        Atime::Relative => libc::MOUNT_ATTR_RELATIME,
        Atime::Strict => libc::MOUNT_ATTR_STRICTATIME,
        Atime::Never => libc::MOUNT_ATTR_NOATIME,
    };
    libc::mount_attr { attr_set: flags | mode, attr_clr: libc::MOUNT_ATTR__ATIME, propagation: 0, userns_fd: 0 }
}

/// mount_setattr(2), which rustix lacks.
fn set_attributes(mount: impl AsFd, attributes: &libc::mount_attr) -> Result<()> {
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, the path a string that ends, and the kernel reads as many bytes of the attributes as it is
    // told.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).map_or(Errno::EIO, Errno::from))
    }
}
