//! One step of a history: an operation on both unions, or something that is done with them.

use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FileType, OFlags, XattrFlags};

use crate::history::op::Op;
use crate::history::target::Replace;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever runs the test: root, also of a user namespace.
    Itself,
    /// An ordinary user who owns a part of the lower.
    Other,
}

/// User and group of [`Actor::Other`].
pub const OTHER: u32 = 1000;
/// A further group of [`Actor::Other`].
pub const TEAM: u32 = 2000;

/// What is done. Paths are relative to the root of the union.
#[derive(Clone, Debug)]
pub enum Action {
    /// An operation of the model.
    Model(Op),
    /// open(2) with these flags and mode, then close(2).
    Open(PathBuf, OFlags, u32),
    /// A write with `O_APPEND`.
    Append(PathBuf, Vec<u8>),
    /// pread(2): offset and length.
    Read(PathBuf, u64, usize),
    /// One byte stored through a shared mapping, wherever the number falls in the file.
    MapWrite(PathBuf, usize, u8),
    /// fallocate(2): mode, offset, length.
    Allocate(PathBuf, FallocateFlags, u64, u64),
    /// copy_file_range(2): offsets and length.
    CopyRange(PathBuf, PathBuf, (u64, u64, usize)),
    /// mkdir(2) with a mode.
    Mkdir(PathBuf, u32),
    /// mknod(2) of a type, mode and device number.
    Mknod(PathBuf, FileType, u32, u64),
    /// lchown(2).
    Chown(PathBuf, Option<u32>, Option<u32>),
    /// utimensat(2) without times.
    Touch(PathBuf),
    /// faccessat(2) by effective ids, with the bits of access(2).
    Access(PathBuf, u32),
    /// lsetxattr(2); ACLs are attributes too.
    SetXattr(PathBuf, &'static str, Vec<u8>, XattrFlags),
    /// lremovexattr(2).
    RemoveXattr(PathBuf, &'static str),
    /// lgetxattr(2).
    GetXattr(PathBuf, &'static str),
    /// renameat2(2) with `RENAME_WHITEOUT`.
    RenameWhiteout(PathBuf, PathBuf),
    /// Both unions and both uppers are compared.
    Compare,
    /// Both are unmounted and mounted again, each by the same driver.
    Remount,
    /// Both are unmounted and mounted again, each by the other driver.
    HandOver,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    pub actor: Actor,
    pub action: Action,
}

/// What a step does to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Takes the name away, or puts something else there.
    Removes,
    /// Opens it for its content.
    Opens,
    /// Changes it otherwise, gives it another name, or looks at its attributes.
    Changes,
}

impl Action {
    /// The names that must be there before, and what becomes of them.
    pub fn uses(&self) -> Vec<(&Path, Use)> {
        match self {
            Self::Model(op) => uses_of_op(op),
            Self::Open(path, ..)
            | Self::Append(path, ..)
            | Self::Read(path, ..)
            | Self::MapWrite(path, ..)
            | Self::Allocate(path, ..) => vec![(path, Use::Opens)],
            Self::CopyRange(from, to, _) => vec![(from, Use::Opens), (to, Use::Opens)],
            Self::Chown(path, ..)
            | Self::Touch(path)
            | Self::SetXattr(path, ..)
            | Self::RemoveXattr(path, _)
            | Self::GetXattr(path, _) => vec![(path, Use::Changes)],
            Self::RenameWhiteout(from, to) => vec![(from, Use::Changes), (to, Use::Removes)],
            Self::Mkdir(..) | Self::Mknod(..) | Self::Access(..) | Self::Compare | Self::Remount | Self::HandOver => Vec::new(),
        }
    }
}

fn uses_of_op(op: &Op) -> Vec<(&Path, Use)> {
    match op {
        Op::Unlink(path) => vec![(path, Use::Removes)],
        Op::Rename(from, to, Replace::Exchange) => vec![(from, Use::Changes), (to, Use::Changes)],
        Op::Rename(from, to, _) => vec![(from, Use::Changes), (to, Use::Removes)],
        Op::Write(path, ..) | Op::Truncate(path, _) | Op::Open(_, path) => vec![(path, Use::Opens)],
        Op::Link(path, _) | Op::Chmod(path, _) | Op::SetMtime(path, _) => vec![(path, Use::Changes)],
        Op::SetXattr(path, ..) | Op::RemoveXattr(path, _) => vec![(path, Use::Changes)],
        Op::Create(_) | Op::Mkdir(_) | Op::Rmdir(_) | Op::Symlink(..) | Op::ReadOpen(_) | Op::Remount => Vec::new(),
    }
}

/// Longest text of one step that is worth reading.
const WORTH_READING: usize = 220;

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:?}", self.action);
        let shown: String = text.chars().take(WORTH_READING).collect();
        let more = if shown.len() < text.len() { "..." } else { "" };
        let who = if self.actor == Actor::Other { " by the other user" } else { "" };
        write!(f, "{shown}{more}{who}")
    }
}
