//! What an object of the upper says of itself.

use std::ffi::{OsStr, OsString};

use crate::error::Errno;
use crate::ovl::mark::{Mark, Reader, Says};
use crate::ovl::xattr::Namespace;
use crate::sys::spot::{Spot, Stat};
use crate::types::Kind;

/// What stands under the name that a foreign whiteout hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Nothing.
    Absent,
    /// A directory.
    Directory,
    /// Anything else, which hides what lies below by itself.
    Other,
}

/// One attribute that marks an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Its full name.
    pub name: OsString,
    /// What the name means.
    pub mark: Mark,
    /// Its value.
    pub value: Vec<u8>,
}

/// What judging an object needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its type.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// It is the character device 0:0.
    pub whiteout: bool,
    /// Its marks.
    pub marks: Vec<Marked>,
}

impl Facts {
    /// Reads the marks of an object.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(super) fn read(spot: &Spot, stat: &Stat) -> Result<Self, Errno> {
        let mut marks = Vec::new();
        for name in spot.xattr_names()? {
            let Some(mark) = Mark::parse(&name) else { continue };
            if let Some(value) = spot.xattr(&name)? {
                marks.push(Marked { name, mark, value });
            }
        }
        marks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { kind: stat.attr.kind, size: stat.attr.size, whiteout: stat.is_whiteout(), marks })
    }

    /// A mark that a mount with this name space consults.
    pub(super) fn own(&self, space: Namespace, says: Says) -> Option<&Marked> {
        self.marks.iter().find(|marked| marked.mark == Mark { reader: Reader::Overlay(space), says })
    }

    /// Marks that such a mount does not consult.
    pub(super) fn unseen(&self, space: Namespace, says: Says) -> impl Iterator<Item = &Marked> {
        self.marks.iter().filter(move |m| m.mark.says == says && m.mark.reader != Reader::Overlay(space))
    }

    /// True for a directory that such a mount takes as opaque.
    pub(super) fn is_opaque(&self, space: Namespace) -> bool {
        self.own(space, Says::Opaque).is_some_and(|marked| marked.value == b"y")
    }
}

/// An entry of a directory of the upper.
pub(super) struct Object {
    pub(super) name: OsString,
    pub(super) stat: Stat,
    pub(super) facts: Facts,
}

impl Object {
    /// True for an empty regular file, as foreign marks are.
    pub(super) fn is_empty_file(&self) -> bool {
        self.facts.kind == Kind::File && self.facts.size == 0
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }
}
