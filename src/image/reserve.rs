//! A reserve of decompressed blocks outside of this process: pages of the kernel, which it takes back when it has a better use for
//! them. So a block that was driven out of the caches here need not be decompressed again, and costs no memory that is ours.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::cache::gives_way;

/// Pages that hold what was stored, until the kernel takes them back.
pub trait Pages: Send + Sync {
    /// Bytes from offset 0 on that may be stored.
    fn room(&self) -> u64;

    /// Fills `room` with what was stored at `offset`; false where not all of that is held any more.
    fn read(&self, offset: u64, room: &mut [u8]) -> bool;

    /// Stores bytes at an offset that is a multiple of the page size, and zeros to the end of the last page; what lay there before is
    /// the same. False where they are not held.
    fn store(&self, offset: u64, bytes: &[u8]) -> bool;
}

/// Blocks that are remembered, at most: 2 GiB of data in blocks of 128 KiB.
const MOST: u64 = 1 << 14;
/// And at least.
const FEWEST: u64 = 1 << 8;
/// Bytes of an image for which one block is remembered: about a compressed block of text, or two of metadata.
const PER_NOTE: u64 = 8 << 10;
/// Notes among which a block has its own.
const WAYS: usize = 4;
/// Bytes between the places of two blocks at least: a multiple of every page size.
const STRIDE: u64 = 64 << 10;

/// A compressed block: its position in the image, and its bytes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Position of its first byte.
    pub at: u64,
    /// Its bytes; more than 0.
    pub size: u32,
}

/// So many decompressed blocks later a block must come again at least: earlier it was asked for while it was being decompressed, or
/// it was driven out of the cache before anybody came.
const APART: u32 = 6;

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was decompressed as the block with this number, and that is all.
    Seen(u32),
    /// It was decompressed again: what is decompressed once is mostly read to its end then, or kept.
    Wanted,
    /// So many bytes of its content are in reserve, if the kernel still has them.
    Held(u32),
}

#[derive(Clone, Copy, Debug)]
struct Note {
    packed: Packed,
    state: State,
}

impl Note {
    const NONE: Self = Self { packed: Packed { at: 0, size: 0 }, state: State::Seen(0) };

    /// Which of a set has to go first.
    const fn rank(&self) -> u8 {
        match self.state {
            _ if self.packed.size == 0 => 0,
            State::Seen(_) => 1,
            State::Wanted => 2,
            State::Held(_) => 3,
        }
    }
}

/// Notes, by a hash of the position.
struct Notes {
    notes: Box<[Note]>,
    /// Which of the notes of a set is the next to be replaced.
    turn: usize,
}

impl Notes {
    /// Notes for an image of so many bytes.
    fn new(image: u64) -> Self {
        let most = (image / PER_NOTE).clamp(FEWEST, MOST).next_power_of_two();
        Self { notes: vec![Note::NONE; most as usize].into_boxed_slice(), turn: 0 }
    }

    fn set(&mut self, packed: Packed) -> &mut [Note] {
        let sets = self.notes.len() / WAYS;
        // The golden ratio's digits spread positions that are multiples of something (Knuth, volume 3, 6.4).
        let set = (packed.at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % sets;
        self.notes.get_mut(set * WAYS..(set + 1) * WAYS).unwrap_or_default()
    }

    fn get(&mut self, packed: Packed) -> Option<State> {
        self.set(packed).iter().find(|note| note.packed == packed).map(|note| note.state)
    }

    /// Notes a block, in place of one that is not known to be in reserve or, if all others are, of one of them; each in its turn.
    fn put(&mut self, packed: Packed, state: State) {
        self.turn = (self.turn + 1) % WAYS;
        let turn = self.turn;
        let set = self.set(packed);
        let same = set.iter().position(|note| note.packed == packed);
        let turns = || (0..WAYS).map(|n| (turn + n) % WAYS);
        let place = same.or_else(|| turns().min_by_key(|&n| set.get(n).map(Note::rank)));
        if let Some(note) = place.and_then(|place| set.get_mut(place)) {
            *note = Note { packed, state };
        }
    }

    fn forget(&mut self, packed: Packed) {
        self.set(packed).iter_mut().filter(|note| note.packed == packed).for_each(|note| *note = Note::NONE);
    }
}

struct Store {
    pages: Box<dyn Pages>,
    notes: Mutex<Notes>,
    /// What was looked for last was there.
    is_held: AtomicBool,
}

/// The reserve of one image; empty until it is given pages.
///
/// A block's place is its position times the bytes between two places, so blocks never share a byte, and what is stored twice in
/// one place is the same, but in an image that gives one position two sizes: there the content by one may be found for the other, with zeros
/// behind it.
pub struct Reserve {
    store: OnceLock<Store>,
    stride: u64,
    image: u64,
    found: AtomicU64,
}

impl Reserve {
    /// For an image of `image` bytes, in blocks of at most `block_size` bytes of content.
    #[must_use]
    pub fn new(image: u64, block_size: u32) -> Self {
        Self { image, store: OnceLock::new(), stride: u64::from(block_size).max(STRIDE), found: AtomicU64::new(0) }
    }

