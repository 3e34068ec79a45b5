//! Writing out. Of a file that is written on end for long, what has come so far goes to the disk while the rest is on its way, so
//! that who makes it durable at the end does not wait for all of it. Short files are left to the kernel: many do not live until it
//! would write them.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::node::Node;
use super::{Durability, Union};
use crate::sys::write_out;

/// So many bytes on end are long. Fewer would be written in more pieces than the disk likes, and more would come too late.
const LONG: u64 = 16 << 20;

/// Bytes that were written on end and are not sent to the disk yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run(Range<u64>);

impl Run {
    /// Bytes were written; true where the run is long.
    fn add(&mut self, offset: u64, len: u64) -> bool {
        if offset != self.0.end {
            self.0 = offset..offset;
        }
        self.0.end = self.0.end.saturating_add(len);
        self.is_long()
    }

    const fn is_long(&self) -> bool {
        self.0.end.saturating_sub(self.0.start) >= LONG
    }

    /// What is to be sent to the disk now, where it is long; the run goes on behind it.
    fn take(&mut self) -> Option<Range<u64>> {
        if !self.is_long() {
            return None;
        }
        let range = self.0.clone();
        self.0.start = range.end;
        Some(range)
    }
}

impl Union {
    /// Bytes were written to a node's file; nobody waits for what is done here.
    pub(super) fn write_out(&self, node: &Node, fd: &Arc<OwnedFd>, offset: u64, len: usize) {
        let is_long = node.open_file().is_some_and(|mut file| file.run().add(offset, len as u64));
        if !is_long || self.options.fsync == Durability::Volatile {
            return;
        }
        // The disk may be slow, and most threads should answer requests meanwhile. What is passed over here stays in the run.
        let Some(_only_one) = self.writing_out.try_lock() else { return };
        let range = node.open_file().and_then(|mut file| file.run().take());
        if let Some(range) = range
            && let Err(e) = write_out::begin(fd, &range)
        {
            tracing::debug!("bytes {range:?} of a file are left for the kernel to write: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = LONG / 4;

    #[test]
    fn what_is_written_on_end_goes_out_in_long_pieces() {
        let mut run = Run::default();
        let mut out = Vec::new();
        for n in 0..11 {
            if run.add(n * PIECE, PIECE) {
                out.extend(run.take());
            }
        }
        assert_eq!(out, [0..LONG, LONG..2 * LONG]);
        assert_eq!(run.take(), None);
    }

    #[test]
    fn what_was_passed_over_goes_out_later() {
        let mut run = Run::default();
        assert!(!run.add(7, LONG - 1));
        assert!(run.add(LONG + 6, 1));
        assert!(run.add(LONG + 7, 5));
        assert_eq!(run.take(), Some(7..LONG + 12));
    }

    #[test]
    fn writing_elsewhere_begins_anew() {
        let mut run = Run::default();
        assert!(!run.add(0, LONG - 1));
        assert!(!run.add(0, LONG - 1));
        assert!(!run.add(LONG, 8));
        assert_eq!(run, Run(LONG..LONG + 8));
        assert!(run.add(u64::MAX - LONG, LONG) && run.add(u64::MAX, 1));
        assert_eq!(run.take(), Some(u64::MAX - LONG..u64::MAX));
    }
}
