//! Decompressed blocks of file data, and the few buffers that go round among them.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cache::Weight;

/// Buffers that wait for their next block, at most: about as many as threads that decompress at one time.
const SPARE: usize = 4;

/// Gives out buffers of one size, and takes those of dropped blocks back. A cache that is full asks for a buffer whenever it has
/// just dropped one. Through the heap, what small things left between them grew with each pass over an image.
#[derive(Debug)]
pub struct Buffers {
    size: usize,
    spare: Mutex<Vec<Box<[u8]>>>,
}

/// A decompressed block or fragment.
#[derive(Debug)]
pub struct Block {
    /// A whole buffer where it has a home, else just the block.
    buffer: Box<[u8]>,
    len: usize,
    /// Where the buffer goes when the block is dropped.
    home: Option<Arc<Buffers>>,
}

impl Buffers {
    /// Gives out buffers of `size` bytes.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size, spare: Mutex::new(Vec::new()) }
    }

    /// A block that `fill` makes in the first `most` bytes of a buffer; it answers how many it wrote. What the buffer held before
    /// is never part of a block.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn block<E>(self: &Arc<Self>, most: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Arc<Block>, E> {
        let mut whole = Block { buffer: self.take(), len: 0, home: Some(Arc::clone(self)) };
        let most = most.min(self.size);
        whole.len = fill(whole.buffer.get_mut(..most).unwrap_or_default())?.min(most);
        // Most fragments are nearly full: they stay where they are.
        if whole.len > self.size / 4 * 3 {
            return Ok(Arc::new(whole));
        }
        let short: Box<[u8]> = (*whole).into();
        Ok(Arc::new(Block { len: short.len(), buffer: short, home: None }))
    }

    fn take(&self) -> Box<[u8]> {
        let spare = self.spare.lock().pop();
        spare.unwrap_or_else(|| vec![0; self.size].into_boxed_slice())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let mut spare = home.spare.lock();
            if spare.len() < SPARE {
                spare.push(std::mem::take(&mut self.buffer));
            }
        }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Weight for Arc<Block> {
    fn weight(&self) -> u64 {
        (self.buffer.len() + size_of::<Block>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Arc<Buffers>, most: usize, with: u8, len: usize) -> Arc<Block> {
        let fill = |room: &mut [u8]| {
            assert_eq!(room.len(), most);
            room[..len].fill(with);
            Ok::<_, ()>(len)
        };
        buffers.block(most, fill).unwrap()
    }

    #[test]
    fn a_buffer_goes_round_and_takes_nothing_along() {
        let buffers = Arc::new(Buffers::new(8));
        let first = filled(&buffers, 8, 1, 8);
        let at = first.as_ptr();
        drop(first);
        let short = filled(&buffers, 6, 2, 3);
        assert_eq!(**short, [2, 2, 2]);
        let second = filled(&buffers, 8, 3, 7);
        assert_eq!((second.as_ptr(), &**second), (at, &[3; 7][..]));
    }

    #[test]
    fn a_failure_gives_the_buffer_back() {
        let buffers = Arc::new(Buffers::new(8));
        assert_eq!(buffers.block(8, |_| Err("damaged")).unwrap_err(), "damaged");
        assert_eq!(buffers.spare.lock().len(), 1);
    }

    #[test]
    fn few_buffers_wait() {
        let buffers = Arc::new(Buffers::new(8));
        let many: Vec<_> = (0..20).map(|n| filled(&buffers, 8, n, 8)).collect();
        assert!(many.iter().zip(0..).all(|(block, n)| ***block == [n; 8]));
        drop(many);
        assert_eq!(buffers.spare.lock().len(), SPARE);
    }
}
