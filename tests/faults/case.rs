//! What the operations are, and what may differ in the trees they leave.

use std::io;
use std::path::Path;

/// One operation.
pub struct Case {
    /// For messages.
    pub name: &'static str,
    /// Options of the mount.
    pub options: &'static [&'static str],
    /// What was done to the union before; no fault strikes there.
    pub before: fn(&Path),
    /// The operation: one system call that changes something.
    pub act: fn(&Path) -> io::Result<()>,
    /// What may differ.
    pub loose: Loose,
}

/// What may be neither old nor new.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loose {
    /// Nothing.
    Nothing,
    /// Which names are one file: without an index a copy-up breaks hard links, as the kernel's does.
    Links,
    /// Modification times: data that are brought up in place, while they still show from the lower.
    Times,
    /// Whether a whiteout stays at a name below which nothing lies.
    Whiteout(&'static str),
}

impl Case {
    /// An operation on a fresh union.
    pub const fn new(name: &'static str, act: fn(&Path) -> io::Result<()>) -> Self {
        Self { name, options: &[], before: |_| {}, act, loose: Loose::Nothing }
    }

    /// After this.
    pub const fn after(mut self, before: fn(&Path)) -> Self {
        self.before = before;
        self
    }

    /// With these options.
    pub const fn with(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }

    /// What may differ.
    pub const fn but(mut self, loose: Loose) -> Self {
        self.loose = loose;
        self
    }
}
