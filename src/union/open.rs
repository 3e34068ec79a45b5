//! Descriptors of upper files. The kernel says neither that a file is opened nor that it is closed, so they open with the first
//! use of a file's data, and those used last stay open: without privilege a file may be in use whose mode would not let the daemon
//! open it again.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Union;
use super::node::Node;
use super::syncs::{Unheard, Written};
use super::write_out::Run;
use crate::error::Errno;
use crate::sys::daemon;
use crate::sys::data::OFlags;
use crate::sys::spot::Spot;

/// Files kept open at most, where the limit of descriptors allows so many.
const MOST: usize = 1024;
/// Of the limit of descriptors, the part that files may have.
const SHARE: usize = 4;

/// The descriptor of a node's upper file, for all who use its data.
#[derive(Debug, Default)]
pub struct OpenFile {
    fd: Option<Arc<OwnedFd>>,
    readable: bool,
    writable: bool,
    /// Used since it was last in turn to be closed.
    used: bool,
    run: Run,
    written: Written,
}

impl OpenFile {
    /// What is written to it on end.
    pub(super) const fn run(&mut self) -> &mut Run {
        &mut self.run
    }

    /// It is going to be synchronised. Answers what its descriptor may not tell.
    pub(super) fn synchronise(&mut self) -> Option<Unheard> {
        self.written.synchronise()
    }

    /// It, where there is one.
    #[must_use]
    pub fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.fd.clone()
    }
}

/// Which nodes have one, in the order of opening.
#[derive(Debug)]
pub struct OpenFiles {
    order: Mutex<VecDeque<Weak<Node>>>,
    most: usize,
    /// The last one that had to go. Closing it can wait for an answer, but not for the next one.
    leaving: Mutex<Option<Arc<OwnedFd>>>,
}

impl Default for OpenFiles {
    fn default() -> Self {
        Self::of((daemon::descriptors() / SHARE).clamp(1, MOST))
    }
}

impl OpenFiles {
    /// So many at most.
    fn of(most: usize) -> Self {
        Self { order: Mutex::default(), most, leaving: Mutex::default() }
    }

    /// Closes what had to go.
    fn close_leaving(&self) {
        // Not under the lock.
        let _closed = self.leaving.lock().take();
    }

    /// No descriptor writes any more; the caller holds no node's open file.
    pub(super) fn give_up_writing(&self, any_mode: bool, next_sync: impl Fn() -> u64) {
        self.order.lock().retain(|node| node.upgrade().is_some_and(|node| give_up_writing(&node, any_mode, &next_sync)));
        self.close_leaving();
    }

    /// Another node has a descriptor; the caller holds no node's open file. One that was not used for longest is closed.
    fn admit(&self, node: &Arc<Node>, next_sync: impl Fn() -> u64) {
        let mut next = {
            let mut order = self.order.lock();
            order.push_back(Arc::downgrade(node));
            if order.len() > self.most { order.pop_front() } else { None }
        };
        // Each use gives one more turn; others may use what was looked at meanwhile, but not for ever.
        for turn in 0..=self.most.saturating_add(1) {
            let Some(victim) = next.take().and_then(|victim| victim.upgrade()) else { return };
            let Some(mut data) = victim.open_file() else { return };
            if !data.used || turn > self.most {
                let fd = data.fd.take();
                data.written.close(next_sync());
                drop(data);
                let _closed = std::mem::replace(&mut *self.leaving.lock(), fd);
                return;
            }
            data.used = false;
            drop(data);
            let mut order = self.order.lock();
            order.push_back(Arc::downgrade(&victim));
            next = order.pop_front();
        }
    }
}

impl Union {
    /// The node's shared descriptor of its upper file. The caller holds the node's state.
    pub(super) fn data_fd(&self, node: &Arc<Node>, spot: &Spot, write: bool) -> Result<Arc<OwnedFd>, Errno> {
        let mut data = node.open_file().ok_or(Errno::EISDIR)?;
        if (if write { data.writable } else { data.readable })
            && let Some(fd) = data.fd.clone()
        {
            data.used = true;
            return Ok(fd);
        }
        let (fd, readable, writable) = self.open_for(spot, write)?;
        let fd = Arc::new(fd);
        // One that can do less must not take the place of one that can do what is wanted later.
        if data.fd.is_some() && !(readable && writable) {
            return Ok(fd);
        }
        let first = self.take_over(&mut data, Arc::clone(&fd));
        (data.readable, data.writable, data.used) = (readable, writable, true);
        drop(data);
        if first {
            self.open_files.admit(node, || self.next_sync());
        }
        // Those that were open were closed, perhaps before this one could be seen.
        if !write && writable && self.is_read_only() {
            give_up_writing(node, self.overrules_modes(), || self.next_sync());
        }
        Ok(fd)
    }

