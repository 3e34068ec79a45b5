//! Writing out. Of a file that grows on end for long, what has come so far goes to the disk while the rest is on its way, so that who
//! makes it durable at the end does not wait for all of it. Short files are left to the kernel, for many do not live until it would
//! write them; so are bytes that are written over, which may be written over again.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::node::Node;
use super::{Durability, Union};
use crate::sys::write_out;

/// So many bytes on end are long. Fewer would be written in more pieces than the disk likes, and more would come too late.
pub(super) const LONG: u64 = 16 << 20;

/// Pieces that wait for the disk, at most; each keeps a file open.
const WAITING: usize = 4;

/// Bytes by which a file grew on end and that are not sent to the disk yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The first of them. Behind `end` where bytes are being written over.
    start: u64,
    /// Where the last write ended.
    end: u64,
    /// The furthest that any has ended.
    highest: u64,
}

impl Run {
    /// Bytes were written. Answers what is to be sent to the disk, once that is long.
    fn add(&mut self, offset: u64, len: u64) -> Option<Range<u64>> {
        if offset != self.end {
            self.start = offset.max(self.highest);
        }
        self.end = offset.saturating_add(len);
        self.highest = self.highest.max(self.end);
        (self.end.saturating_sub(self.start) >= LONG).then_some(self.start..self.end)
    }

    /// It was sent.
    const fn sent(&mut self) {
        self.start = self.end;
    }

    /// The file has a new size.
    pub(super) fn cut(&mut self, size: u64) {
        self.highest = self.highest.min(size);
    }
}

type Piece = (Arc<OwnedFd>, Range<u64>);

/// A way to the disk: a thread that alone waits for it, from the first piece on. `None` where it cannot be started.
#[derive(Debug, Default)]
pub(super) struct Outlet(OnceLock<Option<SyncSender<Piece>>>);

impl Outlet {
    /// False while it has enough to do.
    fn take(&self, piece: Piece) -> bool {
        let open = || {
            let (sender, pieces) = sync_channel(WAITING);
            let thread = thread::Builder::new().name("write-out".to_owned());
            let started = thread.spawn(move || send_all(&pieces));
            started.inspect_err(|e| tracing::debug!("long files are left for the kernel to write: no thread: {e}")).ok()?;
            Some(sender)
        };
        self.0.get_or_init(open).as_ref().is_some_and(|sender| sender.try_send(piece).is_ok())
    }
}

fn send_all(pieces: &Receiver<Piece>) {
    while let Ok((fd, range)) = pieces.recv() {
        send(fd, &range);
    }
}

/// Sends bytes of a file to the disk; where that fails, they stay with the kernel.
pub(super) fn send(fd: impl AsFd, range: &Range<u64>) {
    if let Err(e) = write_out::begin(fd, range) {
        tracing::debug!("bytes {range:?} of a file are left for the kernel to write: {e}");
    }
}

impl Union {
    /// Bytes were written to a node's file.
    pub(super) fn write_out(&self, node: &Node, fd: &Arc<OwnedFd>, offset: u64, len: usize) {
        if self.options.fsync == Durability::Volatile {
            return;
        }
        let Some(mut file) = node.open_file() else { return };
        let long = file.run().add(offset, len as u64);
        // What cannot be taken stays in the run.
        if let Some(range) = long
            && self.outlet.take((Arc::clone(fd), range))
        {
            file.run().sent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = LONG / 4;

    /// What goes out of these writes, if all that is long is taken.
    fn out(run: &mut Run, writes: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let mut add = |(offset, len)| {
            let range = run.add(offset, len)?;
            run.sent();
            Some((range.start, range.end))
        };
        writes.into_iter().filter_map(&mut add).collect()
    }

    #[test]
    fn what_is_written_on_end_goes_out_in_long_pieces() {
        assert_eq!(out(&mut Run::default(), (0..11).map(|n| (n * PIECE, PIECE))), [(0, LONG), (LONG, 2 * LONG)]);
    }

    #[test]
    fn what_was_not_taken_goes_out_later() {
        let mut run = Run::default();
        assert_eq!(run.add(7, LONG - 1), None);
        assert_eq!(run.add(LONG + 6, 1), Some(7..LONG + 7));
        assert_eq!(run.add(LONG + 7, 5), Some(7..LONG + 12));
    }

    #[test]
    fn what_is_written_over_stays() {
        let mut run = Run::default();
        let ring: Vec<_> = (0..6).map(|n| (n * PIECE, PIECE)).collect();
        assert_eq!(out(&mut run, ring.clone()), [(0, LONG)]);
        for _ in 0..5 {
            assert_eq!(out(&mut run, ring.clone()), []);
        }
        // It grows again.
        assert_eq!(out(&mut run, (6..10).map(|n| (n * PIECE, PIECE))), [(6 * PIECE, 10 * PIECE)]);
        run.cut(0);
        assert_eq!(out(&mut run, ring), [(0, LONG)]);
    }

    #[test]
    fn writing_elsewhere_begins_anew() {
        let mut run = Run::default();
        assert_eq!(out(&mut run, [(0, LONG - 1), (LONG, 8), (LONG + 8, LONG - 9)]), []);
        assert_eq!(out(&mut run, [(2 * LONG - 1, 1)]), [(LONG, 2 * LONG)]);
        assert_eq!(out(&mut run, [(u64::MAX - LONG, LONG), (u64::MAX, 1)]), [(u64::MAX - LONG, u64::MAX)]);
    }
}
