//! A user and mount namespace of one's own, in which an ordinary user may mount (user_namespaces(7)).
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::thread::LinkNameSpaceType;

/// Moves this process into a new user namespace, where its uid and gid read as 0 and it has every capability, and a new mount
/// namespace. Call it before any thread is started.
///
/// # Errors
/// `EPERM` where unprivileged user namespaces are switched off, `EINVAL` when threads run.
pub fn enter_own_namespaces() -> io::Result<()> {
    enter_own_user_namespace()?;
    enter_own_mount_namespace()
}

/// The first half of [`enter_own_namespaces`].
///
/// # Errors
/// As for [`enter_own_namespaces`].
pub fn enter_own_user_namespace() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    unshare(libc::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))
}

/// Moves this process into a mount namespace of its own. Call it before any thread is started.
///
/// # Errors
/// `EPERM` without the right to mount.
pub fn enter_own_mount_namespace() -> io::Result<()> {
    unshare(libc::CLONE_NEWNS)
}

fn unshare(what: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare(2) with CLONE_NEWUSER or CLONE_NEWNS changes no memory and no descriptors.
    if unsafe { libc::unshare(what) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Moves this process into the mount namespace that `file` stands for (`/proc/PID/ns/mnt`, or a descriptor of it); its working
/// directory becomes the root there. Where it is there already, nothing changes. Call it before any thread is started.
///
/// # Errors
/// `EPERM` without the right, `EINVAL` for other files.
pub fn enter_mount_namespace(file: &Path) -> io::Result<()> {
    let namespace = fs::File::open(file)?;
    let (asked, own) = (namespace.metadata()?, fs::metadata("/proc/self/ns/mnt")?);
    if (asked.dev(), asked.ino()) == (own.dev(), own.ino()) {
        return Ok(());
    }
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?)
}

/// True in the first user namespace, whose uid map is the identity (user_namespaces(7)). Also true where /proc is missing.
#[must_use]
pub fn in_initial_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").map_or(true, |map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}