    /// An upper file for one who writes, or one who reads: then for both, where it can be written. (descriptor, can read, can write)
    fn open_for(&self, spot: &Spot, write: bool) -> Result<(OwnedFd, bool, bool), Errno> {
        let upper = self.upper.as_ref().ok_or(Errno::EROFS)?;
        if !write && self.is_read_only() {
            return Ok((upper.open_data(spot, OFlags::RDONLY)?, true, false));
        }
        match upper.open_data(spot, OFlags::RDWR) {
            Ok(fd) => Ok((fd, true, true)),
            // Without privilege over modes: whoever may only write could still be served by a write-only descriptor.
            Err(Errno::EACCES) if write => Ok((upper.open_data(spot, OFlags::WRONLY)?, false, true)),
            // Append-only in the upper itself.
            Err(Errno::EPERM) if write => Ok((upper.open_data(spot, OFlags::RDWR | OFlags::APPEND)?, true, true)),
            Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY) if !write => {
                Ok((upper.open_data(spot, OFlags::RDONLY)?, true, false))
            }
            Err(e) => Err(e),
        }
    }

    /// Another descriptor takes over. True where there was none before.
    fn take_over(&self, data: &mut OpenFile, fd: Arc<OwnedFd>) -> bool {
        let before = data.fd.replace(fd);
        if before.is_some() {
            data.written.close(self.next_sync());
        }
        before.is_none()
    }

    /// Writes to a node's file by its descriptor, which somebody may close meanwhile.
    pub(super) fn write_by<T, E>(&self, node: &Node, fd: &Arc<OwnedFd>, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let telling = self.upper.as_ref().map_or(0, |upper| upper.syncs().telling());
        let done = act();
        if let Some(mut data) = node.open_file() {
            data.written.add(telling);
            if !data.fd.as_ref().is_some_and(|open| Arc::ptr_eq(open, fd)) {
                data.written.close(self.next_sync());
            }
        }
        done
    }

    pub(super) fn next_sync(&self) -> u64 {
        self.upper.as_ref().map_or(0, |upper| upper.syncs().next())
    }

    /// Keeps a descriptor that can read and write.
    pub(super) fn keep_open(&self, node: &Arc<Node>, file: Arc<OwnedFd>) {
        let Some(mut data) = node.open_file() else { return };
        let first = self.take_over(&mut data, file);
        (data.readable, data.writable, data.used) = (true, true, true);
        drop(data);
        if first {
            self.open_files.admit(node, || self.next_sync());
        }
    }

    /// What an answer need not wait for: to be called when it was given.
    pub fn tidy(&self) {
        self.open_files.close_leaving();
    }
}

/// Takes the descriptor by which a node is written. Without the right to open it again by `any_mode` another one that only reads stays.
/// False where the node has none any more.
fn give_up_writing(node: &Node, any_mode: bool, next_sync: impl Fn() -> u64) -> bool {
    let Some(mut data) = node.open_file() else { return false };
    if data.writable
        && let Some(fd) = data.fd.take()
    {
        let reading = || Spot::Fd(Arc::clone(&fd)).open_untouched(OFlags::RDONLY).ok().map(Arc::new);
        data.fd = if any_mode { None } else { reading() };
        (data.readable, data.writable) = (data.fd.is_some(), false);
        data.written.close(next_sync());
    }
    data.fd.is_some()
}

/// The open file of a node, where it is open: no name and no permission on the way can then be in the way.
pub(super) fn open_spot(node: &Node, spot: Spot) -> Spot {
    node.open_fd().map_or(spot, Spot::Fd)
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::types::Kind;
    use crate::union::node::{NodeId, Place, State};

    fn node(n: u64) -> Arc<Node> {
        let node = Node::new(NodeId(n), Kind::File, State::new(Place::Upper, SmallVec::new()));
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut file = node.open_file().unwrap();
        (file.fd, file.readable) = (Some(Arc::new(null.into())), true);
        drop(file);
        Arc::new(node)
    }

    #[test]
    fn what_is_used_stays_open() {
        let files = OpenFiles::of(2);
        let nodes: Vec<Arc<Node>> = (0..4).map(node).collect();
        let open = || nodes.iter().map(|node| node.open_file().unwrap().fd.is_some()).collect::<Vec<_>>();
        files.admit(&nodes[0], || 0);
        files.admit(&nodes[1], || 0);
        nodes[0].open_file().unwrap().used = true;
        files.admit(&nodes[2], || 0);
        assert_eq!(open(), [true, false, true, true]);
        nodes.iter().for_each(|node| node.open_file().unwrap().used = true);
        files.admit(&nodes[3], || 0);
        assert_eq!(open().iter().filter(|open| **open).count(), 2);
        assert!(open()[3], "the newest is not closed at once");
    }

    #[test]
    fn what_has_to_go_is_closed_after_the_answer() {
        let files = OpenFiles::of(1);
        let nodes: Vec<Arc<Node>> = (0..3).map(node).collect();
        let fds: Vec<_> = nodes.iter().map(|node| Arc::downgrade(&node.open_fd().unwrap())).collect();
        let open = || fds.iter().map(|fd| fd.upgrade().is_some()).collect::<Vec<_>>();
        nodes.iter().take(2).for_each(|node| files.admit(node, || 0));
        assert!(nodes[0].open_fd().is_none());
        assert_eq!(open(), [true, true, true]);
        files.admit(&nodes[2], || 0);
        assert_eq!(open(), [false, true, true], "one alone waits");
        files.close_leaving();
        assert_eq!(open(), [false, false, true]);
    }

    #[test]
    fn nodes_that_went_need_no_turn() {
        let files = OpenFiles::of(1);
        files.admit(&node(0), || 0);
        let kept = node(1);
        files.admit(&kept, || 0);
        assert!(kept.open_file().unwrap().fd.is_some());
    }
}
