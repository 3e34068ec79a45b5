//! The kernel's side of a FUSE mount: the device, a superblock built detached (fsopen(2) and its family), or mount(2).

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Result;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::types::Atime;

/// Where the kernel offers FUSE.
pub const DEVICE: &str = "/dev/fuse";

/// The file system type as mountinfo shows it: `fuse` with our subtype.
pub const TYPE: &str = "fuse.haosfs";

/// Bytes that the kernel asks for at a time: one block of most images, so that what was decompressed is answered without a copy, and
/// the blocks of a larger range are decompressed beside each other.
pub const MAX_READ: u32 = 128 << 10;

/// Parameters of a FUSE superblock (Documentation/filesystems/fuse/fuse.rst) and of its mount (mount_setattr(2)).
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// Shown as the mount's source.
    pub source: &'a OsStr,
    /// Owner of the mount: who may use it without `allow_other`.
    pub uid: u32,
    /// Group of the owner.
    pub gid: u32,
    /// Users other than the owner may use it.
    pub allow_other: bool,
    /// The kernel checks permissions by mode and ACL.
    pub default_permissions: bool,
    /// Flags of the mount.
    pub attributes: Attributes,
}

/// Flags of a mount, by the names mount(8) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `ro`.
    pub read_only: bool,
    /// `nosuid`.
    pub nosuid: bool,
    /// `nodev`.
    pub nodev: bool,
    /// `noexec`.
    pub noexec: bool,
    /// `nosymfollow`; since Linux 5.10.
    pub nosymfollow: bool,
    /// `sync`: the FUSE client has fsync(2) follow each write(2); overlayfs makes nothing of it.
    pub sync: bool,
    /// `relatime`, `strictatime`, `noatime`.
    pub atime: Atime,
}

/// Bytes of a page of the kernel's caches.
#[must_use]
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Opens /dev/fuse.
///
/// # Errors
/// `ENOENT` or `ENODEV` without FUSE, `EACCES` without permission.
pub fn open_device() -> Result<OwnedFd> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Builds a FUSE superblock that is mounted nowhere yet. The kernel sends INIT to `device` at once.
///
/// # Errors
/// `ENOSYS` before Linux 5.2 (also from seccomp filters), `EPERM` without the right to mount, `EINVAL` for a source of 256 bytes or
/// more, and for `nosymfollow` before Linux 5.14.
pub fn build_detached(device: &OwnedFd, parameters: &Parameters<'_>) -> Result<OwnedFd> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let fs = context.as_fd();
    fsconfig_set_string(fs, "source", parameters.source)?;
    fsconfig_set_string(fs, "subtype", "haosfs")?;
    fsconfig_set_string(fs, "fd", device.as_raw_fd().to_string())?;
    fsconfig_set_string(fs, "rootmode", "40000")?;
    fsconfig_set_string(fs, "max_read", MAX_READ.to_string())?;
    fsconfig_set_string(fs, "user_id", parameters.uid.to_string())?;
    fsconfig_set_string(fs, "group_id", parameters.gid.to_string())?;
    for (wanted, flag) in [
        (parameters.allow_other, "allow_other"),
        (parameters.default_permissions, "default_permissions"),
        (parameters.attributes.read_only, "ro"),
        (parameters.attributes.sync, "sync"),
    ] {
        if wanted {
            fsconfig_set_flag(fs, flag)?;
        }
    }
    fsconfig_create(fs)?;
    fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, parameters.attributes.mount_attr())
}

/// Places a detached mount.
///
/// # Errors
/// What move_mount(2) answers.
pub fn attach(detached: &OwnedFd, mountpoint: &Path) -> Result<()> {
    move_mount(detached, "", CWD, mountpoint, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Mounts in one step by mount(2), for kernels and sandboxes without fsopen(2).
///
/// # Errors
/// What mount(2) answers.
pub fn mount_at(device: &OwnedFd, parameters: &Parameters<'_>, mountpoint: &Path) -> Result<()> {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},max_read={MAX_READ}",
        device.as_raw_fd(),
        parameters.uid,
        parameters.gid
    );
    if parameters.allow_other {
        data.push_str(",allow_other");
    }
    if parameters.default_permissions {
        data.push_str(",default_permissions");
    }
    let data = std::ffi::CString::new(data).map_err(|_| rustix::io::Errno::INVAL)?;
    rustix::mount::mount(parameters.source, mountpoint, TYPE, parameters.attributes.mount_flags(), data.as_c_str())
}

/// Takes the topmost mount away from `mountpoint`; `lazy` does so even while it is in use.
///
/// # Errors
/// `EBUSY` while in use, `EPERM` without the right to mount, `EINVAL` where nothing is mounted.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(mountpoint, flags | UnmountFlags::NOFOLLOW)
}

