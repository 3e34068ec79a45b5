//! The index directory beside `work` (`index=on`): opened, tied to its upper and its lower, and swept at mount time (super.c,
//! `ovl_get_indexdir`; readdir.c, `ovl_indexdir_cleanup`).

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lower::Lower;
use super::origin::Origins;
use super::{IndexMode, Upper, work};
use crate::error::{Errno, Error, Result};
use crate::ovl::handle::{self, Decoded, Handle};
use crate::ovl::index::{Nlink, handle_of, is_unfinished, value_of};
use crate::ovl::xattr::Private;
use crate::ovl::{self};
use crate::sys;
use crate::sys::data::OFlags;
use crate::sys::dir;
use crate::sys::spot::{Spot, Stat, open_dir_at};
use crate::types::Kind;

/// An open index.
#[derive(Debug)]
pub(super) struct Index {
    dir: Arc<OwnedFd>,
}

impl Index {
    /// The directory.
    pub(super) const fn dir(&self) -> &Arc<OwnedFd> {
        &self.dir
    }

    /// The spot of an entry.
    pub(super) fn spot(&self, name: &OsStr) -> Spot {
        Spot::at(&self.dir, name)
    }

    /// What stands under a name, if anything.
    pub(super) fn stat(&self, name: &OsStr) -> Result<Option<Stat>> {
        match self.spot(name).stat() {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(Error::sys("look up in the index", name, e)),
        }
    }
}

/// Opens the index that an upper has or is to have, by `mode`.
///
/// # Errors
/// [`Error::Refused`] where there is one that this mount would not keep; where the index is of another lower or upper, or has
/// entries that cannot be; where a layer does not find its inodes by handles.
pub(super) fn open(upper: &Upper, lowers: &[Box<dyn Lower>], origins: &Origins, mode: IndexMode) -> Result<Option<Index>> {
    match mode {
        IndexMode::Off => Ok(None),
        IndexMode::Unsaid if has_files(upper)? => Err(refused(
            upper,
            "written with index=on, by which hard links of a lower stay one file: mount with -o index=on, or with -o index=off \
             to let them part",
        )),
        IndexMode::Unsaid => Ok(None),
        IndexMode::On => open_on(upper, lowers, origins).map(Some),
    }
}

fn refused(upper: &Upper, why: &str) -> Error {
    Error::Refused(format!("{}: {why}", upper.path().display()))
}

/// True where some file was copied up into an index. Directories and whiteouts, which `nfs_export=on` keeps there, say nothing
/// that is visible.
fn has_files(upper: &Upper) -> Result<bool> {
    let context = |e| Error::sys("read the index beside the work directory of", upper.path(), e);
    let dir = match open_dir_at(upper.around_work(), OsStr::new(ovl::INDEX)) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(false),
        Err(e) => return Err(context(e)),
    };
    let entries = match dir::read(&dir) {
        // The kernel makes it with mode 0, so an ordinary user's daemon meets none of his own.
        Err(Errno::EACCES) => return Ok(false),
        entries => entries.map_err(context)?,
    };
    let is_file = |entry: &dir::RawEntry| match entry.kind {
        _ if is_unfinished(&entry.name) => false,
        None | Some(Kind::Char) => Spot::at(&dir, &entry.name).stat().is_ok_and(|stat| !stat.is_whiteout()),
        Some(kind) => !kind.is_dir(),
    };
    Ok(entries.iter().any(is_file))
}

fn open_on(upper: &Upper, lowers: &[Box<dyn Lower>], origins: &Origins) -> Result<Index> {
    if !origins.all_followed() {
        return Err(Error::Refused(
            "option index=on: needs root, and lowers that find their inodes by handles and differ in their UUIDs: no two images, \
             none made with -no-exports, no directory on a file system without a UUID"
                .into(),
        ));
    }
    tie_to_lower(upper, lowers, origins)?;
    let dir = make(upper)?;
    tie_to_upper(upper, &dir, origins)?;
    let index = Index { dir };
    sweep(&index, upper, lowers, origins)?;
    Ok(index)
}

/// The root of the upper says whose inodes the index names: the topmost lower's.
fn tie_to_lower(upper: &Upper, lowers: &[Box<dyn Lower>], origins: &Origins) -> Result<()> {
    let Some(top) = lowers.first() else { return Ok(()) };
    let handle = top.handle(top.root())?.and_then(|handle| origins.sign(handle).encode()).unwrap_or_default();
    let why = "option index=on: the upper was written over another lower, or that was made anew: mount it over the lower that it \
               was written over, or with index=off";
    tie(upper, &Spot::Fd(Arc::clone(upper.root())), Private::Origin, &handle, why)
}

