//! A FUSE file system of this process alone: it is mounted nowhere, and cut off from whoever could answer for it, so that its pages
//! are all there is of it.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};

use super::fuse_mount::{self, Attributes, Parameters};
use super::namespace;

/// Where it is mounted for a moment, in a mount namespace that only its maker is in: a directory that there must be.
const PLACE: &str = "/dev";

/// Its superblock, in a mount namespace of its maker's own.
#[derive(Debug)]
pub struct Private {
    /// /dev/fuse, bound to it.
    pub device: OwnedFd,
    /// Its root directory.
    pub root: OwnedFd,
}

/// Builds one, called `source` in the kernel's lists, read-only as no program writes to it. This process moves into a mount namespace
/// of its own, and where it may not mount into a user namespace, too: so it has to be a child that ends soon, with one thread.
///
/// # Errors
/// Those of unshare(2), and of fsopen(2) and its family; `ENOENT` or `ENODEV` without FUSE.
pub fn build(source: &str) -> io::Result<Private> {
    if !fuse_mount::may_administer() {
        namespace::enter_own_user_namespace()?;
    }
    // In the user namespace, as the kernel wants it (fs/fuse/inode.c, `fuse_fill_super`), and before the mount namespace, for what is
    // opened in that keeps it alive, with every file system that is mounted now.
    let device = fuse_mount::open_device()?;
    namespace::enter_own_mount_namespace()?;
    let parameters = Parameters {
        source: OsStr::new(source),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        allow_other: false,
        default_permissions: true,
        attributes: Attributes { read_only: true, nosuid: true, nodev: true, noexec: true, ..Attributes::default() },
    };
    let root = fuse_mount::build_detached(&device, &parameters)?;
    Ok(Private { device, root })
}

/// Breaks the connection to who answers for the file system of `root`. What needs an answer fails from then on, and waits for nobody.
///
/// # Errors
/// Those of mount(2), move_mount(2) and umount2(2).
pub fn cut_off(root: &OwnedFd) -> io::Result<()> {
    // Nothing that is mounted here shows elsewhere.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    move_mount(root, "", CWD, PLACE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // `MNT_FORCE` is what breaks it (fs/fuse/inode.c, `fuse_umount_begin`).
    Ok(unmount(PLACE, UnmountFlags::FORCE | UnmountFlags::DETACH)?)
}

/// Puts bytes, to the ends of their pages, into the page cache of file `ino` of the file system behind `device`, as its daemon would do
/// (`FUSE_NOTIFY_STORE`, `struct fuse_notify_store_out` of `<linux/fuse.h>`); the kernel takes that from a broken connection, too.
///
/// # Errors
/// `ENOENT` where the kernel knows no such file, `EINVAL` beyond 4 GiB, `ENOMEM`.
pub fn store(device: &OwnedFd, ino: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
    const NOTIFY_STORE: u32 = 4;
    const HEADERS: usize = 40;
    let sizes = u32::try_from(bytes.len()).ok().and_then(|size| Some((size, size.checked_add(HEADERS as u32)?)));
    let Some((size, total)) = sizes else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut headers = Vec::with_capacity(HEADERS);
    headers.extend_from_slice(&total.to_ne_bytes());
    headers.extend_from_slice(&NOTIFY_STORE.to_ne_bytes());
    // No request is answered.
    headers.extend_from_slice(&0_u64.to_ne_bytes());
    headers.extend_from_slice(&ino.to_ne_bytes());
    headers.extend_from_slice(&offset.to_ne_bytes());
    headers.extend_from_slice(&size.to_ne_bytes());
    headers.extend_from_slice(&0_u32.to_ne_bytes());
    rustix::io::writev(device.as_fd(), &[IoSlice::new(&headers), IoSlice::new(bytes)])?;
    Ok(())
}
