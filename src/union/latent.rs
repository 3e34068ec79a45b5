//! Hard links of a lower, one file for as long as the union lives: names that nobody has asked for yet are latent in a node
//! that was copied up. When they are found they join it in the upper, so that they stay one file over a remount; with the index
//! they do so anyway, and are linked only before something is done to them.

use std::ffi::OsStr;
use std::sync::Arc;

use super::node::{Node, State};
use super::{Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::index::Base;
use crate::sys::dir;
use crate::sys::spot::{SetTime, Spot};

impl Union {
    /// Has one more name of a copied-up file, found only now, join it in the upper. Where it cannot, for lack of space, say, it
    /// shows the file all the same; while the mount is read-only it waits until that is over.
    pub(super) fn join_found(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &OsStr) {
        if self.is_read_only() {
            return;
        }
        if let Err(e) = self.raise_link(node, parent, name) {
            tracing::warn!("{}: a hard link of a changed file will show the old one after a remount: {e}", name.display());
        }
    }

    /// Links in the upper what is one of the file's names in the lower alone.
    ///
    /// # Errors
    /// The upper's answers.
    pub(super) fn raise_link(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &OsStr) -> Result<()> {
        if !node.state.read().links.iter().any(|link| link.below && link.is(parent, name)) {
            return Ok(());
        }
        self.copy_up_ancestors(parent)?;
        let upper = self.writable()?;
        let unpinned = {
            let _tree = self.tree.read();
            let _names = parent.children.write();
            let mut state = node.state.write();
            if !state.links.iter().any(|link| link.below && link.is(parent, name)) {
                return Ok(());
            }
            self.link_found(upper, &mut state, parent, name)?
        };
        if unpinned {
            self.table.release(node, 1);
        }
        Ok(())
    }

    /// Links a name that is `below`; true when the node need not be kept for others any more. The caller holds the directory's
    /// names.
    pub(super) fn link_found(&self, upper: &Upper, state: &mut State, parent: &Arc<Node>, name: &OsStr) -> Result<bool> {
        let to = self.dir_fd(parent)?;
        let spot = Spot::Fd(Arc::clone(&to));
        let before = upper.stat(&spot)?.attr;
        let context = |e: Errno| Error::sys("link in the upper", name, e);
        let into = std::slice::from_ref(&spot);
        let (from, old) = match (&self.index, &state.index) {
            (Some(index), Some(entry)) => {
                self.mark_impure(&spot).map_err(context)?;
                self.record_names(upper, state, Base::Lower).map_err(context)?;
                (Arc::clone(index.dir()), entry.name.clone())
            }
            _ => {
                let first = state.in_upper().next().ok_or(Error::Expected(Errno::ENOENT))?;
                (self.dir_fd(&first.parent)?, first.name.clone())
            }
        };
        let moment = self.readers.now();
        upper.writing_into(into, || dir::link(&from, &old, &to, name)).map_err(context)?;
        // A look-up changes no directory that a program could see changed; where we may not set times, they stay new.
        let _best_effort = spot.set_times(SetTime::At(before.atime), SetTime::At(before.mtime));
        self.tell_seen(std::slice::from_ref(parent), moment);
        state.links.iter_mut().filter(|link| link.is(parent, name)).for_each(|link| link.below = false);
        let unpinned = self.count_latent(state);
        // What was recorded before stays true.
        if let Err(e) = self.record_names(upper, state, Base::Upper) {
            tracing::debug!("{}: counted from the lower's links: {e}", name.display());
        }
        Ok(unpinned)
    }

    /// One latent name fewer; true when the node need not be kept for others any more.
    pub(super) fn count_latent(&self, state: &mut State) -> bool {
        state.latent = state.latent.saturating_sub(1);
        state.latent == 0 && std::mem::take(&mut state.pinned)
    }
}
