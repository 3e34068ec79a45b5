//! What is visible where layers meet: one pure rule that lookup, listing, removal and rename all ask.

use smallvec::SmallVec;

use crate::types::Kind;

/// What one layer has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// A whiteout: the name is hidden in every layer below.
    Whiteout,
    /// A directory; an opaque one hides what lies below it.
    Dir {
        /// Carries the opaque mark.
        opaque: bool,
    },
    /// A regular file with attributes only: the next regular file below has the data.
    Metacopy,
    /// Anything else of this kind.
    Other(Kind),
}

/// What the parts so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Nothing,
    /// Directories.
    Dirs,
    /// Files with attributes only; the data are still to come.
    Headless,
    /// One object that is whole, with the attributes-only files above it.
    Whole,
}

/// The visible parts of one name, topmost first: none, one object (a file's attributes may stand above its data), or the
/// directories that merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge<S> {
    parts: SmallVec<[S; 2]>,
    shape: Shape,
    closed: bool,
}

impl<S> Default for Merge<S> {
    fn default() -> Self {
        Self { parts: SmallVec::new(), shape: Shape::Nothing, closed: false }
    }
}

impl<S> Merge<S> {
    /// Adds what the next lower layer has. Only directories merge; anything else below a directory ends it, anything below
    /// anything else is hidden (overlayfs.rst, "Directories" and "Non-directories"), but for the data of a file that has
    /// attributes only ("Metadata only copy up").
    pub fn add(&mut self, source: S, seen: Seen) {
        if self.closed {
            return;
        }
        let (shape, closed) = match (self.shape, seen) {
            (_, Seen::Absent) => return,
            (Shape::Nothing | Shape::Dirs, Seen::Dir { opaque }) => (Shape::Dirs, opaque),
            (Shape::Nothing | Shape::Headless, Seen::Metacopy) => (Shape::Headless, false),
            (Shape::Nothing, Seen::Other(_)) | (Shape::Headless, Seen::Other(Kind::File)) => (Shape::Whole, true),
            _ => return self.close(),
        };
        self.parts.push(source);
        (self.shape, self.closed) = (shape, closed);
    }

    /// Ends it: what lies further below is hidden.
    pub const fn close(&mut self) {
        self.closed = true;
    }

    /// A redirect from the root leads around whatever hid what lies below.
    pub const fn reopen(&mut self) {
        self.closed = false;
    }

    /// True where the data of a file were not found below its attributes.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.shape == Shape::Headless
    }

    /// True when no layer further below can change the answer: asking them would be wasted.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The visible parts, topmost first; empty where the name is not visible.
    #[must_use]
    pub fn parts(self) -> SmallVec<[S; 2]> {
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Seen = Seen::Dir { opaque: false };
    const OPAQUE: Seen = Seen::Dir { opaque: true };
    const FILE: Seen = Seen::Other(Kind::File);
    const LINK: Seen = Seen::Other(Kind::Symlink);
    const META: Seen = Seen::Metacopy;

    #[test]
    fn the_table_of_layers() {
        use Seen::{Absent, Whiteout};
        let table: &[(&[Seen], &[usize])] = &[
            (&[], &[]),
            (&[Absent, Absent], &[]),
            (&[Absent, FILE], &[1]),
            (&[FILE, FILE], &[0]),
            (&[FILE, DIR], &[0]),
            (&[Whiteout, FILE], &[]),
            (&[Absent, Whiteout, DIR], &[]),
            (&[DIR, DIR, DIR], &[0, 1, 2]),
            (&[DIR, Absent, DIR], &[0, 2]),
            (&[DIR, FILE, DIR], &[0]),
            (&[DIR, Whiteout, DIR], &[0]),
            (&[DIR, OPAQUE, DIR], &[0, 1]),
            (&[OPAQUE, DIR], &[0]),
            (&[Whiteout, OPAQUE, DIR], &[]),
            (&[META, FILE, FILE], &[0, 1]),
            (&[META, Absent, META, FILE], &[0, 2, 3]),
            (&[META, DIR, FILE], &[0]),
            (&[META, LINK, FILE], &[0]),
            (&[META, Whiteout, FILE], &[0]),
            (&[DIR, META, DIR], &[0]),
        ];
        for (layers, visible) in table {
            let mut merge = Merge::default();
            for (layer, seen) in layers.iter().enumerate() {
                merge.add(layer, *seen);
            }
            assert_eq!(merge.parts().as_slice(), *visible, "{layers:?}");
        }
    }

    #[test]
    fn attributes_without_data_are_told() {
        for (layers, headless) in
            [(&[META, FILE][..], false), (&[META, Seen::Absent], true), (&[META, DIR], true), (&[FILE], false)]
        {
            let mut merge = Merge::default();
            layers.iter().for_each(|seen| merge.add((), *seen));
            assert_eq!(merge.is_headless(), headless, "{layers:?}");
        }
    }

    #[test]
    fn what_was_closed_can_be_reopened() {
        let mut merge = Merge::default();
        merge.add(0, OPAQUE);
        merge.reopen();
        merge.add(1, DIR);
        assert_eq!(merge.parts().as_slice(), [0, 1]);
    }
}
