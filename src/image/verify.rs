//! Reading everything once, up to the first damage.

use std::collections::HashSet;

use super::image::Image;
use super::inode::{Body, Inode, InodeRef};
use super::listing::Entry;
use super::table::Table;
use crate::error::{Error, Result};
use crate::types::Kind;

/// Blocks of a file whose sizes are read at once.
const AT_ONCE: u64 = 1024;

/// What a verified image holds; hard links count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Directories, with the root.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, pipes and sockets.
    pub special: u64,
    /// Bytes in regular files, with their holes.
    pub bytes: u64,
    /// Extended attributes.
    pub xattrs: u64,
    /// Fragments, used by a file or not.
    pub fragments: u64,
}

impl Totals {
    /// Inodes of all kinds.
    #[must_use]
    pub const fn inodes(&self) -> u64 {
        self.directories + self.files + self.symlinks + self.special
    }
}

impl Image {
    /// Reads the whole image: every inode and directory from the root on, all data, all attributes, all tables. `progress` is
    /// called with what was read so far, after each inode.
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify(&self, mut progress: impl FnMut(&Totals)) -> Result<Totals> {
        let mut totals = Totals::default();
        let mut seen = HashSet::from([self.root()]);
        let mut waiting = vec![self.root()];
        self.verify_inode(self.root(), &mut totals)?;
        while let Some(directory) = waiting.pop() {
            for (_, entry) in self.entries(directory)?.iter() {
                let inode = self.inode(entry.inode)?;
                self.agrees(&entry, &inode)?;
                if !seen.insert(entry.inode) {
                    match entry.kind {
                        Kind::Dir => return Err(self.inode_damage(entry.inode, "a directory is in two places")),
                        _ => continue,
                    }
                }
                if entry.kind.is_dir() {
                    waiting.push(entry.inode);
                }
                self.verify_inode(entry.inode, &mut totals)?;
                progress(&totals);
            }
        }
        self.verify_tables(&mut totals)?;
        Ok(totals)
    }

    fn inode_damage(&self, inode: InodeRef, why: impl Into<String>) -> Error {
        self.map.damage("inode", self.superblock.inode_table.saturating_add(inode.0 >> 16), why)
    }

    fn agrees(&self, entry: &Entry, inode: &Inode) -> Result<()> {
        if entry.kind == inode.kind() && entry.ino == u64::from(inode.ino) {
            return Ok(());
        }
        let (ino, kind) = (inode.ino, inode.kind());
        let why = format!("it is {kind:?} {ino}, but its directory has {:?} {}", entry.kind, entry.ino);
        Err(self.inode_damage(entry.inode, why))
    }

    fn verify_inode(&self, at: InodeRef, totals: &mut Totals) -> Result<()> {
        // Reads the ids of owner and group too.
        self.attr(at)?;
        match self.inode(at)?.body {
            Body::Directory(_) => totals.directories += 1,
            Body::File(file) => {
                self.verify_file(at)?;
                totals.files += 1;
                totals.bytes = totals.bytes.saturating_add(file.size);
            }
            Body::Symlink(_) => totals.symlinks += 1,
            Body::Device(..) | Body::Ipc(_) => totals.special += 1,
        }
        for name in self.xattrs(at)? {
            self.xattr(at, &name)?;
            totals.xattrs += 1;
        }
        Ok(())
    }

    fn verify_file(&self, at: InodeRef) -> Result<()> {
        let list = self.block_list(at)?;
        let layout = *list.layout();
        let step = AT_ONCE.saturating_mul(u64::from(layout.block_size));
        let mut offset = 0_u64;
        while offset < layout.size {
            for span in list.plan(&self.metadata, offset, step)? {
                self.data.verify(&self.metadata, &span)?;
            }
            offset = offset.saturating_add(step);
        }
        Ok(())
    }

    fn verify_tables(&self, totals: &mut Totals) -> Result<()> {
        for entry in 0..self.data.fragments() {
            // A superblock counts fragments in 32 bits.
            self.data.verify_fragment(&self.metadata, entry as u32)?;
            totals.fragments += 1;
        }
        for entry in 0..self.ids.len() {
            self.ids.entry(&self.metadata, entry)?;
        }
        for entry in 0..self.exports.as_ref().map_or(0, Table::len) {
            let Some(inode) = self.by_number(entry + 1)? else { break };
            let found = self.inode(inode)?.ino;
            if u64::from(found) != entry + 1 {
                return Err(self.inode_damage(inode, format!("it is {found}, but the export table has {}", entry + 1)));
            }
        }
        Ok(())
    }
}
