//! What a node of the upper is known to lack. The kernel asks for a file's capabilities before it is written to, and whoever makes a
//! name asks for the directory's default ACL; mostly there are none. Nobody else changes an upper that is in use (overlayfs.rst,
//! "Changes to underlying filesystems"), so the answer holds until it is changed here.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::acl;
use super::node::Node;

/// Name of the attribute that holds a file's capabilities (capabilities(7)).
pub const CAPABILITY: &str = "security.capability";
/// It is absent; the rest counts the changes.
const ABSENT: u32 = 1;

/// Whether one attribute is known to be absent.
#[derive(Debug, Default)]
pub struct Absence(AtomicU32);

/// The state before one looked.
#[derive(Clone, Copy, Debug)]
pub struct Before(u32);

impl Absence {
    /// True where it need not be looked for.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Acquire) & ABSENT != 0
    }

    /// To be asked before one looks for the attribute.
    #[must_use]
    pub fn before(&self) -> Before {
        Before(self.0.load(Ordering::Acquire))
    }

    /// It was not there; forgotten at once where it was changed since `before`.
    pub fn remember(&self, before: Before) {
        // Refused where it is known already, or was changed.
        let _known = self.0.compare_exchange(before.0 & !ABSENT, before.0 | ABSENT, Ordering::AcqRel, Ordering::Acquire);
    }

    /// To be told after each try to change the attribute.
    pub fn forget(&self) {
        let changed = |state: u32| Some((state & !ABSENT).wrapping_add(2));
        // Never refused.
        let _before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed);
    }
}

impl Node {
    /// What is known of an attribute; `None` for one of which nothing is remembered.
    #[must_use]
    pub fn absence_of(&self, name: &OsStr) -> Option<&Absence> {
        let remembered = if self.kind.is_dir() { acl::DEFAULT } else { CAPABILITY };
        (name == remembered).then_some(&self.absence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_until_a_change() {
        let absence = Absence::default();
        assert!(!absence.is_known());
        absence.remember(absence.before());
        absence.remember(absence.before());
        assert!(absence.is_known());
        absence.forget();
        assert!(!absence.is_known());
    }

    #[test]
    fn a_change_while_one_looks_is_not_overlooked() {
        let absence = Absence::default();
        for _ in 0..3 {
            let before = absence.before();
            absence.forget();
            absence.remember(before);
            assert!(!absence.is_known());
        }
        absence.remember(absence.before());
        let before = absence.before();
        absence.forget();
        absence.remember(before);
        assert!(!absence.is_known());
    }
}
