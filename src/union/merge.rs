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
    /// Anything else of this kind.
    Other(Kind),
}

/// The visible parts of one name, topmost first: none, one object, or the directories that merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge<S> {
    parts: SmallVec<[S; 2]>,
    dir: bool,
    closed: bool,
}

impl<S> Default for Merge<S> {
    fn default() -> Self {
        Self { parts: SmallVec::new(), dir: false, closed: false }
    }
}

impl<S> Merge<S> {
    /// Adds what the next lower layer has. Only directories merge; anything else below a directory ends it, anything below
    /// anything else is hidden (overlayfs.rst, "Directories" and "Non-directories").
    pub fn add(&mut self, source: S, seen: Seen) {
        if self.closed {
            return;
        }
        match seen {
            Seen::Absent => {}
            Seen::Whiteout => self.closed = true,
            Seen::Dir { opaque } => {
                self.parts.push(source);
                self.dir = true;
                self.closed = opaque;
            }
            Seen::Other(_) => {
                self.closed = true;
                if !self.dir {
                    self.parts.push(source);
                }
            }
        }
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
        ];
        for (layers, visible) in table {
            let mut merge = Merge::default();
            for (layer, seen) in layers.iter().enumerate() {
                merge.add(layer, *seen);
            }
            assert_eq!(merge.parts().as_slice(), *visible, "{layers:?}");
        }
    }
}
