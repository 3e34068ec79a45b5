//! Between fuser's words and ours.

use std::ffi::OsString;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, Generation, INodeNo, RenameFlags, Request, TimeOrNow};

use crate::error::{Errno, Error};
use crate::sys::dir::Rename;
use crate::sys::spot::SetTime;
use crate::types::{Attr, Caller, Kind, Time};
use crate::union::NodeId;

/// How long the kernel may believe an answer: nobody but this daemon changes the tree, so practically for ever.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Nodes' numbers are not used twice while the kernel knows them.
pub(super) const GENERATION: Generation = Generation(0);

/// What system calls may answer (include/linux/err.h and errno.h keep the rest to the kernel).
const ERRNOS: Range<i32> = 1..512;

pub(super) fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() }
}

pub(super) const fn node(ino: INodeNo) -> NodeId {
    NodeId(ino.0)
}

pub(super) const fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.to_system(),
        mtime: attr.mtime.to_system(),
        ctime: attr.ctime.to_system(),
        crtime: UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: (attr.perm & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_dev(attr.rdev),
        blksize: attr.blksize,
        flags: 0,
    }
}

/// Attributes of nothing: node 0 in an entry means that the name is absent.
pub(super) const fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// The kinds of rename that a union has; `None` for other flags (a whiteout is the union's own business).
pub(super) fn rename(flags: RenameFlags) -> Option<Rename> {
    match flags {
        f if f.is_empty() => Some(Rename::Replace),
        RenameFlags::RENAME_NOREPLACE => Some(Rename::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Some(Rename::Exchange),
        _ => None,
    }
}

/// Names as listxattr(2) gives them: each with a NUL behind it.
pub(super) fn name_list(names: &[OsString]) -> Vec<u8> {
    let mut list = Vec::new();
    for name in names {
        list.extend_from_slice(name.as_encoded_bytes());
        list.push(0);
    }
    list
}

/// The kernel's `new_encode_dev` (include/linux/kdev_t.h), which FUSE speaks: 12 bits of major, 20 of minor.
pub(super) fn encode_dev(dev: u64) -> u32 {
    let (major, minor) = (libc::major(dev), libc::minor(dev));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// And back, to what mknod(2) takes.
pub(super) fn decode_dev(dev: u32) -> u64 {
    libc::makedev((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

/// fuser mirrors times before the epoch: it gives the nanoseconds as if they counted backwards, so they are taken as they come.
pub(super) fn set_time(time: Option<TimeOrNow>) -> SetTime {
    match time {
        None => SetTime::Keep,
        Some(TimeOrNow::Now) => SetTime::Now,
        Some(TimeOrNow::SpecificTime(at)) => SetTime::At(from_system(at)),
    }
}

fn from_system(at: SystemTime) -> Time {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => Time { secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let secs = i64::try_from(before.as_secs()).unwrap_or(i64::MAX).wrapping_neg();
            Time { secs, nanos: before.subsec_nanos() }
        }
    }
}

/// The answer to a failed request; what its asker could not know of is told to whoever runs the daemon.
pub(super) fn errno(doing: &'static str, e: &Error) -> fuser::Errno {
    if e.is_surprise() {
        tracing::warn!("{doing}: {e}");
    }
    wire(told(e.errno()))
}

/// What a layer lacks is no lack of the union's: the kernel would not ask again, and take what it does not ask for as done.
fn told(errno: Errno) -> Errno {
    if errno == Errno::ENOSYS { Errno::EOPNOTSUPP } else { errno }
}

/// What is no errno of programs' the kernel does not take for an answer (fs/fuse/dev.c, `fuse_dev_do_write`), and whoever has asked would
/// wait for ever: file systems have others among themselves.
pub(super) fn wire(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(if ERRNOS.contains(&errno.0) { errno.0 } else { libc::EIO })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_every_answer() {
        // EBADCOOKIE of NFS (include/linux/errno.h).
        for (errno, answered) in
            [(libc::ENOENT, libc::ENOENT), (511, 511), (512, libc::EIO), (523, libc::EIO), (0, libc::EIO), (-5, libc::EIO)]
        {
            assert_eq!(wire(Errno(errno)).code(), answered, "{errno}");
        }
        assert_eq!(errno("fsync", &Errno::ENOSYS.into()).code(), libc::EOPNOTSUPP);
    }

    #[test]
    fn device_numbers_survive_the_wire() {
        for (major, minor) in [(0, 0), (1, 3), (8, 0), (259, 65_536), (4095, 1_048_575)] {
            let dev = libc::makedev(major, minor);
            assert_eq!(decode_dev(encode_dev(dev)), dev, "{major}:{minor}");
        }
    }

    #[test]
    fn times_as_fuser_gives_them() {
        assert_eq!(from_system(UNIX_EPOCH + Duration::new(5, 7)), Time { secs: 5, nanos: 7 });
        // What the kernel sent as -2 s + 800 ms arrives as the epoch minus (2 s + 800 ms).
        assert_eq!(from_system(UNIX_EPOCH - Duration::new(2, 800_000_000)), Time { secs: -2, nanos: 800_000_000 });
    }
}
