//! A union with an upper whose mount is read-only at present: it was mounted so, or remounted. The kernel asks for no change then; so
//! nothing else may change the upper either, nor keep its file system from becoming read-only, too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Union;
use super::node::Node;

impl Union {
    /// What the mount is from now on. The kernel tells no daemon of a remount; a change that it asks for shows one that nobody has told
    /// of.
    pub fn set_read_only(&self, read_only: bool) {
        let was_read_only = self.read_only.swap(read_only, Ordering::AcqRel);
        if read_only {
            self.open_files.give_up_writing(self.overrules_modes(), || self.next_sync());
        } else if was_read_only {
            self.join_all_found();
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// Somebody changes something. The caller holds no lock.
    pub(super) fn notice_change(&self) {
        if self.is_read_only() {
            self.set_read_only(false);
        }
    }

    /// Hard links that were found meanwhile join their files now.
    fn join_all_found(&self) {
        let below = |node: &Arc<Node>| {
            let state = node.state.read();
            let below = state.links.iter().filter(|link| link.below && state.index.is_none());
            below.map(|link| (Arc::clone(node), link.clone())).collect::<Vec<_>>()
        };
        for (node, link) in self.table.all().iter().flat_map(below) {
            self.join_found(&node, &link.parent, &link.name);
        }
    }
}
