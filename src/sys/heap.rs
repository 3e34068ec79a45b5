//! The C library's heap.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Makes all threads share one heap, to be called before the first thread starts.
///
/// glibc gives each thread an arena, and each arena keeps what was freed in it. Readers that pass 128 KiB blocks through a
/// shared cache free them in another thread than they were allocated in: four of them were measured to keep 52 MB where the
/// cache held 23 MB, and 30 MB with one arena, at the same speed.
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) has no preconditions; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that nobody uses any more back to the system; glibc keeps it otherwise. Takes some milliseconds.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) has no preconditions and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the heap grows by, for who has the kernel make new pages before others need them. One costs a fault of 2 us on a virtual machine,
/// and of up to 30 us where the host must find a page first.
#[derive(Debug, Default)]
pub struct Growth {
    /// Where the heap ended last time; 0 before.
    end: AtomicUsize,
}

/// So many bytes are made at a time, at most. glibc lets the heap grow by 128 KiB and what it needs at once (`DEFAULT_TOP_PAD`).
const MOST: usize = 1 << 20;
/// So many bytes are made by one call, during which the heap cannot grow.
const PIECE: usize = 64 << 10;

impl Growth {
    /// Makes the pages by which the heap has grown since the last time; true if it has.
    pub fn follow(&self) -> bool {
        let Some(new) = self.until(end()) else { return false };
        new.clone().step_by(PIECE).for_each(|at| make_pages(at, PIECE.min(new.end - at)));
        true
    }

    /// What is new where the heap ends at `end`; nothing the first time.
    fn until(&self, end: usize) -> Option<Range<usize>> {
        let before = self.end.swap(end, Ordering::Relaxed);
        (before != 0 && end > before).then(|| before.max(end.saturating_sub(MOST))..end)
    }
}

/// Where the heap ends at present; 0 where nobody can tell.
fn end() -> usize {
    #[cfg(target_env = "gnu")]
    // SAFETY: without an increment glibc's sbrk(3) reads one word, which may be an old one.
    let end = unsafe { libc::sbrk(0) } as usize;
    #[cfg(not(target_env = "gnu"))]
    let end = 0;
    end
}

/// Has the kernel make the pages that begin among these bytes. Nothing happens where they are gone meanwhile, or Linux is before 5.14.
fn make_pages(at: usize, len: usize) {
    let page = rustix::param::page_size();
    let from = at.next_multiple_of(page);
    let len = (at + len).saturating_sub(from);
    // SAFETY: this changes no byte of a page and takes none away, whatever lies there (madvise(2), MADV_POPULATE_WRITE).
    unsafe {
        libc::madvise(from as *mut libc::c_void, len, libc::MADV_POPULATE_WRITE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages of fresh memory are there after `make` got its first page and the size of each.
    fn there(make: impl FnOnce(usize, usize)) -> usize {
        let page = rustix::param::page_size();
        // More than any heap has: glibc maps it (mallopt(3), M_MMAP_THRESHOLD).
        let memory = vec![0_u8; 64 << 20];
        let first = (memory.as_ptr() as usize + 1).next_multiple_of(page);
        make(first, page);
        let mut seen = [0_u8; 16];
        // SAFETY: these pages are all of `memory`, and `seen` has a byte for each.
        let done = unsafe { libc::mincore(first as *mut libc::c_void, seen.len() * page, seen.as_mut_ptr()) };
        assert_eq!(done, 0);
        assert!(memory.iter().all(|&byte| byte == 0));
        seen.iter().filter(|&&state| state & 1 == 1).count()
    }

    #[test]
    fn pages_that_begin_there_are_made() {
        assert_eq!(there(|_, _| {}), 0);
        assert_eq!(there(|at, page| make_pages(at, 8 * page)), 8);
        assert_eq!(there(|at, page| make_pages(at + 1, 2 * page)), 2);
        assert_eq!(there(|at, _| make_pages(at + 1, 5)), 0);
    }

    #[test]
    fn nothing_happens_where_nothing_is() {
        let page = rustix::param::page_size();
        make_pages(page, page);
        make_pages(page, 0);
    }

    #[test]
    fn what_is_new_lies_at_the_end() {
        let growth = Growth::default();
        assert_eq!(growth.until(4096), None, "nobody knows by how much");
        assert_eq!(growth.until(4096), None);
        assert_eq!(growth.until(9000), Some(4096..9000));
        assert_eq!(growth.until(100), None, "it may shrink");
        assert_eq!(growth.until(100 + 3 * MOST), Some(100 + 2 * MOST..100 + 3 * MOST));
        assert_eq!(growth.until(0), None);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_heap_has_an_end() {
        assert!(end() > 0);
    }
}
