//! Hard links of a lower, one file for as long as the union lives: names that nobody has asked for yet are latent in a node
//! that was copied up, and join it in the upper when they are found.

use std::ffi::OsStr;
use std::sync::Arc;

use super::node::{Node, State};
use super::{Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::sys::dir;
use crate::sys::spot::{SetTime, Spot};

impl Union {
    /// Gives a copied-up file one more of the names it has in the lower, found only now.
    pub(super) fn link_latent(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &OsStr) -> Result<()> {
        self.copy_up_ancestors(parent)?;
        let upper = self.writable()?;
        let unpinned = {
            let _tree = self.tree.read();
            let _names = parent.children.write();
            let mut state = node.state.write();
            if state.has_link(parent, name) {
                return Ok(());
            }
            self.link_found(upper, &state, parent, name)?;
            self.table.add_link(&mut state, parent, name);
            self.count_latent(&mut state)
        };
        if unpinned {
            self.table.release(node, 1);
        }
        Ok(())
    }

    fn link_found(&self, upper: &Upper, state: &State, parent: &Arc<Node>, name: &OsStr) -> Result<()> {
        let to = self.dir_fd(parent)?;
        let spot = Spot::Fd(Arc::clone(&to));
        let before = spot.stat()?.attr;
        let context = |e: Errno| Error::sys("link in the upper", name, e);
        let into = std::slice::from_ref(&spot);
        let first = state.links.first().ok_or(Error::Expected(Errno::ENOENT))?;
        let from = self.dir_fd(&first.parent)?;
        upper.writing_into(into, || dir::link(&from, &first.name, &to, name)).map_err(context)?;
        // A look-up changes no directory that a program could see changed; where we may not set times, they stay new.
        let _best_effort = spot.set_times(SetTime::At(before.atime), SetTime::At(before.mtime));
        Ok(())
    }

    /// One latent name fewer; true when the node need not be kept for others any more.
    pub(super) fn count_latent(&self, state: &mut State) -> bool {
        state.latent = state.latent.saturating_sub(1);
        state.latent == 0 && std::mem::take(&mut state.pinned)
    }
}
