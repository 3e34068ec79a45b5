//! The data of a file that is copied up: piece by piece, and of large files several pieces at a time, for decompressing them takes
//! longer than writing.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::Durability;
use super::lower::{Lower, Seek};
use super::node::LowerAt;
use super::write_out::{LONG, send};
use crate::error::{Errno, Error, Result};
use crate::sys::data;

/// Bytes read from a lower at a time.
const PIECE: u64 = 1 << 20;
/// Smaller files are done before another thread has started.
const LARGE: u64 = 8 * PIECE;
/// More threads would only wait for the disk.
const MOST_THREADS: usize = 4;

/// Where data are, in order.
struct Pieces<'a> {
    lower: &'a dyn Lower,
    source: LowerAt,
    /// From here on nothing was handed out yet.
    at: u64,
    /// The end of the data at `at`.
    end: u64,
    size: u64,
    /// The disk has been told to write what lies before.
    sent: u64,
}

impl Pieces<'_> {
    /// Position and length of the next piece; `None` where nothing but holes follows.
    fn next(&mut self) -> Result<Option<(u64, u64)>> {
        if self.at >= self.end {
            if self.at >= self.size {
                return Ok(None);
            }
            self.at = match self.lower.seek(self.source.id, self.at, Seek::Data) {
                Ok(start) => start,
                Err(e) if e.errno() == Errno::ENXIO => return Ok(None),
                Err(e) => return Err(e),
            };
            self.end = self.lower.seek(self.source.id, self.at, Seek::Hole)?.min(self.size);
        }
        let piece = (self.at, (self.end.saturating_sub(self.at)).min(PIECE));
        self.at = self.at.saturating_add(piece.1);
        Ok((piece.1 > 0).then_some(piece))
    }

    /// What was handed out and is long enough to be sent to the disk. Pieces that others are still writing are left for later.
    fn take_unsent(&mut self) -> Option<Range<u64>> {
        let range = self.sent..self.at;
        if range.end.saturating_sub(range.start) < LONG {
            return None;
        }
        self.sent = range.end;
        Some(range)
    }
}

/// How many threads copy a large file. It is looked for once, before anything is served: for that, paths are opened, which could lead
/// back to whoever waits for the copy.
pub(super) fn most_threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS))
}

/// Copies what is not a hole; the size is exact at the end. Where it is to be durable then, the disk begins to write meanwhile.
///
/// # Errors
/// `EIO` from a damaged lower, `ENOSPC` and the upper's other answers.
pub(super) fn copy_data(
    lower: &dyn Lower,
    source: LowerAt,
    size: u64,
    to: impl AsFd + Sync,
    durability: Durability,
) -> Result<()> {
    let sent = if durability == Durability::Volatile { u64::MAX } else { 0 };
    let pieces = Mutex::new(Pieces { lower, source, at: 0, end: 0, size, sent });
    let threads = if size < LARGE { 1 } else { most_threads() };
    if threads == 1 {
        copy_pieces(&pieces, &to, &AtomicBool::new(false))?;
    } else {
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            let copy = || copy_pieces(&pieces, &to, &failed);
            let others: Vec<_> = (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, copy).ok()).collect();
            // All are waited for, whatever the first says.
            let own = copy();
            let answers = others.into_iter().map(|other| other.join().unwrap_or_else(|_| Err(Errno::EIO.into())));
            answers.fold(own, Result::and)
        })?;
    }
    Ok(data::truncate(&to, size)?)
}

fn copy_pieces(pieces: &Mutex<Pieces<'_>>, to: impl AsFd, failed: &AtomicBool) -> Result<()> {
    let (lower, source) = {
        let pieces = pieces.lock();
        (pieces.lower, pieces.source)
    };
    let copy = || -> Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let (unsent, piece) = {
                let mut pieces = pieces.lock();
                (pieces.take_unsent(), pieces.next()?)
            };
            if let Some(range) = unsent {
                send(&to, &range);
            }
            let Some((at, len)) = piece else { return Ok(()) };
            copy_piece(lower, source, (at, len), &to)?;
        }
        Ok(())
    };
    let answer = copy();
    if answer.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
    answer
}

fn copy_piece(lower: &dyn Lower, source: LowerAt, (start, len): (u64, u64), to: impl AsFd) -> Result<()> {
    let (mut at, end) = (start, start.saturating_add(len));
    while at < end {
        let bytes = lower.read(source.id, at, usize::try_from(end - at).unwrap_or(usize::MAX))?;
        if bytes.is_empty() {
            return Err(Errno::EIO.into());
        }
        let written = data::write_at(&to, &bytes, at).map_err(|e| Error::sys("write copied data", "", e))?;
        // Why it was not all the next one tells.
        if written == 0 {
            return Err(Errno::ENOSPC.into());
        }
        if !lower.is_intact(&bytes) {
            return Err(Errno::EIO.into());
        }
        at += written as u64;
    }
    Ok(())
}
