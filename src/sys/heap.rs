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
    /// All pages below are made, or were there when it was looked at first; 0 before.
    made: AtomicUsize,
}

/// So much of the end of the heap is made, at most. glibc lets the heap grow by 128 KiB and what it needs at once (`DEFAULT_TOP_PAD`).
const MOST: usize = 1 << 20;
/// So many bytes are made at a time: meanwhile the heap cannot grow, nor may anything be mapped.
const PIECE: usize = 16 << 10;

impl Growth {
    /// Makes some of the pages by which the heap has grown since the last time; false once there are none left.
    pub fn follow(&self) -> bool {
        let Some(new) = self.next(end()) else { return false };
        make_pages(new.start, new.len());
        true
    }

    /// What is to be made next where the heap ends at `end`.
    fn next(&self, end: usize) -> Option<Range<usize>> {
        let made = self.made.load(Ordering::Relaxed);
        if made == end {
            return None;
        }
        let is_grown = made != 0 && end > made;
        let from = if is_grown { made.max(end.saturating_sub(MOST)) } else { end };
        let until = end.min(from.saturating_add(PIECE));
        self.made.store(until, Ordering::Relaxed);
        is_grown.then_some(from..until)
    }
}

/// Where the heap ends at present; 0 where nobody can tell.
fn end() -> usize {
    #[cfg(target_env = "gnu")]
    // SAFETY: without an increment glibc's sbrk(3) reads one word, which may be an old one.
    let end = unsafe { libc::sbrk(0) } as usize;
    #[cfg(not(target_env = "gnu"))]
    let end = usize::MAX;
    // That is -1, for a refusal.
    if end == usize::MAX { 0 } else { end }
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

    /// How many pages of fresh memory are there after `make` got its address and the size of a page.
    fn there(make: impl FnOnce(usize, usize)) -> usize {
        const PAGES: usize = 16;
        let page = rustix::param::page_size();
        let mut seen = [0_u8; PAGES];
        // SAFETY: the mapping is a new one of its own, and is gone before this returns; `seen` has a byte for each of its pages.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), PAGES * page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            libc::madvise(at, PAGES * page, libc::MADV_NOHUGEPAGE);
            make(at as usize, page);
            assert_eq!(libc::mincore(at, PAGES * page, seen.as_mut_ptr()), 0);
            libc::munmap(at, PAGES * page);
        }
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
    fn what_is_new_is_made_piece_by_piece() {
        let growth = Growth::default();
        assert_eq!(growth.next(4096), None, "nobody knows what is new");
        assert_eq!(growth.next(4096), None);
        assert_eq!(growth.next(9000), Some(4096..9000));
        assert_eq!(growth.next(9000), None);
        assert_eq!(growth.next(100), None, "it may shrink");
        let end = 100 + 3 * MOST;
        assert_eq!(growth.next(end), Some(end - MOST..end - MOST + PIECE));
        assert_eq!((0..1000).take_while(|_| growth.next(end).is_some()).count(), MOST / PIECE - 1);
        assert_eq!(growth.next(0), None);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_heap_is_followed_to_its_end() {
        let growth = Growth::default();
        // Other tests let it grow and shrink, too.
        let begins = (0..100).any(|_| {
            growth.made.store(end().checked_sub(3 * PIECE).unwrap(), Ordering::Relaxed);
            growth.follow()
        });
        assert!(begins && (0..10_000).any(|_| !growth.follow()));
    }
}
