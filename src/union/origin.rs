//! Where copied-up objects come from: `origin` on each of them, `impure` on the directories that they are in.
//!
//! Written as the kernel's overlayfs writes them (copy_up.c, `ovl_set_origin_fh`; dir.c; namei.c, `ovl_fix_origin`). Read back
//! for nothing but inode numbers: a file that was copied up keeps its lower's over a remount. What is visible, and which bytes,
//! never depends on them.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lookup::Found;
use super::lower::{FileSystem, Lower};
use super::node::{Key, LowerAt, Node};
use super::{Options, Union, Upper, UuidMode, ino};
use crate::error::{Errno, Error, Result};
use crate::ovl::handle::{self, Decoded, Handle, Uuid};
use crate::ovl::xattr::{Namespace, Private};
use crate::sys::spot::Spot;
use crate::types::{Attr, Kind};

/// What the layers' inodes are known by.
#[derive(Debug)]
pub(super) struct Origins {
    /// Handles are recorded. The kernel records none where it could not find inodes by them (util.c, `ovl_can_decode_fh`).
    recorded: bool,
    /// They do not say which file system they are of.
    unsigned: bool,
    layers: Vec<Layer>,
}

/// Numbers from here on are not the file system's but the layer's ([`super::ways`]).
const OWN: u64 = 1 << 48;

#[derive(Debug)]
struct Layer {
    /// The first layer on the same file system: inode numbers are unique among them.
    first: usize,
    /// The UUID by which handles of this layer are told and followed; `None` where they are not.
    followed: Option<Uuid>,
}

impl Origins {
    /// Decides which layers' handles may be followed: where the upper belongs to its lowers also those of a file system without
    /// UUID.
    pub(super) fn new(lowers: &[Box<dyn Lower>], upper: Option<&Upper>, options: &Options) -> Self {
        let systems: Vec<Option<FileSystem>> = lowers.iter().map(|lower| lower.file_system()).collect();
        let (upper_dev, null_uuid) = (upper.map(Upper::dev), options.binds_to_lowers());
        let on_uppers = |fs: &Option<FileSystem>| fs.is_some_and(|fs| fs.dev.is_some() && fs.dev == upper_dev);
        let unsigned = options.uuid == UuidMode::Off && systems.iter().all(on_uppers);
        let uuid = |fs: FileSystem| if unsigned { Uuid::default() } else { fs.uuid };
        let layer = |(i, system): (usize, &Option<FileSystem>)| Layer {
            first: system.and_then(|fs| systems.iter().position(|other| is_one(other.as_ref(), &fs))).unwrap_or(i),
            followed: system.filter(|fs| may_follow(fs, &systems, upper_dev, null_uuid)).map(uuid),
        };
        let layers = systems.iter().enumerate().map(layer).collect();
        Self { recorded: crate::sys::handle::may_open(), unsigned, layers }
    }

    /// A handle as it is stored.
    pub(super) fn sign(&self, handle: Handle) -> Handle {
        if self.unsigned { Handle { uuid: Uuid::default(), ..handle } } else { handle }
    }

    /// True where handles are recorded and every layer's may be followed.
    pub(super) fn all_followed(&self) -> bool {
        self.recorded && self.layers.iter().all(|layer| layer.followed.is_some())
    }

    /// The inode of a lower that a handle leads to, with the layer; `None` where it is not known for sure.
    ///
    /// # Errors
    /// Where the inode may be there, and cannot be asked for.
    pub(super) fn find(&self, lowers: &[Box<dyn Lower>], handle: &Handle) -> Result<Option<(usize, Attr)>> {
        let ours = |layer: &Layer| layer.followed == Some(handle.uuid);
        let Some((at, _)) = self.layers.iter().enumerate().find(|(_, layer)| ours(layer)) else { return Ok(None) };
        let Some(lower) = lowers.get(at) else { return Ok(None) };
        Ok(lower.by_handle(handle)?.map(|attr| (at, attr)))
    }
}

fn is_one(other: Option<&FileSystem>, fs: &FileSystem) -> bool {
    fs.dev.is_some() && other.is_some_and(|other| other.dev == fs.dev)
}

/// As super.c, `ovl_lower_uuid_ok`: a UUID that two file systems share tells neither, and one of zeros says nothing about a file
/// system that was made anew. The upper's own file system needs none of that.
fn may_follow(fs: &FileSystem, all: &[Option<FileSystem>], upper: Option<u64>, null_uuid: bool) -> bool {
    if fs.dev.is_some() && fs.dev == upper {
        return true;
    }
    let mut alike = all.iter().flatten().filter(|other| other.uuid == fs.uuid);
    let unique = if fs.dev.is_some() { alike.all(|other| other.dev == fs.dev) } else { alike.count() == 1 };
    unique && (null_uuid || fs.uuid != Uuid::default())
}