    /// Keeps blocks in `pages` from now on; the first stay.
    pub fn begin(&self, pages: Box<dyn Pages>) {
        let notes = Mutex::new(Notes::new(self.image));
        let _first_stays = self.store.set(Store { pages, notes, is_held: AtomicBool::new(true) });
    }

    /// How often something was found.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// Whether there are pages.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.store.get().is_some()
    }

    /// Who gives way to others has no descriptor for the pages.
    fn in_reach(&self) -> Option<&Store> {
        self.store.get().filter(|_| !gives_way())
    }

    /// Whether a block could be in reserve, and is not.
    #[must_use]
    pub fn lacks(&self, block: Packed) -> bool {
        self.is_there() && self.len_of(block).is_none()
    }

    /// The bytes of content of a block that is in reserve.
    #[must_use]
    pub fn len_of(&self, block: Packed) -> Option<usize> {
        match self.store.get()?.notes.lock().get(block)? {
            State::Held(len) => Some(len as usize),
            State::Seen(_) | State::Wanted => None,
        }
    }

    /// Whether a block is in reserve, as far as that can be told without looking: not where the kernel has begun to take pages back.
    #[must_use]
    pub fn seems_to_have(&self, block: Packed) -> bool {
        self.store.get().is_some_and(|store| store.is_held.load(Ordering::Relaxed)) && self.len_of(block).is_some()
    }

    /// Fills `room` with the content of a block from byte `skip` on; false where that is not in reserve.
    #[must_use]
    pub fn read(&self, block: Packed, skip: usize, room: &mut [u8]) -> bool {
        let (Some(store), Some(len)) = (self.in_reach(), self.len_of(block)) else { return false };
        if skip.checked_add(room.len()).is_none_or(|end| end > len) {
            return false;
        }
        let place = store.place(block, len, self.stride);
        let Some(offset) = place.and_then(|place| place.checked_add(skip as u64)) else { return false };
        let is_held = store.pages.read(offset, room);
        store.is_held.store(is_held, Ordering::Relaxed);
        if is_held {
            self.found.fetch_add(1, Ordering::Relaxed);
        } else {
            store.notes.lock().forget(block);
        }
        is_held
    }

    /// Puts the content of a block in reserve, unless it is; true where it has now come there.
    pub fn keep(&self, block: Packed, content: &[u8]) -> bool {
        let Some(store) = self.in_reach() else { return false };
        let (Some(place), Ok(len)) = (store.place(block, content.len(), self.stride), u32::try_from(content.len())) else {
            return false;
        };
        let is_new = self.len_of(block).is_none() && store.pages.store(place, content);
        if is_new {
            store.notes.lock().put(block, State::Held(len));
        }
        is_new
    }

    /// A block was decompressed, by whomever, as the block with this number. It is wanted if it was before, no more than `within` blocks
    /// ago.
    pub fn saw(&self, block: Packed, number: u32, within: u32) {
        let Some(store) = self.store.get() else { return };
        let mut notes = store.notes.lock();
        match notes.get(block) {
            Some(State::Seen(before)) if number.wrapping_sub(before) < APART => {}
            Some(State::Seen(before)) if number.wrapping_sub(before) <= within => notes.put(block, State::Wanted),
            None | Some(State::Seen(_)) => notes.put(block, State::Seen(number)),
            Some(State::Wanted | State::Held(_)) => {}
        }
    }

    /// Puts the content of a block in reserve when that is wanted; one of those who use it does, and once.
    pub fn keep_if_wanted(&self, block: Packed, content: &[u8]) {
        let Some(store) = self.in_reach() else { return };
        {
            let mut notes = store.notes.lock();
            if notes.get(block) != Some(State::Wanted) {
                return;
            }
            notes.forget(block);
        }
        self.keep(block, content);
    }
}

