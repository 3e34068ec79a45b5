//! Pages that must not be written: what a program has stored into a mapping of a file that the kernel opens without asking, though it
//! must not change. The kernel does not write such a page again, but would show it to every reader until it needs the memory; so it is
//! told to drop it.
//!
//! It waits for pages that were stored into again meanwhile, which the daemon refuses once more. No worker may wait for that.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::thread;

use parking_lot::Mutex;

use crate::union::node::NodeId;

/// Has the kernel drop so many bytes of a file's pages from an offset on.
pub(super) type DropPages = Box<dyn Fn(NodeId, i64, i64) + Send + Sync>;

/// What is still to be dropped, and by whom.
#[derive(Default)]
pub(super) struct RefusedPages {
    waiting: Mutex<Waiting>,
    drop_pages: OnceLock<DropPages>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In bytes; of each file one range that has them all.
    ranges: BTreeMap<NodeId, Range<u64>>,
    /// A thread drops them, and ends when there are no more.
    attended: bool,
}

impl RefusedPages {
    /// Names the one who has the kernel drop them; the first stays.
    pub(super) fn drop_by(&self, drop_pages: DropPages) {
        let _first_stays = self.drop_pages.set(drop_pages);
    }

    /// To be called when the refusal was answered. Waits for nothing.
    pub(super) fn note(self: &Arc<Self>, node: NodeId, range: Range<u64>) {
        let mut waiting = self.waiting.lock();
        let all = waiting.ranges.entry(node).or_insert_with(|| range.clone());
        *all = all.start.min(range.start)..all.end.max(range.end);
        if waiting.attended {
            return;
        }
        let this = Arc::clone(self);
        let thread = thread::Builder::new().name("refused-pages".to_owned());
        match thread.spawn(move || this.drop_all()) {
            Ok(_) => waiting.attended = true,
            // The next refusal tries it again.
            Err(e) => tracing::error!("the kernel shows pages of node {} that must not be written: no thread: {e}", node.0),
        }
    }

    fn drop_all(&self) {
        while let Some((node, range)) = self.next() {
            let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            if let Some(drop_pages) = self.drop_pages.get() {
                drop_pages(node, signed(range.start), signed(range.end.saturating_sub(range.start)));
            }
        }
    }

    fn next(&self) -> Option<(NodeId, Range<u64>)> {
        let mut waiting = self.waiting.lock();
        let next = waiting.ranges.pop_first();
        waiting.attended = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn who_refuses_does_not_wait_for_who_drops() {
        let refused = Arc::<RefusedPages>::default();
        let ((dropped, is_dropped), (go, may_go)) = (channel(), channel());
        let may_go = Mutex::new(may_go);
        refused.drop_by(Box::new(move |node, offset, len| {
            dropped.send((node.0, offset, len)).unwrap();
            may_go.lock().recv_timeout(LONG).unwrap();
        }));
        refused.note(NodeId(2), 0..4096);
        assert_eq!(is_dropped.recv_timeout(LONG), Ok((2, 0, 4096)));
        // Meanwhile.
        for (node, range) in [(3, 4096..8192), (2, 8192..12288), (3, 0..10)] {
            refused.note(NodeId(node), range);
        }
        for expected in [(2, 8192, 4096), (3, 0, 8192)] {
            go.send(()).unwrap();
            assert_eq!(is_dropped.recv_timeout(LONG), Ok(expected));
        }
        go.send(()).unwrap();
        let begun = std::time::Instant::now();
        while refused.waiting.lock().attended {
            assert!(begun.elapsed() < LONG, "the thread stays");
            thread::yield_now();
        }
        refused.note(NodeId(4), 0..1);
        assert_eq!(is_dropped.recv_timeout(LONG), Ok((4, 0, 1)), "another thread");
        go.send(()).unwrap();
    }
}
