//! The second half of a copy-up: data for a file that has only its attributes in the upper (copy_up.c,
//! `ovl_copy_up_meta_inode_data`).

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::absence::CAPABILITY;
use super::copy_data::copy_data;
use super::node::{LowerAt, Node};
use super::open::open_spot;
use super::{Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::Private;
use crate::sys::data::{self, OFlags};
use crate::sys::spot::{SetTime, Spot};
use crate::types::Attr;

impl Union {
    /// To be held while attributes of a file that is in the upper are changed: whoever brings its data up meanwhile would put the times and
    /// capabilities back that it had before. The caller holds no other lock.
    pub(super) fn keep_data_below(node: &Node) -> Option<MutexGuard<'_, ()>> {
        Self::needs_data(node).then(|| node.copy_up.lock())
    }

    /// Brings the data up. They are whole and durable before the mark goes that leads readers to the lower; so a crash leaves
    /// the old content, if perhaps with a new modification time. They come along even where the file is truncated next: in
    /// either order of the two steps a crash in between would show neither the old content nor none. The caller holds the
    /// node's `copy_up`.
    pub(super) fn complete(&self, upper: &Upper, node: &Arc<Node>) -> Result<()> {
        let (spot, from, name) = {
            let _tree = self.tree.read();
            let state = node.state.read();
            let from = *state.lowers.last().ok_or(Error::Expected(Errno::ESTALE))?;
            // Held by descriptor: the file may be renamed meanwhile.
            let spot = open_spot(node, self.upper_spot(node, &state)?).pin()?;
            (Spot::Fd(spot), from, self.name_of(&state))
        };
        let context = |e: Errno| Error::sys("copy up the data of", &name, e);
        let stat = spot.stat().map_err(context)?;
        self.fill(&spot, from, &stat.attr, context)?;
        let mut state = node.state.write();
        spot.remove_xattr(&upper.namespace().name(Private::Metacopy)).map_err(context)?;
        state.lowers.clear();
        node.synced.store(false, Ordering::Release);
        if !self.is_found_again(node, &spot) {
            self.born.insert((stat.dev, stat.attr.ino), self.table.number(node));
        }
        Ok(())
    }

    fn fill(&self, spot: &Spot, from: LowerAt, attr: &Attr, context: impl Fn(Errno) -> Error) -> Result<()> {
        let file = spot.open(OFlags::RDWR).map_err(&context)?;
        // Writing to a file takes its capabilities.
        let capability = spot.xattr(OsStr::new(CAPABILITY)).map_err(&context)?;
        let copied = copy_data(self.lower(from)?, from, attr.size, &file, self.options.fsync);
        // Where it failed, too: what was written does not show.
        if let Some(capability) = capability {
            spot.set_xattr(OsStr::new(CAPABILITY), &capability, 0).map_err(&context)?;
        }
        spot.set_times(SetTime::At(attr.atime), SetTime::At(attr.mtime)).map_err(&context)?;
        copied?;
        if self.options.fsync == super::Durability::Volatile { Ok(()) } else { data::sync(&file, false).map_err(context) }
    }
}
