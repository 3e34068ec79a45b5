//! Errors of fsync(2) that others have still to hear of.
//!
//! An upper file is open once for all who have it open in the union, and the kernel tells of what could not be written once for each
//! description (Documentation/core-api/errseq.rst). So the first to ask would take the error away from the others, who would be told
//! that their data are safe. Requests do not say by which description they come; so each process that was there when it happened is
//! told once. Of one file the kernel asks for no more than one at a time (fs/fuse/file.c, `fuse_fsync` holds the inode's lock), so nobody
//! is told that all is well between the upper's answer and its being noted here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::node::Node;
use crate::error::Errno;
use crate::sys::proc::{self, Process};

/// Files that are remembered; of more, the first are forgotten.
const FILES: usize = 4096;

/// Processes that one is remembered for.
const PROCESSES: usize = 256;

/// So often askers are told of whom nobody knows which process they are: those of other PID namespaces, and the kernel itself.
const UNKNOWN: u32 = 64;

/// What could not be made durable.
#[derive(Debug, Default)]
pub(super) struct Lost {
    is_any: AtomicBool,
    failures: Mutex<VecDeque<Failure>>,
}

#[derive(Debug)]
struct Failure {
    node: Weak<Node>,
    errno: Errno,
    /// The time since the machine was started.
    at: Duration,
    told: VecDeque<Process>,
    unknown: u32,
}

impl Lost {
    /// The answer to who asks, where fsync(2) of the upper file has come out like this.
    ///
    /// # Errors
    /// Its own, or one that this process was not told of.
    pub(super) fn answer(
        &self,
        node: &Arc<Node>,
        done: Result<(), Errno>,
        asker: impl FnOnce() -> Option<Process>,
    ) -> Result<(), Errno> {
        match done {
            // Whichever it is: the errno is that of the disk's driver (block/blk-core.c, `blk_errors`).
            Err(errno) => {
                self.note(node, errno);
                let _told_by_this = self.untold(node, asker);
                Err(errno)
            }
            Ok(()) if self.is_any.load(Ordering::Acquire) => self.untold(node, asker).map_or(Ok(()), Err),
            Ok(()) => Ok(()),
        }
    }

    fn note(&self, node: &Arc<Node>, errno: Errno) {
        let mut failures = self.failures.lock();
        failures.retain(|failure| failure.node.strong_count() > 0 && !failure.is_of(node));
        failures.truncate(FILES - 1);
        failures.push_front(Failure::new(node, errno));
        self.is_any.store(true, Ordering::Release);
    }

    fn untold(&self, node: &Arc<Node>, asker: impl FnOnce() -> Option<Process>) -> Option<Errno> {
        if !self.failures.lock().iter().any(|failure| failure.is_of(node)) {
            return None;
        }
        // It reads files, for which nobody shall wait.
        let asker = asker();
        let mut failures = self.failures.lock();
        let failure = failures.iter_mut().find(|failure| failure.is_of(node))?;
        failure.concerns(asker).then_some(failure.errno)
    }
}

impl Failure {
    fn new(node: &Arc<Node>, errno: Errno) -> Self {
        Self { node: Arc::downgrade(node), errno, at: proc::since_start(), told: VecDeque::new(), unknown: 0 }
    }

    fn is_of(&self, node: &Arc<Node>) -> bool {
        std::ptr::eq(self.node.as_ptr(), Arc::as_ptr(node))
    }

    /// True where this one is to be told now.
    fn concerns(&mut self, asker: Option<Process>) -> bool {
        let Some(process) = asker else {
            self.unknown = self.unknown.saturating_add(1);
            return self.unknown <= UNKNOWN;
        };
        if process.started > self.at || self.told.contains(&process) {
            return false;
        }
        self.told.truncate(PROCESSES - 1);
        self.told.push_front(process);
        true
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::types::Kind;
    use crate::union::node::{NodeId, Place, State};

    fn node(n: u64) -> Arc<Node> {
        Arc::new(Node::new(NodeId(n), Kind::File, State::new(Place::Upper, SmallVec::new())))
    }

    /// One that was there before.
    const fn process(id: u32) -> Option<Process> {
        Some(Process { id, started: Duration::ZERO })
    }

    #[test]
    fn each_process_is_told_once() {
        let (lost, file, other) = (Lost::default(), node(2), node(3));
        let ask = |asker| lost.answer(&file, Ok(()), || asker);
        let fail = |asker| lost.answer(&file, Err(Errno::EIO), || asker);
        let [first, second, third] = [1, 2, 3].map(process);
        assert_eq!(ask(first), Ok(()));
        assert_eq!(fail(first), Err(Errno::EIO));
        assert_eq!(lost.answer(&other, Ok(()), || second), Ok(()));
        assert_eq!([first, second, second, first].map(ask), [Ok(()), Err(Errno::EIO), Ok(()), Ok(())]);
        // One more error is one for all.
        assert_eq!(fail(second), Err(Errno::EIO));
        assert_eq!([third, first, second].map(ask), [Err(Errno::EIO), Err(Errno::EIO), Ok(())]);
        // Who has come since has lost nothing.
        assert_eq!(ask(Some(Process { id: 4, started: Duration::MAX })), Ok(()));
        // A disk has other words for it, too.
        assert_eq!(lost.answer(&other, Err(Errno::ENODATA), || first), Err(Errno::ENODATA));
        assert_eq!([first, second].map(|asker| lost.answer(&other, Ok(()), || asker)), [Ok(()), Err(Errno::ENODATA)]);
    }

    #[test]
    fn who_is_not_known_is_told_rather_too_often() {
        let (lost, file) = (Lost::default(), node(2));
        assert!(lost.answer(&file, Err(Errno::EIO), || None).is_err());
        let told = (0..1000).filter(|_| lost.answer(&file, Ok(()), || None).is_err()).count();
        assert_eq!(told, UNKNOWN as usize - 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let lost = Lost::default();
        let nodes: Vec<_> = (0..FILES as u64 + 10).map(node).collect();
        for node in &nodes {
            assert!(lost.answer(node, Err(Errno::EIO), || process(1)).is_err());
        }
        let told = nodes.iter().filter(|node| lost.answer(node, Ok(()), || process(2)).is_err()).count();
        assert_eq!(told, FILES);
        drop(nodes);
        assert!(lost.answer(&node(0), Err(Errno::EIO), || process(1)).is_err());
        assert_eq!(lost.failures.lock().len(), 1, "what is gone needs no room");
    }
}
