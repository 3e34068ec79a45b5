//! The differences that SEMANTICS.md lists, and nothing else: steps that would only show one of them are not taken, and answers
//! that differ as listed count as the same.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use haosfs::error::Errno;
use rustix::fs::{OFlags, lgetxattr};

use super::generate::{ACCESS, DEFAULT};
use super::landscape::Landscape;
use super::layers::LINKED;
use super::step::{Action, Actor, OTHER, Step, Use};
use crate::history::op::Op;
use crate::history::target::{Answer, Replace};
use crate::tree::snapshot::{Seen, Snapshot};

/// Attributes of the format in an upper that are not compared. None of them says what is visible with the options that are off by
/// default: haosfs has more directories marked `impure`, as listed, gives no upper a `uuid`, and with an index `nlink` counts from the
/// links that the upper happens to have.
pub const NOT_COMPARED: [&str; 3] = ["impure", "uuid", "nlink"];

/// The two unions as one side of the comparison: the merged tree and the upper of the one that the kernel drives.
pub struct Kernels<'a> {
    pub root: PathBuf,
    pub upper: PathBuf,
    /// A squashfs image has none.
    pub lowers_have_acls: bool,
    /// Hard links of a lower stay one file in both.
    pub indexed: bool,
    /// Inodes of the upper that were given another name since the mount.
    pub linked: &'a HashSet<u64>,
}