impl Store {
    /// Where a block's content lies, so many bytes behind that of a block a byte before; `None` where there is no room.
    fn place(&self, block: Packed, len: usize, stride: u64) -> Option<u64> {
        let place = block.at.checked_mul(stride)?;
        let end = place.checked_add(stride)?;
        // The kernel counts a file's pages by a word.
        usize::try_from(end / 4096).ok()?;
        (len as u64 <= stride && end <= self.pages.room()).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;

    const PAGE: u64 = 4096;
    const BLOCK: Packed = Packed { at: 70_000, size: 900 };

    /// Pages by their number.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<HashMap<u64, Vec<u8>>>>);

    impl Pages for Memory {
        fn room(&self) -> u64 {
            1 << 60
        }

        fn read(&self, offset: u64, room: &mut [u8]) -> bool {
            let held = self.0.lock();
            room.iter_mut()
                .zip(offset..)
                .all(|(byte, at)| held.get(&(at / PAGE)).map(|page| *byte = page[(at % PAGE) as usize]).is_some())
        }

        fn store(&self, offset: u64, bytes: &[u8]) -> bool {
            assert_eq!(offset % PAGE, 0);
            for (page, number) in bytes.chunks(PAGE as usize).zip(offset / PAGE..) {
                let mut whole = page.to_vec();
                whole.resize(PAGE as usize, 0);
                let before = self.0.lock().insert(number, whole.clone());
                assert!(before.is_none_or(|before| before == whole), "page {number} is another block's");
            }
            true
        }
    }

    fn reserve(block_size: u32) -> (Reserve, Memory) {
        let (reserve, memory) = (Reserve::new(1 << 30, block_size), Memory::default());
        assert!(!reserve.is_there());
        reserve.begin(Box::new(memory.clone()));
        assert!(reserve.is_there());
        (reserve, memory)
    }

    fn content(of: u64, len: usize) -> Vec<u8> {
        (0..len).map(|n| (n as u64 * 7 + of) as u8).collect()
    }

    #[test]
    fn a_block_comes_back_in_parts_and_as_a_whole() {
        let (reserve, _memory) = reserve(128 << 10);
        let bytes = content(1, 10_001);
        let mut room = vec![0; 10_001];
        assert!(!reserve.read(BLOCK, 0, &mut room));
        reserve.keep(BLOCK, &bytes);
        assert_eq!(reserve.len_of(BLOCK), Some(10_001));
        assert!(reserve.read(BLOCK, 0, &mut room) && room == bytes);
        assert!(reserve.read(BLOCK, 9_990, &mut room[..11]) && room[..11] == bytes[9_990..]);
        assert!(!reserve.read(BLOCK, 9_990, &mut room[..12]), "behind its end");
        assert!(!reserve.read(BLOCK, usize::MAX, &mut room[..2]));
        assert!(!reserve.read(Packed { size: 901, ..BLOCK }, 0, &mut room[..1]), "of another size");
    }

    #[test]
    fn what_the_kernel_took_back_is_forgotten() {
        let (reserve, memory) = reserve(128 << 10);
        reserve.keep(BLOCK, &content(1, 9000));
        let second = BLOCK.at * (128 << 10) / PAGE + 1;
        memory.0.lock().remove(&second).unwrap();
        let mut room = [0; 10];
        assert!(reserve.read(BLOCK, 0, &mut room), "the first page is still there");
        let other = Packed { at: 1, size: 5 };
        reserve.keep(other, &content(1, 100));
        assert!(reserve.seems_to_have(BLOCK) && reserve.seems_to_have(other));
        assert!(!reserve.read(BLOCK, 4090, &mut room));
        assert_eq!(reserve.len_of(BLOCK), None);
        assert!(!reserve.seems_to_have(other), "nor may this be there any more");
        assert!(reserve.read(other, 0, &mut room) && reserve.seems_to_have(other));
        reserve.keep(BLOCK, &content(1, 9000));
        assert!(reserve.read(BLOCK, 4090, &mut room) && room == content(1, 9000)[4090..4100]);
    }

    #[test]
    fn a_block_may_have_to_come_twice() {
        let (reserve, memory) = reserve(4096);
        let decompress = |number| {
            reserve.saw(BLOCK, number, 100);
            reserve.keep_if_wanted(BLOCK, &content(1, 100));
        };
        // Twice at a time, and too late.
        for number in [7, 7 + APART - 1, 108, 300] {
            decompress(number);
            assert!(memory.0.lock().is_empty() && reserve.len_of(BLOCK).is_none(), "{number}");
        }
        decompress(300 + APART);
        assert_eq!((memory.0.lock().len(), reserve.len_of(BLOCK)), (1, Some(100)));
        reserve.saw(BLOCK, 1000, 100);
        assert_eq!(reserve.len_of(BLOCK), Some(100));
    }

    /// Pages that take nothing, and how often they were asked to.
    #[derive(Clone, Default)]
    struct Full(Arc<AtomicU64>);

    impl Pages for Full {
        fn room(&self) -> u64 {
            1 << 60
        }

        fn read(&self, _offset: u64, _room: &mut [u8]) -> bool {
            false
        }

        fn store(&self, _offset: u64, _bytes: &[u8]) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            false
        }
    }