impl Union {
    /// The union's number for an inode of a lower.
    pub(super) fn lower_number(&self, layer: usize, number: u64) -> u64 {
        let shared = if number < OWN { self.origins.layers.get(layer).map(|layer| layer.first) } else { None };
        ino::of_lower(shared.unwrap_or(layer), number)
    }

    /// Records on a draft where it comes from.
    ///
    /// A lower hard link gets none without the index: its names become files of their own (copy_up.c, `ovl_do_copy_up`).
    pub(super) fn draft_origin(&self, spot: &Spot, lower: &dyn Lower, source: LowerAt, attr: &Attr) -> Result<()> {
        if !attr.kind.is_dir() && attr.nlink > 1 && self.index.is_none() {
            return Ok(());
        }
        let value = self.origin_of(lower, source)?;
        match spot.set_xattr(&self.private(Private::Origin), &value, 0) {
            // `user.` attributes are for regular files and directories alone.
            Ok(()) | Err(Errno::EPERM | Errno::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(Error::sys("record the origin in copy-up", "", e)),
        }
    }

    /// The value of `origin` for something that comes from a lower.
    fn origin_of(&self, lower: &dyn Lower, source: LowerAt) -> Result<Vec<u8>> {
        let handle = if self.origins.recorded { lower.handle(source.id)? } else { None };
        Ok(handle.and_then(|handle| self.origins.sign(handle).encode()).unwrap_or_default())
    }

    /// Marks a directory of the upper that something with an origin comes into.
    pub(super) fn mark_impure(&self, dir: &Spot) -> Result<(), Errno> {
        // Where it cannot be read the mark is set once more, and that answers.
        if self.is_impure(dir).unwrap_or(false) {
            return Ok(());
        }
        match dir.set_xattr(&self.private(Private::Impure), b"y", 0) {
            // As the kernel's: then nothing in it has an origin, either.
            Err(Errno::EOPNOTSUPP) => Ok(()),
            // Somebody else's directory: all that depends on the mark are the numbers that readdir(3) shows.
            Err(Errno::EPERM | Errno::EACCES) if self.namespace == Namespace::User => Ok(()),
            answer => answer,
        }
    }

    fn is_impure(&self, dir: &Spot) -> Result<bool, Errno> {
        Ok(dir.xattr(&self.private(Private::Impure))?.is_some_and(|value| value == b"y"))
    }

    /// Marks the directory `to` where `source`, which gets a name in it, has an origin (dir.c, `ovl_rename`, `ovl_create_or_link`).
    pub(super) fn mark_arrival(&self, source: &Spot, to: &Arc<OwnedFd>) -> Result<(), Errno> {
        let has_origin = match source.xattr(&self.private(Private::Origin)) {
            Ok(None) => self.lacks_origin(source)?,
            // A file that we may not read can have one.
            Ok(Some(_)) | Err(Errno::EACCES | Errno::EPERM) => true,
            Err(e) => return Err(e),
        };
        if has_origin { self.mark_impure(&Spot::Fd(Arc::clone(to))) } else { Ok(()) }
    }

    /// True for what was copied up under this mount and could not be given its origin.
    fn lacks_origin(&self, source: &Spot) -> Result<bool, Errno> {
        if self.namespace == Namespace::Trusted {
            return Ok(false);
        }
        let stat = source.stat()?;
        let takes_user_xattrs = matches!(stat.attr.kind, Kind::File | Kind::Dir);
        Ok(!takes_user_xattrs && self.born.contains_key(&(stat.dev, stat.attr.ino)))
    }

    /// The inode number of something that has no node yet. A directory that merges and does not say where it comes from is
    /// given its origin on this occasion.
    pub(super) fn first_number(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<u64> {
        let Some(stat) = &found.upper else { return Ok(self.ino_of(found)) };
        let spot = || self.dir_fd(parent).map(|dir| Spot::at(&dir, name));
        if let Some(top) = found.lowers.first().filter(|_| found.kind.is_dir()) {
            let answer = self.complete_origin(parent, &spot()?, *top);
            if let Err(e) = answer {
                tracing::debug!("{}: its origin stays unknown: {e}", name.display());
            }
        } else if !found.kind.is_dir()
            && found.lowers.is_empty()
            && !self.born.contains_key(&(stat.dev, stat.attr.ino))
            && let Some(number) = self.number_by_origin(&spot()?, found.kind)
        {
            return Ok(number);
        }
        Ok(self.ino_of(found))
    }

    /// As namei.c, `ovl_fix_origin`.
    fn complete_origin(&self, parent: &Arc<Node>, spot: &Spot, top: LowerAt) -> Result<()> {
        let name = self.private(Private::Origin);
        if spot.xattr(&name)?.is_some() {
            return Ok(());
        }
        let value = self.origin_of(self.lower(top)?, top)?;
        spot.set_xattr(&name, &value, 0)?;
        Ok(self.mark_impure(&Spot::Fd(self.dir_fd(parent)?))?)
    }

    /// The number that readdir(3) shows for an upper entry that does not merge: what stat(2) shows or would show.
    pub(super) fn listed_number(&self, spot: &Spot, kind: Kind, (dev, number): (u64, u64), impure: bool) -> u64 {
        if let Some(node) = self.table.find(Key::upper(dev, number)) {
            return self.table.number(&node);
        }
        let by_origin = impure && !kind.is_dir() && !self.born.contains_key(&(dev, number));
        let found = if by_origin { self.number_by_origin(spot, kind) } else { None };
        found.unwrap_or_else(|| self.ino_of_upper(dev, number))
    }

    /// The union's number of the lower inode that something in the upper was copied up from; `None` where that is not known for
    /// sure. Whatever is wrong with the attribute, the object is shown all the same.
    fn number_by_origin(&self, spot: &Spot, kind: Kind) -> Option<u64> {
        if self.origins.layers.iter().all(|layer| layer.followed.is_none()) {
            return None;
        }
        let value = spot.xattr(&self.private(Private::Origin)).ok()??;
        match handle::decode(&value) {
            Decoded::Handle(handle) if !handle.upper => self.follow(spot, &value, &handle, kind),
            Decoded::Handle(_) | Decoded::Invalid => {
                tracing::warn!("invalid origin: {value:02x?}");
                None
            }
            Decoded::Empty | Decoded::Unknown => None,
        }
    }

    /// Of a lower hard link only the index tells which upper file its names are: without it, each was copied up for itself.
    fn follow(&self, spot: &Spot, value: &[u8], handle: &Handle, kind: Kind) -> Option<u64> {
        let (at, attr) = self.origins.find(&self.lowers, handle).ok()??;
        let is_it = attr.kind == kind && (attr.nlink == 1 || self.is_in_index(spot, value));
        is_it.then(|| self.lower_number(at, attr.ino))
    }

    /// True where a look-up of a copied-up file will find its node's number by its origin, so that it need not be remembered.
    pub(super) fn is_found_again(&self, node: &Node, spot: &Spot) -> bool {
        !node.kind.is_dir() && self.number_by_origin(spot, node.kind) == Some(self.table.number(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: Uuid = [0; 16];
    const A: Uuid = [1; 16];
    const UPPER: u64 = 9;

    /// A layer, and whether it is followed: by default, and with `null_uuid`.
    type Case = (Option<FileSystem>, (bool, bool));

    #[test]
    fn who_may_be_followed() {
        let image = FileSystem { uuid: NULL, dev: None };
        let dir = |dev, uuid| FileSystem { uuid, dev: Some(dev) };
        let none = (false, false);
        let table: &[&[Case]] = &[
            &[(Some(image), (false, true))],
            &[(None, none)],
            &[(Some(image), none), (Some(image), none)],
            &[(Some(image), none), (Some(dir(1, NULL)), none)],
            &[(Some(image), (false, true)), (Some(dir(1, A)), (true, true)), (None, none)],
            &[(Some(dir(1, A)), (true, true)), (Some(dir(1, A)), (true, true))],
            &[(Some(dir(1, A)), none), (Some(dir(2, A)), none)],
            &[(Some(dir(UPPER, A)), (true, true)), (Some(dir(2, A)), none)],
            &[(Some(dir(UPPER, NULL)), (true, true))],
        ];
        for layers in table {
            let systems: Vec<_> = layers.iter().map(|(fs, _)| *fs).collect();
            for (fs, expected) in *layers {
                let followed = |null_uuid| fs.is_some_and(|fs| may_follow(&fs, &systems, Some(UPPER), null_uuid));
                assert_eq!((followed(false), followed(true)), *expected, "{fs:?} in {systems:?}");
            }
        }
    }
}
