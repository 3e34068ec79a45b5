//! What the lower layers have below an object of the upper, by the same descent as a mount's.

use std::ffi::OsStr;

use smallvec::{SmallVec, smallvec};

use super::super::descent::{Descent, InUpper};
use super::super::lower::Lower;
use super::super::merge::Seen;
use super::super::node::LowerAt;
use super::super::{Options, RedirectDir, Union};
use crate::error::Result;
use crate::ovl::redirect::Redirect;
use crate::ovl::xattr::Namespace;
use crate::sys::spot::Stat;

/// What lies below one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Under {
    /// No lowers were given to ask.
    Unknown,
    /// Nothing can: the directory is opaque, or no lower has it.
    Pure,
    /// Nothing, although the directory goes on in lowers. For a file with attributes only: no data.
    Absent,
    /// Something, of this size in bytes.
    Present {
        /// Size of what decides.
        size: u64,
    },
    /// The lowers answer with an error.
    Failed(String),
}

/// Where a directory of the upper goes on in the lowers; `None` where that is not known.
pub(super) type Parts = Option<SmallVec<[LowerAt; 2]>>;

/// Nothing lies below.
pub(super) fn pure() -> Parts {
    Some(smallvec![])
}

/// The lowers, if there are any to ask.
pub(super) struct Layers {
    union: Option<Union>,
}

impl Layers {
    /// # Errors
    /// What the root of a lower answers.
    pub(super) fn new(lowers: Vec<Box<dyn Lower>>, space: Namespace) -> Result<Self> {
        if lowers.is_empty() {
            return Ok(Self { union: None });
        }
        let metacopy = space == Namespace::Trusted;
        let redirect_dir = if metacopy { RedirectDir::Follow } else { RedirectDir::NoFollow };
        let options = Options { redirect_dir, metacopy, ..Options::default() };
        Ok(Self { union: Some(Union::assemble(lowers, None, options, space)?) })
    }

    /// Where the root of the upper goes on.
    pub(super) fn root(&self) -> Parts {
        self.union.as_ref().map(|union| union.roots_from(0))
    }

    /// What a name hides, in a directory that goes on in `parts`.
    pub(super) fn name(&self, parts: &Parts, name: &OsStr) -> Under {
        self.ask(parts, Descent::new(name, None)).0
    }

    /// Below the attributes of a file without data.
    pub(super) fn data(&self, parts: &Parts, name: &OsStr, stat: Stat, redirect: Option<Redirect>) -> Under {
        self.ask(parts, Descent::new(name, Some(InUpper { stat, seen: Seen::Metacopy, redirect }))).0
    }

    /// Below a directory that is not opaque, and where that goes on.
    pub(super) fn directory(&self, parts: &Parts, name: &OsStr, stat: Stat, redirect: Option<Redirect>) -> (Under, Parts) {
        self.ask(parts, Descent::new(name, Some(InUpper { stat, seen: Seen::Dir { opaque: false }, redirect })))
    }

    fn ask(&self, parts: &Parts, mut descent: Descent) -> (Under, Parts) {
        let from_root = descent.starts_at_root();
        let parents = match (parts, &self.union) {
            (Some(parts), _) if parts.is_empty() && !from_root => return (Under::Pure, pure()),
            (None, Some(_)) if from_root => &smallvec![],
            (Some(parts), Some(_)) => parts,
            _ => return (Under::Unknown, None),
        };
        let Some(union) = &self.union else { return (Under::Unknown, None) };
        if let Err(e) = union.descend(&mut descent, parents) {
            return (Under::Failed(e.to_string().escape_debug().to_string()), None);
        }
        // Attributes without data.
        let Ok(found) = descent.found() else { return (Under::Absent, pure()) };
        let lowers: SmallVec<[LowerAt; 2]> = found.into_iter().flat_map(|found| found.lowers).collect();
        let Some(last) = lowers.last().copied() else { return (Under::Absent, pure()) };
        match union.lower(last).and_then(|lower| lower.attr(last.id)) {
            Ok(attr) => (Under::Present { size: attr.size }, Some(lowers)),
            Err(e) => (Under::Failed(e.to_string().escape_debug().to_string()), None),
        }
    }
}
