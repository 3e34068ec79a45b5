//! Errors of fsync(2) that others have still to hear of.
//!
//! An upper file is open once for all who have it open in the union, and the kernel tells of what could not be written once for each
//! description (Documentation/core-api/errseq.rst). So the first to ask would take the error away from the others, who would be told
//! that their data are safe. Requests do not say by which description they come; so each process is told once, one that has opened
//! the file after the error as well.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::node::Node;
use crate::error::{Errno, Result};
use crate::sys::proc;

/// Nodes that are remembered.
const NODES: usize = 64;

/// Processes that one is remembered for.
const PROCESSES: usize = 256;

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
    told: VecDeque<u32>,
}

impl Lost {
    /// The answer to the thread `asker`, where synchronising the node has come out like this.
    ///
    /// # Errors
    /// Its own, or one that this process was not told of.
    pub(super) fn answer(&self, node: &Arc<Node>, done: Result<()>, asker: u32) -> Result<()> {
        match done {
            Err(e) => {
                self.note(node, e.errno(), process_of(asker));
                Err(e)
            }
            Ok(()) if self.is_any.load(Ordering::Acquire) => self.untold(node, asker).map_or(Ok(()), |errno| Err(errno.into())),
            Ok(()) => Ok(()),
        }
    }

    fn note(&self, node: &Arc<Node>, errno: Errno, process: u32) {
        let mut failures = self.failures.lock();
        failures.retain(|failure| failure.node.strong_count() > 0 && !failure.is_of(node));
        failures.truncate(NODES - 1);
        failures.push_front(Failure { node: Arc::downgrade(node), errno, told: VecDeque::from([process]) });
        self.is_any.store(true, Ordering::Release);
    }

    fn untold(&self, node: &Arc<Node>, asker: u32) -> Option<Errno> {
        let mut failures = self.failures.lock();
        let failure = failures.iter_mut().find(|failure| failure.is_of(node))?;
        let process = process_of(asker);
        if failure.told.contains(&process) {
            return None;
        }
        failure.told.truncate(PROCESSES - 1);
        failure.told.push_front(process);
        Some(failure.errno)
    }
}

impl Failure {
    fn is_of(&self, node: &Arc<Node>) -> bool {
        std::ptr::eq(self.node.as_ptr(), Arc::as_ptr(node))
    }
}

/// The process that a thread is of. One that is not seen from here is one by itself.
fn process_of(thread: u32) -> u32 {
    proc::process_of(thread).unwrap_or(thread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::types::Kind;
    use crate::union::node::{NodeId, Place, State};
    use smallvec::SmallVec;

    fn state() -> State {
        State::new(Place::Upper, SmallVec::new())
    }

    #[test]
    fn each_process_is_told_once() {
        let lost = Lost::default();
        let node = || Arc::new(Node::new(NodeId(2), Kind::File, state()));
        let (node, other) = (node(), node());
        // No threads have these numbers.
        let [first, second, third] = [u32::MAX - 1, u32::MAX - 2, u32::MAX - 3];
        let errno = |answer: Result<()>| answer.err().map(|e| e.errno());
        assert_eq!(errno(lost.answer(&node, Ok(()), first)), None);
        let failed = || Err(Error::sys("synchronise", "x", Errno::EIO));
        assert_eq!(errno(lost.answer(&node, failed(), first)), Some(Errno::EIO));
        assert_eq!(errno(lost.answer(&other, Ok(()), second)), None);
        let then = [first, second, second, first].map(|asker| errno(lost.answer(&node, Ok(()), asker)));
        assert_eq!(then, [None, Some(Errno::EIO), None, None]);
        // One more error is one for all.
        assert_eq!(errno(lost.answer(&node, failed(), second)), Some(Errno::EIO));
        let then = [third, first, second].map(|asker| errno(lost.answer(&node, Ok(()), asker)));
        assert_eq!(then, [Some(Errno::EIO), Some(Errno::EIO), None]);
    }

    #[test]
    fn threads_of_a_process_are_one() {
        let lost = Lost::default();
        let node = Arc::new(Node::new(NodeId(2), Kind::File, state()));
        let own = || u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        assert!(lost.answer(&node, Err(Errno::EIO.into()), own()).is_err());
        let told = std::thread::scope(|scope| scope.spawn(|| lost.answer(&node, Ok(()), own())).join().unwrap());
        assert!(told.is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let lost = Lost::default();
        let nodes: Vec<_> = (0..100).map(|n| Arc::new(Node::new(NodeId(n), Kind::File, state()))).collect();
        for node in &nodes {
            assert!(lost.answer(node, Err(Errno::EIO.into()), u32::MAX).is_err());
        }
        let told = nodes.iter().filter(|node| lost.answer(node, Ok(()), u32::MAX - 1).is_err()).count();
        assert_eq!(told, NODES);
    }
}
