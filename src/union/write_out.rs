//! Writing out. Of a file that grows on end for long, what has come so far goes to the disk while the rest is on its way, so that who
//! makes it durable at the end does not wait for all of it. Short files are left to the kernel, for many do not live until it would
//! write them; so are bytes that are written over, which may be written over again. What was sent leaves the upper's pages soon after.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use super::node::Node;
use super::{Durability, Union};
use crate::sys::fuse_mount::page_size;
use crate::sys::write_out;

/// So many bytes on end are long. Fewer would be written in more pieces than the disk likes, and more would come too late.
pub(super) const LONG: u64 = 16 << 20;

/// Pieces that wait for the disk, at most; each keeps a file open.
const WAITING: usize = 4;

/// Bytes by which a file grew on end and that are not sent to the disk yet.
#[derive(Debug, Default)]
pub struct Run {
    /// The first of them. Behind `end` where bytes are being written over.
    start: u64,
    /// Where the last write ended.
    end: u64,
    /// The furthest that any has ended.
    highest: u64,
    /// A write since `start` began within a page.
    uneven: bool,
    /// There is one until bytes are written over.
    grown: Option<Arc<()>>,
}

impl Run {
    /// Bytes were written. Answers what is to be sent to the disk, once that is long.
    fn add(&mut self, offset: u64, len: u64) -> Option<Range<u64>> {
        if offset < self.highest {
            self.written_over();
        }
        if offset != self.end {
            self.start = offset.max(self.highest);
            self.uneven = false;
        }
        self.uneven |= !offset.is_multiple_of(page_size() as u64);
        self.end = offset.saturating_add(len);
        self.highest = self.highest.max(self.end);
        (self.end.saturating_sub(self.start) >= LONG).then_some(self.start..self.end)
    }

    /// What is sent now, for as long as none of it is written over; nothing where a page was written in parts: the kernel reads such a
    /// page of the union's file once more, before anybody can (fs/fuse/file.c, `fuse_fill_write_pages`).
    fn grown(&mut self) -> Weak<()> {
        if self.uneven {
            return Weak::new();
        }
        Arc::downgrade(self.grown.get_or_insert_default())
    }

    /// It was sent.
    const fn sent(&mut self) {
        self.start = self.end;
        self.uneven = false;
    }

    /// Bytes that were sent are others now.
    pub(super) fn written_over(&mut self) {
        self.grown = None;
    }

    /// The file has a new size.
    pub(super) fn cut(&mut self, size: u64) {
        if size < self.highest {
            self.written_over();
        }
        self.highest = self.highest.min(size);
    }
}

/// Pieces that the disk may still be writing.
const ON_THE_WAY: usize = 2;
/// Nothing more comes where nothing has come for so long.
const PAUSE: Duration = Duration::from_millis(500);

/// Bytes of a file, and whether they are still those that were sent.
#[derive(Debug)]
struct Piece<F> {
    fd: F,
    range: Range<u64>,
    grown: Weak<()>,
}

/// A way to the disk: a thread that alone waits for it, from the first piece on. `None` where it cannot be started.
#[derive(Debug, Default)]
pub(super) struct Outlet(OnceLock<Option<SyncSender<Piece<Arc<OwnedFd>>>>>);

impl Outlet {
    /// False while it has enough to do.
    fn take(&self, piece: Piece<Arc<OwnedFd>>) -> bool {
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

fn send_all(pieces: &Receiver<Piece<Arc<OwnedFd>>>) {
    let mut sent = VecDeque::with_capacity(ON_THE_WAY + 1);
    while let Ok(first) = pieces.recv() {
        let mut next = Some(first);
        while let Some(Piece { fd, range, grown }) = next {
            send(&fd, &range);
            sent.push_back(Piece { fd: Arc::downgrade(&fd), range, grown });
            drop(fd);
            if sent.len() > ON_THE_WAY {
                sent.pop_front().into_iter().for_each(let_go);
            }
            next = pieces.recv_timeout(PAUSE).ok();
        }
        sent.drain(..).for_each(let_go);
    }
}

/// What a program has written is read from the pages of the union's file; those of the upper's are a second copy, which goes where the
/// disk has it by now. What was written over stays, or the kernel would write it once more.
fn let_go(Piece { fd, range, grown }: Piece<Weak<OwnedFd>>) {
    // Nobody keeps a file for this: it may have been removed.
    let (Some(fd), Some(_)) = (fd.upgrade(), grown.upgrade()) else { return };
    if let Err(e) = write_out::forget(fd, &range) {
        tracing::debug!("bytes {range:?} of a file stay in memory twice: {e}");
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
        let Some(range) = file.run().add(offset, len as u64) else { return };
        // Where each open(2) drops the union's pages, the upper's are all there are.
        let grown = if self.stamps_every_reading() { Weak::new() } else { file.run().grown() };
        // What cannot be taken stays in the run.
        if self.outlet.take(Piece { fd: Arc::clone(fd), range, grown }) {
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
    fn what_is_written_over_is_not_let_go_of() {
        let mut run = Run::default();
        assert_eq!(out(&mut run, [(0, LONG)]), [(0, LONG)]);
        let first = run.grown();
        assert_eq!(out(&mut run, [(LONG, LONG)]), [(LONG, 2 * LONG)]);
        assert!(first.upgrade().is_some() && run.grown().upgrade().is_some());
        run.add(LONG, LONG);
        assert!(first.upgrade().is_none());
        let second = run.grown();
        assert!(second.upgrade().is_some());
        run.cut(2 * LONG);
        assert!(second.upgrade().is_some());
        run.cut(2 * LONG - 1);
        assert!(second.upgrade().is_none());
    }

    #[test]
    fn what_is_written_in_parts_of_pages_is_not_let_go_of() {
        let mut run = Run::default();
        for (writes, goes) in [(LONG / 8192, true), (LONG / 10_000 + 1, false), (LONG / 65_536, true)] {
            let (at, len) = (run.end.next_multiple_of(page_size() as u64), LONG.div_ceil(writes));
            run.end = at;
            assert_eq!((0..writes).filter_map(|n| run.add(at + n * len, len)).count(), 1, "{writes}");
            assert_eq!(run.grown().upgrade().is_some(), goes, "{writes}");
            run.sent();
        }
        run.add(run.end + 1, 1);
        run.add(2 * run.end.next_multiple_of(LONG), LONG);
        assert!(run.grown().upgrade().is_some(), "what was written before is not in this piece");
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
