//! Steps as system calls.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use haosfs::error::Errno;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, RenameFlags, Timespec, Timestamps, UTIME_NOW, Uid, accessat, chownat,
    copy_file_range, fallocate, lgetxattr, lremovexattr, lsetxattr, mkdirat, mknodat, open, renameat_with, utimensat,
};

use super::step::{Action, Actor, OTHER, Step, TEAM};
use crate::history::on_path::OnPath;
use crate::history::target::Answer;
use crate::mounted::user::as_user;
use crate::raw::map_shared;

/// Does it below `root`; what it reads is the answer, else nothing.
pub fn act(root: &Path, step: &Step) -> Answer<Vec<u8>> {
    match step.actor {
        Actor::Itself => act_here(root, &step.action),
        Actor::Other => as_user(OTHER, OTHER, &[TEAM], || act_here(root, &step.action)),
    }
}

fn done<T, E: Into<std::io::Error>>(answer: Result<T, E>) -> Answer<Vec<u8>> {
    answer.map(|_| Vec::new()).map_err(|e| Errno::from(e.into()))
}

fn act_here(root: &Path, action: &Action) -> Answer<Vec<u8>> {
    let at = |path: &Path| root.join(path);
    match action {
        Action::Model(op) => op.apply(&mut OnPath::bare(root)),
        Action::Open(path, flags, mode) => done(open(at(path), *flags, Mode::from_raw_mode(*mode))),
        Action::Append(path, bytes) => {
            done(OpenOptions::new().append(true).open(at(path)).and_then(|mut file| file.write_all(bytes)))
        }
        Action::Read(path, offset, len) => read(&at(path), *offset, *len),
        Action::MapWrite(path, offset, byte) => map_write(&at(path), *offset, *byte),
        Action::Allocate(path, mode, offset, len) => {
            let file = OpenOptions::new().write(true).open(at(path)).map_err(Errno::from)?;
            done(fallocate(&file, *mode, *offset, *len))
        }
        Action::CopyRange(from, to, range) => copy_range(&at(from), &at(to), *range),
        Action::Mkdir(path, mode) => done(mkdirat(CWD, at(path), Mode::from_raw_mode(*mode))),
        Action::Mknod(path, kind, mode, device) => done(mknodat(CWD, at(path), *kind, Mode::from_raw_mode(*mode), *device)),
        Action::Chown(path, uid, gid) => {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            done(chownat(CWD, at(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW))
        }
        Action::Touch(path) => {
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            done(utimensat(CWD, at(path), &Timestamps { last_access: now, last_modification: now }, AtFlags::SYMLINK_NOFOLLOW))
        }
        Action::Access(path, bits) => done(accessat(CWD, at(path), Access::from_bits_retain(*bits), AtFlags::EACCESS)),
        Action::SetXattr(path, name, value, flags) => done(lsetxattr(at(path), *name, value, *flags)),
        Action::RemoveXattr(path, name) => done(lremovexattr(at(path), *name)),
        Action::GetXattr(path, name) => {
            let mut value = vec![0; 65_536];
            let len = lgetxattr(at(path), *name, value.as_mut_slice()).map_err(|e| Errno(e.raw_os_error()))?;
            value.truncate(len);
            Ok(value)
        }
        Action::RenameWhiteout(from, to) => done(renameat_with(CWD, at(from), CWD, at(to), RenameFlags::WHITEOUT)),
        Action::Compare | Action::Remount | Action::HandOver => Ok(Vec::new()),
    }
}

fn read(path: &Path, offset: u64, len: usize) -> Answer<Vec<u8>> {
    let file = File::open(path).map_err(Errno::from)?;
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(Errno::from)? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn map_write(path: &Path, offset: usize, byte: u8) -> Answer<Vec<u8>> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(Errno::from)?;
    let len = file.metadata().map_err(Errno::from)?.len() as usize;
    if len == 0 {
        return Ok(Vec::new());
    }
    let mut map = map_shared(&file);
    map[offset % len] = byte;
    // Dirty pages of FUSE reach the upper only now, and the time of their writing is the file's.
    done(map.flush())
}

fn copy_range(from: &Path, to: &Path, (from_offset, to_offset, len): (u64, u64, usize)) -> Answer<Vec<u8>> {
    let source = File::open(from).map_err(Errno::from)?;
    let target = OpenOptions::new().write(true).open(to).map_err(Errno::from)?;
    let (mut from_offset, mut to_offset) = (from_offset, to_offset);
    done(copy_file_range(&source, Some(&mut from_offset), &target, Some(&mut to_offset), len))
}

/// Types that mknod(2) makes in histories, with a device number that leads to no device of the machine.
pub const NODES: [(FileType, u64); 4] = [
    (FileType::Fifo, 0),
    (FileType::Socket, 0),
    (FileType::CharacterDevice, libc::makedev(1, 3)),
    (FileType::BlockDevice, libc::makedev(511, 70_000)),
];
