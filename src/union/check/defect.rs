//! What can be wrong with an upper: one value for each, with what it means for a mount and what can be done.

use std::ffi::OsString;
use std::path::PathBuf;

pub use super::mark_defect::MarkDefect;
pub use super::name_defect::NameDefect;
pub use super::work_defect::WorkDefect;
use crate::error::Error;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; a mount shows what it should.
    Note,
    /// A mount shows the right content, but something else is not as it should be.
    Warning,
    /// A mount shows something wrong, or is refused.
    Error,
}

impl Severity {
    /// In one lower-case word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What mends a defect without guessing and without losing anything. Each leaves, wherever it is interrupted, the old state or
/// one that the next check mends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Remove the object, and all below it, from the work directory.
    Purge,
    /// Remove the name, which is not a directory's.
    Unlink,
    /// Remove the attribute.
    RemoveAttribute(OsString),
    /// Make a whiteout of this name, then remove the present one.
    Whiteout(OsString),
    /// Put a whiteout in the place of the file.
    ReplaceByWhiteout,
    /// Set the opaque mark of the mount's name space.
    MarkOpaque,
    /// Set the opaque mark on the directory, then remove the name in it.
    MarkParentOpaque,
}

impl Repair {
    /// What was done, once it was.
    #[must_use]
    pub fn done(&self) -> String {
        match self {
            Self::Purge | Self::Unlink => "removed it".to_owned(),
            Self::RemoveAttribute(name) => format!("removed {name:?}"),
            Self::Whiteout(hidden) => format!("made a whiteout of {hidden:?} and removed this"),
            Self::ReplaceByWhiteout => "put a whiteout in its place".to_owned(),
            Self::MarkOpaque => "marked it opaque".to_owned(),
            Self::MarkParentOpaque => "marked its directory opaque and removed this".to_owned(),
        }
    }
}

/// What is wrong.
#[derive(Debug)]
pub enum Defect {
    /// In the work directory.
    Work(WorkDefect),
    /// A name or an object of the upper.
    Name(NameDefect),
    /// An attribute that the format gives a meaning.
    Mark(MarkDefect),
    /// It could not be looked at.
    Unchecked(Error),
}

/// A defect in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// A name that stays the same from version to version, for programs.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it is and what follows; whatever comes from the disk is quoted and escaped.
    pub means: String,
    /// What can be done, empty where nothing needs to be.
    pub remedy: &'static str,
    /// What `--repair` does.
    pub repair: Option<Repair>,
}

/// Something to tell of.
#[derive(Debug)]
pub struct Finding {
    /// Where, beginning with the upper or the work directory as they were given.
    pub path: PathBuf,
    /// What.
    pub defect: Defect,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a defect.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing was tried.
    Left,
    /// It was mended.
    Repaired,
    /// Mending it failed.
    Failed(Error),
}

impl Defect {
    /// True where mending it makes a directory opaque.
    pub(super) const fn hides_what_lies_below(&self) -> bool {
        matches!(self, Self::Mark(MarkDefect::UnseenOpaque(_)))
    }

    /// In words.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        match self {
            Self::Work(defect) => defect.explain(),
            Self::Name(defect) => defect.explain(),
            Self::Mark(defect) => defect.explain(),
            Self::Unchecked(e) => {
                Explanation::error("unchecked", format!("could not be looked at: {}", e.to_string().escape_debug()), "")
            }
        }
    }
}

impl From<WorkDefect> for Defect {
    fn from(defect: WorkDefect) -> Self {
        Self::Work(defect)
    }
}

impl From<NameDefect> for Defect {
    fn from(defect: NameDefect) -> Self {
        Self::Name(defect)
    }
}

impl From<MarkDefect> for Defect {
    fn from(defect: MarkDefect) -> Self {
        Self::Mark(defect)
    }
}

impl Explanation {
    fn new(id: &'static str, severity: Severity, means: impl Into<String>, remedy: &'static str) -> Self {
        Self { id, severity, means: means.into(), remedy, repair: None }
    }

    pub(super) fn note(id: &'static str, means: impl Into<String>, remedy: &'static str) -> Self {
        Self::new(id, Severity::Note, means, remedy)
    }

    pub(super) fn warning(id: &'static str, means: impl Into<String>, remedy: &'static str) -> Self {
        Self::new(id, Severity::Warning, means, remedy)
    }

    pub(super) fn error(id: &'static str, means: impl Into<String>, remedy: &'static str) -> Self {
        Self::new(id, Severity::Error, means, remedy)
    }

    pub(super) fn mended_by(mut self, repair: impl Into<Option<Repair>>) -> Self {
        self.repair = repair.into();
        self
    }
}
