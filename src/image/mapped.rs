//! Which parts of an image are mapped. Their pages are the page cache's, and come back at once; but as long as they are mapped they count as
//! the daemon's memory, up to the whole image.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of a part, as a power of two: a fault may map a folio of the page cache, which has up to 2 MiB (mm/filemap.c,
/// `filemap_map_pages`).
const PART: u32 = 21;
/// Parts that stay mapped.
const KEPT: usize = 3;

/// The parts that were used last.
#[derive(Debug, Default)]
pub struct Mapped {
    /// Their numbers and one; 0 for none.
    kept: [AtomicU64; KEPT],
    next: AtomicUsize,
}

impl Mapped {
    /// The `len` bytes at `at` of the file were used. Answers which part shall be let go for each that was not used lately: where it begins,
    /// and how long it is.
    pub fn used(&self, at: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
        let last = at.saturating_add(len.saturating_sub(1));
        (at >> PART..=last >> PART).filter_map(|part| self.enter(part)).map(|part| (part << PART, 1 << PART))
    }

    fn enter(&self, part: u64) -> Option<u64> {
        let number = part + 1;
        if self.kept.iter().any(|kept| kept.load(Ordering::Relaxed) == number) {
            return None;
        }
        let place = self.next.fetch_add(1, Ordering::Relaxed) % KEPT;
        let left = self.kept.get(place)?.swap(number, Ordering::Relaxed);
        left.checked_sub(1).filter(|left| *left != part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn let_go(mapped: &Mapped, at: u64, len: u64) -> Vec<u64> {
        mapped.used(at, len).map(|(at, len)| (at / MIB, assert_eq!(len, 2 * MIB)).0).collect()
    }

    #[test]
    fn some_parts_stay() {
        let mapped = Mapped::default();
        for part in [0, 7, 3, 7, 0, 3] {
            assert_eq!(let_go(&mapped, part * 2 * MIB + 5, 100), [0; 0]);
        }
        assert_eq!(let_go(&mapped, 16 * MIB - 1, 1), [0; 0], "it is the end of one");
        assert_eq!(let_go(&mapped, 16 * MIB, 1), [0], "the first of all");
        assert_eq!(let_go(&mapped, 6 * MIB, 1), [0; 0]);
        assert_eq!(let_go(&mapped, 32 * MIB - 1, 2), [14, 6], "it lies in two");
        assert_eq!(let_go(&mapped, 17 * MIB, MIB), [0; 0]);
        assert_eq!(let_go(&mapped, 6 * MIB, 0), [16]);
        assert_eq!(let_go(&mapped, u64::MAX, u64::MAX), [30]);
    }
}