fn tie_to_upper(upper: &Upper, index: &Arc<OwnedFd>, origins: &Origins) -> Result<()> {
    let root = Spot::Fd(Arc::clone(upper.root()));
    let open = root.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| Error::sys("open", upper.path(), e))?;
    let lacks = |e: Errno| refused(upper, &format!("option index=on: its file system gives no handles or tells no UUID ({e})"));
    let (kind, fid) = sys::handle::of(&root).map_err(lacks)?;
    let uuid = sys::handle::uuid(&open).map_err(lacks)?;
    let kind = u8::try_from(kind).map_err(|_| lacks(Errno::EOVERFLOW))?;
    let handle = origins.sign(Handle { uuid, kind, fid, upper: true }).encode().unwrap_or_default();
    let why = "option index=on: the index beside its work directory is of another upper, or of a copy of it: remove the index \
               directory, or mount with index=off";
    tie(upper, &Spot::Fd(Arc::clone(index)), Private::Upper, &handle, why)
}

/// Checks a handle, or records it where there is none yet (namei.c, `ovl_verify_set_fh`).
fn tie(upper: &Upper, spot: &Spot, private: Private, handle: &[u8], why: &str) -> Result<()> {
    let context = |e| Error::sys("tie the index to the layers of", upper.path(), e);
    match upper.private(spot, private).map_err(context)? {
        Some(known) if matches!(handle::decode(&known), Decoded::Handle(_)) => {
            if known == handle {
                return Ok(());
            }
            Err(refused(upper, why))
        }
        _ => upper.set_private(spot, private, handle).map_err(context),
    }
}

fn make(upper: &Upper) -> Result<Arc<OwnedFd>> {
    let context = |e| Error::sys("create the index beside the work directory of", upper.path(), e);
    let name = OsStr::new(ovl::INDEX);
    match dir::mkdir(upper.around_work(), name, 0) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(context(e)),
    }
    open_dir_at(upper.around_work(), name).map_err(context)
}

/// What an entry is good for.
enum Worth {
    Kept,
    /// Unfinished, of a file that has gone from the union, or of an inode that has gone from the lower.
    Stale,
}

fn sweep(index: &Index, upper: &Upper, lowers: &[Box<dyn Lower>], origins: &Origins) -> Result<()> {
    let context = |e| Error::sys("sweep the index beside the work directory of", upper.path(), e);
    for entry in dir::read(&index.dir).map_err(context)? {
        let worth = if is_unfinished(&entry.name) { Worth::Stale } else { judge(index, upper, lowers, origins, &entry.name)? };
        if matches!(worth, Worth::Stale) {
            work::purge(&index.dir, &entry.name, 0).map_err(context)?;
        }
    }
    Ok(())
}

/// As namei.c, `ovl_verify_index`.
fn judge(index: &Index, upper: &Upper, lowers: &[Box<dyn Lower>], origins: &Origins, name: &OsString) -> Result<Worth> {
    let bad = |what: &str| {
        let shown = name.display();
        refused(upper, &format!("option index=on: entry {shown} of its index {what}: remove the entry, or mount with index=off"))
    };
    let (Some(handle), Some(value)) = (handle_of(name), value_of(name)) else { return Err(bad("is named after no file handle")) };
    let spot = index.spot(name);
    let context = |e| Error::sys("read the index entry", name, e);
    let stat = spot.stat().map_err(context)?;
    // Kept by nfs_export=on: an inode that has gone, and directories.
    if stat.is_whiteout() || stat.attr.kind.is_dir() {
        return Ok(Worth::Kept);
    }
    match upper.private(&spot, Private::Origin).map_err(context)? {
        Some(origin) if origin == value => {}
        Some(_) => return Ok(Worth::Stale),
        None => return Err(bad("does not say which inode it comes from")),
    }
    if stat.attr.nlink > 1 {
        return Ok(Worth::Kept);
    }
    // It may be all there is of a changed file: so it is not enough that its inode cannot be found just now.
    let found = origins.find(lowers, &handle).map_err(|e| {
        let shown = name.display();
        refused(
            upper,
            &format!("option index=on: whether entry {shown} of its index is needed cannot be told now: {e}: mount again later"),
        )
    })?;
    let Some((_, below)) = found else { return Ok(Worth::Stale) };
    if below.kind != stat.attr.kind {
        return Err(bad("is of another type than its inode"));
    }
    let nlink = upper.private(&spot, Private::Nlink).map_err(context)?;
    let names = nlink.and_then(|value| Nlink::decode(&value)).and_then(|nlink| nlink.count(stat.attr.nlink, below.nlink));
    Ok(if below.nlink > 1 && names.is_some() { Worth::Kept } else { Worth::Stale })
}
