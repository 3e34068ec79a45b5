//! Repairs, each in one step or in two of which the first can stand alone.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::work;
use super::defect::Repair;
use crate::error::Errno;
use crate::ovl::xattr::{Namespace, Private};
use crate::sys::dir::{self, Rename};
use crate::sys::spot::Spot;
use crate::types::Kind;

/// Name of what is being made, in the work directory; a mount removes it if we could not.
const TEMP: &str = "#check";

/// Where something is to be mended.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// The directory.
    pub(super) dir: &'a Arc<OwnedFd>,
    /// A name in it; `None` for the directory itself.
    pub(super) name: Option<&'a OsStr>,
}

impl At<'_> {
    fn spot(self) -> Spot {
        match self.name {
            Some(name) => Spot::at(self.dir, name),
            None => Spot::Fd(Arc::clone(self.dir)),
        }
    }
}

/// Mends one defect.
///
/// # Errors
/// The kernel's answer; the defect is then still there, or half mended so that the next check finds and mends the rest.
pub(super) fn apply(repair: &Repair, at: At<'_>, work: &Arc<OwnedFd>, space: Namespace) -> Result<(), Errno> {
    let name = at.name.unwrap_or_else(|| OsStr::new("."));
    match repair {
        Repair::Purge => work::purge(at.dir, name, 0),
        Repair::Unlink => dir::unlink(at.dir, name),
        Repair::RemoveAttribute(attribute) => at.spot().remove_xattr(attribute),
        Repair::Whiteout(hidden) => {
            dir::mknod(at.dir, hidden, Kind::Char, 0, 0)?;
            dir::unlink(at.dir, name)
        }
        Repair::ReplaceByWhiteout => {
            let temp = OsStr::new(TEMP);
            dir::mknod(work, temp, Kind::Char, 0, 0)?;
            dir::rename(work, temp, at.dir, name, Rename::Replace).inspect_err(|_| work::purge(work, temp, 0).unwrap_or_default())
        }
        Repair::MarkOpaque => mark_opaque(at.dir, space),
        Repair::MarkParentOpaque => {
            mark_opaque(at.dir, space)?;
            dir::unlink(at.dir, name)
        }
    }
}

fn mark_opaque(dir: &Arc<OwnedFd>, space: Namespace) -> Result<(), Errno> {
    Spot::Fd(Arc::clone(dir)).set_xattr(&space.name(Private::Opaque), b"y", 0)
}