/// Breaks the connection to the daemon, which need not answer any more, then unmounts (umount2(2), `MNT_FORCE`).
///
/// # Errors
/// As for [`unmount`]; the connection is broken all the same.
pub fn unmount_forced(mountpoint: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(mountpoint, flags | UnmountFlags::FORCE | UnmountFlags::NOFOLLOW)
}

/// Makes the superblock and its mount at `mountpoint` read-only, or writable again; the mount's other flags must be given, or
/// they are lost (mount(2), `MS_REMOUNT`).
///
/// # Errors
/// `EBUSY` while files are open for writing, `EPERM` without the right to mount.
pub fn remount(mountpoint: &Path, attributes: Attributes) -> Result<()> {
    rustix::mount::mount_remount(mountpoint, attributes.mount_flags(), c"")
}

/// The flags of the mount at `mountpoint`, as statfs(2) tells them.
///
/// # Errors
/// What statvfs(3) answers, `ENOTCONN` where the daemon is gone.
pub fn attributes_of(mountpoint: &Path) -> Result<Attributes> {
    let flags = rustix::fs::statvfs(mountpoint)?.f_flag;
    let has = |flag| flags.contains(flag);
    let has_bit = |bit| flags.bits() & bit != 0;
    let atime = match (has(StatVfsMountFlags::NOATIME), has_bit(RELATIME)) {
        (true, _) => Atime::Never,
        (false, true) => Atime::Relative,
        (false, false) => Atime::Strict,
    };
    Ok(Attributes {
        read_only: has(StatVfsMountFlags::RDONLY),
        nosuid: has(StatVfsMountFlags::NOSUID),
        nodev: has(StatVfsMountFlags::NODEV),
        noexec: has(StatVfsMountFlags::NOEXEC),
        nosymfollow: has_bit(NOSYMFOLLOW),
        sync: has(StatVfsMountFlags::SYNCHRONOUS),
        atime,
    })
}

/// `ST_RELATIME` (`<linux/statfs.h>`).
const RELATIME: u64 = 0x1000;
/// `ST_NOSYMFOLLOW`.
const NOSYMFOLLOW: u64 = 0x2000;

/// True when this process has CAP_SYS_ADMIN in its user namespace.
#[must_use]
pub fn may_administer() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

impl Attributes {
    pub(super) fn mount_attr(self) -> MountAttrFlags {
        let mut flags = MountAttrFlags::empty();
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, self.nosuid);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.nodev);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.noexec);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, self.nosymfollow);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOATIME, self.atime == Atime::Never);
        flags.set(MountAttrFlags::MOUNT_ATTR_STRICTATIME, self.atime == Atime::Strict);
        flags
    }

    pub(super) fn mount_flags(self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, self.nosuid);
        flags.set(MountFlags::NODEV, self.nodev);
        flags.set(MountFlags::NOEXEC, self.noexec);
        flags.set(MountFlags::NOSYMFOLLOW, self.nosymfollow);
        flags.set(MountFlags::SYNCHRONOUS, self.sync);
        flags.set(MountFlags::NOATIME, self.atime == Atime::Never);
        flags.set(MountFlags::STRICTATIME, self.atime == Atime::Strict);
        flags
    }

    /// The flags by name, as fusermount3(1) takes them: it knows no `strictatime`.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        [
            (self.read_only, "ro"),
            (self.nosuid, "nosuid"),
            (self.nodev, "nodev"),
            (self.noexec, "noexec"),
            (self.nosymfollow, "nosymfollow"),
            (self.sync, "sync"),
            (self.atime == Atime::Never, "noatime"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect()
    }
}

/// Lets the kernel read ahead as far as it is told, of the superblock with this device number (`MAJOR:MINOR`), in KiB. Only root may.
///
/// # Errors
/// Those of opening and writing a file below /sys/class/bdi (Documentation/ABI/testing/sysfs-class-bdi).
pub fn set_read_ahead(device: &str, kib: u32) -> std::io::Result<()> {
    std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), kib.to_string())
}
