//! Bytes that the kernel gets unasked, into its page cache (`FUSE_NOTIFY_STORE`): each page of these costs no request.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::{INodeNo, Notifier};

use super::guard::guarded;
use crate::error::Errno;
use crate::union::lower::Ready;
use crate::union::{NodeId, Union};

/// The way to the kernel, open once the session has begun, and only where something may be pushed.
#[derive(Debug, Default)]
pub(super) struct Push {
    notifier: OnceLock<Notifier>,
    /// The kernel locks each page, and a reader who waits for an answer holds such locks: so one thread pushes at a time, and the
    /// others answer.
    busy: AtomicBool,
}

impl Push {
    /// Pushes from now on.
    pub(super) fn begin(&self, notifier: Notifier) {
        let _first = self.notifier.set(notifier);
    }

    /// Pushes what is at hand when so many bytes were read.
    pub(super) fn push(&self, what: Ready, union: &Union, node: NodeId, offset: u64, size: u32) {
        let Some(notifier) = self.notifier.get() else { return };
        if self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        // A request of its own, so to say: what goes wrong here is no affair of who reads.
        let _pushed = guarded(|| {
            union.ready(what, node, offset, size as usize, |node, from, bytes| store(notifier, node, from, bytes));
            Ok(())
        });
        self.busy.store(false, Ordering::Release);
    }
}

fn store(notifier: &Notifier, node: NodeId, from: u64, bytes: &[u8]) {
    match notifier.store(INodeNo(node.0), from, bytes) {
        Err(e) if e.raw_os_error() != Some(Errno::ENOENT.0) => {
            tracing::debug!("push {} bytes of node {}: {e}", bytes.len(), node.0)
        }
        // The kernel may have forgotten the inode, and then has no use for its bytes.
        _ => {}
    }
}