impl Kernels<'_> {
    /// True for a step that is not to be taken: it would meet a listed difference, or wait for ever.
    pub fn would_differ(&self, step: &Step) -> bool {
        let would = |(path, usage)| self.is_special(path, usage) || !self.indexed && self.is_linked_below(path, usage);
        step.action.uses().into_iter().any(would)
            || self.sets_acl_below(&step.action)
            || self.opens_without_change(&step.action)
            || self.fails_after_marking(&step.action)
            || self.copies_from_below(&step.action)
            || self.takes_rights_of_capable(&step.action)
            || self.asks_by_stale_owner(step)
            || self.asks_by_stale_mode(&step.action)
            || self.copies_by_stale_size(&step.action)
            || self.renames_to_itself(&step.action)
            || self.changes_nobody(step)
    }

    /// "chown(2) without owners by somebody else".
    fn changes_nobody(&self, step: &Step) -> bool {
        let Action::Chown(path, None, None) = &step.action else { return false };
        step.actor == Actor::Other && fs::symlink_metadata(self.root.join(path)).is_ok_and(|meta| meta.uid() != OTHER)
    }

    /// "Hard links of a file that was copied up": rename(2) of one to another does nothing, which the kernel's does not see.
    fn renames_to_itself(&self, action: &Action) -> bool {
        let uses = action.uses();
        let [(from, _), (to, _)] = uses[..] else { return false };
        let inode = |path: &Path| fs::symlink_metadata(self.upper.join(path)).map(|meta| meta.ino()).ok();
        from != to && inode(from).is_some() && inode(from) == inode(to)
    }

    /// "Hard links of a file that was copied up": the kernel's has an inode for each of them until a remount, and what is changed
    /// by one name does not reach the checks of the other.
    fn asks_by_stale_owner(&self, step: &Step) -> bool {
        let is_linked =
            |path: &Path| fs::symlink_metadata(self.root.join(path)).is_ok_and(|meta| !meta.is_dir() && meta.nlink() > 1);
        let is_stale = |path: &Path| is_linked(path) || self.has_several_inodes(path, |_| true);
        step.actor == Actor::Other && step.action.uses().into_iter().any(|(path, _)| is_stale(path))
    }

    /// The same, for root too: whether set-id bits go is asked of the inode of the name that is used, and that may have the mode from
    /// before a change by another. (chown(2) takes set-user-ID unasked, and a write asks the one inode of the upper as well.) So is
    /// access(2), which tells root, too, whether anybody may execute a file.
    fn asks_by_stale_mode(&self, action: &Action) -> bool {
        let (path, bits) = match action {
            Action::Access(path, _) => return self.has_several_inodes(path, |_| true),
            Action::Chown(path, ..) => (path, libc::S_ISGID),
            Action::Model(Op::Truncate(path, _)) => (path, libc::S_ISUID | libc::S_ISGID),
            Action::Open(path, flags, _) if flags.contains(OFlags::TRUNC) => (path, libc::S_ISUID | libc::S_ISGID),
            _ => return false,
        };
        self.has_several_inodes(path, |meta| meta.mode() & bits != 0)
    }

    /// The same of copy_file_range(2), which ends where the inode of the name that is used says that the file ends.
    fn copies_by_stale_size(&self, action: &Action) -> bool {
        matches!(action, Action::CopyRange(from, ..) if self.has_several_inodes(from, |_| true))
    }

    /// True where the kernel's may have several inodes for a file with these attributes, or had them: the one that is left may still
    /// be stale.
    fn has_several_inodes(&self, path: &Path, also: impl Fn(&fs::Metadata) -> bool) -> bool {
        let is_linked = |meta: &fs::Metadata| meta.nlink() > 1 || self.linked.contains(&meta.ino());
        let has = |meta: fs::Metadata| !meta.is_dir() && is_linked(&meta) && also(&meta);
        !self.indexed && fs::symlink_metadata(self.upper.join(path)).is_ok_and(has)
    }

    /// "Set-id bits of a file that has capabilities, too": FUSE asks for root's write what it asks for chown(2) without owners.
    /// "Writes through a mapping take capabilities" and, in a user namespace, set-id bits: they reach the upper as any other write.
    fn takes_rights_of_capable(&self, action: &Action) -> bool {
        action.uses().into_iter().any(|(path, usage)| {
            let full = self.root.join(path);
            let has_set_id = fs::symlink_metadata(&full).is_ok_and(|meta| meta.mode() & (libc::S_ISUID | libc::S_ISGID) != 0);
            let is_mapped = matches!(action, Action::MapWrite(..));
            let is_capable = lgetxattr(&full, "security.capability", [0; 64].as_mut_slice()).is_ok();
            usage == Use::Opens && (has_set_id && (is_capable || is_mapped) || is_mapped && is_capable)
        })
    }

    /// The kernel's marks a directory opaque before the upper's file system refuses to put it in the place of one that is not
    /// empty; the mark stays, and changes nothing that shows.
    fn fails_after_marking(&self, action: &Action) -> bool {
        let Action::Model(Op::Rename(from, to, Replace::Yes)) = action else { return false };
        let filled = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        self.root.join(from).is_dir() && filled(&self.root.join(to)) && filled(&self.upper.join(to))
    }

    /// "Opening a lower file for writing does not copy it up; the first change does": where no change follows, only the kernel's
    /// copies.
    fn opens_without_change(&self, action: &Action) -> bool {
        let size = |path: &Path| match fs::symlink_metadata(self.root.join(path)) {
            Ok(meta) if meta.is_file() => meta.len(),
            _ => 0,
        };
        match action {
            Action::Open(path, flags, _) => {
                flags.intersects(OFlags::RDWR | OFlags::WRONLY) && !flags.contains(OFlags::TRUNC) && self.lacks_data(path)
            }
            Action::MapWrite(path, ..) => size(path) == 0 && self.lacks_data(path),
            Action::CopyRange(from, to, (offset, ..)) => size(from) <= *offset && self.lacks_data(to),
            _ => false,
        }
    }

    /// "copy_file_range(2) out of a lower": the kernel's answers `EXDEV`, for its two files are on two file systems.
    fn copies_from_below(&self, action: &Action) -> bool {
        matches!(action, Action::CopyRange(from, ..) if self.lacks_data(from))
    }

    /// Opening a pipe waits for its other end, and device nodes lead to the machine's devices.
    fn is_special(&self, path: &Path, usage: Use) -> bool {
        let Ok(meta) = fs::symlink_metadata(self.root.join(path)) else { return false };
        usage == Use::Opens && !(meta.is_file() || meta.is_dir() || meta.is_symlink())
    }

    /// There, but not in the upper.
    fn is_below(&self, path: &Path) -> bool {
        let there = |root: &Path| fs::symlink_metadata(root.join(path)).is_ok();
        there(&self.root) && !there(&self.upper)
    }

    /// Not in the upper, or only by its attributes.
    fn lacks_data(&self, path: &Path) -> bool {
        let mark = |name: &str| lgetxattr(self.upper.join(path), name, [0; 64].as_mut_slice()).is_ok();
        self.is_below(path) || mark("trusted.overlay.metacopy")
    }

    /// "Hard links of a lower stay one file while mounted": as long as more than one of the names is there, a copy-up would show
    /// it. The last one left behaves as any file; removing is the same for all.
    fn is_linked_below(&self, path: &Path, usage: Use) -> bool {
        let full = self.root.join(path);
        let Ok(meta) = fs::symlink_metadata(&full) else { return false };
        if usage == Use::Removes || meta.is_dir() || meta.nlink() < 2 || !self.is_below(path) {
            return false;
        }
        let Ok(landscape) = Landscape::of(&self.root) else { return false };
        let same = |name: &&Path| {
            let other = fs::symlink_metadata(self.root.join(name));
            other.is_ok_and(|other| (other.dev(), other.ino()) == (meta.dev(), meta.ino()))
        };
        landscape.names(None).into_iter().filter(same).count() > 1
    }

    /// "ACLs of what only an image has": the kernel's asks the lower's file system, and squashfs has none.
    fn sets_acl_below(&self, action: &Action) -> bool {
        match action {
            Action::SetXattr(path, ACCESS | DEFAULT, ..) | Action::RemoveXattr(path, ACCESS | DEFAULT) => {
                !self.lowers_have_acls && self.is_below(path)
            }
            _ => false,
        }
    }
}