    #[test]
    fn what_cannot_be_kept_is_tried_once() {
        let (reserve, pages) = (Reserve::new(1 << 30, 4096), Full::default());
        reserve.begin(Box::new(pages.clone()));
        reserve.saw(BLOCK, 1, 100);
        reserve.saw(BLOCK, 50, 100);
        (0..9).for_each(|_| reserve.keep_if_wanted(BLOCK, &content(1, 100)));
        assert_eq!(pages.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_has_no_pages_leaves_a_block_to_who_uses_it() {
        let (reserve, memory) = reserve(4096);
        crate::image::cache::giving_way(|| {
            for number in [10, 20, 30] {
                reserve.saw(BLOCK, number, 100);
                reserve.keep_if_wanted(BLOCK, &content(1, 100));
            }
        });
        assert!(memory.0.lock().is_empty() && reserve.len_of(BLOCK).is_none());
        reserve.keep_if_wanted(BLOCK, &content(1, 100));
        assert_eq!(reserve.len_of(BLOCK), Some(100));
    }

    #[test]
    fn blocks_side_by_side_share_no_byte() {
        for block_size in [4096, 128 << 10, 1 << 20] {
            let (reserve, _memory) = reserve(block_size);
            let blocks = (0..40).map(|n| (Packed { at: 96 + n, size: 1 }, content(n, block_size as usize)));
            assert!(blocks.clone().all(|(block, bytes)| reserve.keep(block, &bytes)));
            for (block, bytes) in blocks {
                let mut room = vec![0; bytes.len()];
                assert!(reserve.read(block, 0, &mut room) && room == bytes, "{block:?}");
            }
        }
    }

    #[test]
    fn many_blocks_are_known_and_no_more() {
        let mut notes = Notes::new(1 << 30);
        let packed = |n: u64| Packed { at: 96 + n * 40_000, size: 40_000 };
        for n in 0..2 * MOST {
            notes.put(packed(n), State::Held(1));
        }
        let known = |notes: &mut Notes, all: std::ops::Range<u64>| all.filter(|&n| notes.get(packed(n)).is_some()).count() as u64;
        assert!(known(&mut notes, MOST..2 * MOST) > MOST * 3 / 4);
        assert!(known(&mut notes, 0..2 * MOST) <= MOST);
        let mut few = Notes::new(1 << 30);
        (0..MOST / 16).for_each(|n| few.put(packed(n), State::Held(1)));
        // Those that were merely seen drive out none of these.
        (MOST / 16..MOST).for_each(|n| few.put(packed(n), State::Wanted));
        assert!(known(&mut few, 0..MOST / 16) >= MOST / 16 - 8);
        assert_eq!(Notes::new(0).notes.len() as u64, FEWEST);
    }

    #[test]
    fn those_that_were_seen_make_room_in_turn() {
        let mut notes = Notes::new(0);
        let set = |notes: &mut Notes, n: u64| notes.set(Packed { at: n, size: 1 }).as_ptr() as usize;
        let first = set(&mut notes, 0);
        let mates: Vec<Packed> =
            (0..).filter(|&n| set(&mut notes, n) == first).take(WAYS + 1).map(|at| Packed { at, size: 1 }).collect();
        let known = |notes: &mut Notes| mates.iter().filter(|&&mate| notes.get(mate).is_some()).count();
        mates.iter().take(WAYS).for_each(|&mate| notes.put(mate, State::Seen(1)));
        assert_eq!(known(&mut notes), WAYS);
        notes.put(mates[0], State::Held(1));
        notes.put(mates[1], State::Wanted);
        notes.put(mates[WAYS], State::Seen(2));
        assert!([0, 1, WAYS].iter().all(|&n| notes.get(mates[n]).is_some()));
        assert_eq!(known(&mut notes), WAYS);
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let (reserve, memory) = reserve(1 << 20);
        for at in [u64::MAX, 1 << 44, 1 << 40] {
            reserve.keep(Packed { at, size: 1 }, &content(1, 5));
        }
        assert!(memory.0.lock().is_empty());
        reserve.keep(Packed { at: (1 << 40) - 1, size: 1 }, &content(1, 5));
        reserve.keep(BLOCK, &vec![0; (1 << 20) + 1]);
        assert_eq!(memory.0.lock().len(), 1);
    }
}