/// True where the kernel's answer and ours may stand side by side.
pub fn same_answer(step: &Step, kernel: &Answer<Vec<u8>>, ours: &Answer<Vec<u8>>) -> bool {
    match (kernel, ours) {
        (Ok(kernel), Ok(ours)) => kernel == ours,
        // rename(2) and rmdir(2) allow both.
        (Err(Errno::ENOTEMPTY | Errno::EEXIST), Err(Errno::ENOTEMPTY)) => true,
        // "`trusted.` and `security.` attributes without the right to them": FUSE looks for the attribute first.
        (Err(Errno::EPERM), Err(Errno::ENODATA)) => matches!(step.action, Action::RemoveXattr(..) | Action::SetXattr(..)),
        (Err(kernel), Err(ours)) => kernel == ours,
        _ => false,
    }
}

/// Times from here on are those of the run itself, in seconds since 1970; histories set earlier ones only.
const RUN: i64 = 1_600_000_000;

/// "With `metacopy=on` a file's data are copied up before it is renamed or linked": so one upper may have the data of a file where
/// the other has the mark that leads to a lower's. The kernel's leaves a file's redirect even when the data have come.
pub fn forgive_missing_data(kernel: &mut Seen, ours: &mut Seen, prefix: &str) {
    let [mark, way] = ["metacopy", "redirect"].map(|suffix| format!("{prefix}{suffix}").into_bytes());
    if kernel.mode & libc::S_IFMT != libc::S_IFREG {
        return;
    }
    if kernel.xattrs.contains_key(&mark) || ours.xattrs.contains_key(&mark) {
        ours.content = kernel.content;
    }
    for seen in [kernel, ours] {
        seen.xattrs.retain(|name, _| *name != mark && *name != way);
    }
}

/// Whether programs looked at the unions since they were mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    Empty,
    Used,
}

/// "a file that is changed may stand in the upper by another of its names": lower hard links, which are compared as the union shows
/// them, and the directories that were copied up for nothing else.
pub fn forgive_names(kernel: &mut Snapshot, ours: &mut Snapshot) {
    for upper in [&mut *kernel, &mut *ours] {
        upper.names.retain(|_, seen| !seen.xattrs.contains_key(LINKED.as_bytes()));
    }
    let forgive = |all: &mut Snapshot, other: &Snapshot| {
        let mut kept = Vec::new();
        for (name, seen) in all.names.iter().rev() {
            let inside = [name.as_slice(), b"/"].concat();
            let is_empty = !kept.iter().any(|other: &Vec<u8>| other.starts_with(&inside));
            if other.names.contains_key(name) || seen.mode & libc::S_IFMT != libc::S_IFDIR || !is_empty {
                kept.push(name.clone());
            }
        }
        all.names.retain(|name, _| kept.contains(name));
    };
    forgive(kernel, ours);
    forgive(ours, kernel);
}

/// Makes two names look the same in what need not agree.
pub fn forgive(kernel: &mut Seen, ours: &mut Seen, cache: Cache, indexed: bool) {
    // "The link count of a directory that was copied up only for something below it": FUSE's cached one stays.
    if cache == Cache::Used && kernel.mode & libc::S_IFMT == libc::S_IFDIR && kernel.nlink == 1 {
        ours.nlink = 1;
    }
    // The two act one after the other.
    if kernel.mtime.0 >= RUN && ours.mtime.0 >= RUN {
        ours.mtime = kernel.mtime;
    }
    // "Hard links of a lower stay one file": what has been copied up of them has a count of its own in the kernel's.
    if !indexed && [&*kernel, &*ours].iter().all(|seen| seen.xattrs.contains_key(LINKED.as_bytes())) {
        ours.nlink = kernel.nlink;
    }
}
