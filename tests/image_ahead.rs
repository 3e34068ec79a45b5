//! What is decompressed before it is asked for: what comes next, once, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod image;

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use haosfs::image::{Bytes, Image, InodeRef, Options};
use image::mutate::Memory;
use image::pack::{self, pack};
use image::random::Random;
use image::skip;

const BLOCK: usize = 128 << 10;

/// An image with these files, which nobody has read; reads of it are watched.
struct Watched {
    image: Image,
    files: Vec<(InodeRef, Vec<u8>)>,
    /// How often something was to be used that may take long.
    announced: Arc<AtomicU64>,
    _dir: tempfile::TempDir,
}

impl Watched {
    /// `None`, and says so, where there is no mksquashfs.
    fn new(test: &str, sizes: &[usize], options: &[&str]) -> Option<Self> {
        if !pack::available() {
            skip(test, "needs mksquashfs");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (tree, packed, mut random) = (dir.path().join("tree"), dir.path().join("image"), Random(7));
        fs::create_dir(&tree).unwrap();
        let contents: Vec<_> = sizes.iter().map(|&size| random.text(size)).collect();
        for (n, content) in contents.iter().enumerate() {
            fs::write(tree.join(format!("{n:03}")), content).unwrap();
        }
        pack(&tree, &packed, options);
        let image = Image::open(&packed, &Options::default()).unwrap();
        let inode = |n: usize| image.lookup(image.root(), OsStr::new(&format!("{n:03}"))).unwrap().unwrap().inode;
        let files = contents.into_iter().enumerate().map(|(n, content)| (inode(n), content)).collect();
        assert!(!image.decode_ahead(), "nothing was read yet");
        let announced = Arc::<AtomicU64>::default();
        let counts = Arc::clone(&announced);
        image.announce(Box::new(move || {
            counts.fetch_add(1, Ordering::Relaxed);
        }));
        Some(Self { image, files, announced, _dir: dir })
    }

    /// Reads a part of a file, and lets everything be done that this makes worth doing. Answers how many blocks were decompressed for the
    /// read, and after it.
    fn read(&self, file: usize, offset: usize, len: usize) -> (u64, u64) {
        let (before, (inode, content)) = (self.image.decompressed(), &self.files[file]);
        let end = content.len().min(offset + len);
        assert!(*self.image.read(*inode, offset as u64, len).unwrap() == content[offset..end], "{file}, {len} bytes at {offset}");
        let (then, announced) = (self.image.decompressed(), self.announced.load(Ordering::Relaxed));
        while self.image.decode_ahead() {}
        assert_eq!(self.announced.load(Ordering::Relaxed), announced, "who gives way answers nobody");
        (then - before, self.image.decompressed() - then)
    }
}

#[test]
fn the_first_blocks_of_the_next_files_are_ready() {
    let Some(watched) = Watched::new("the next files", &[BLOCK * 3 / 2; 40], &[]) else { return };
    // Of each file both blocks; the order is not sure at first.
    let first: Vec<_> = (0..2).map(|n| watched.read(n, 0, BLOCK)).collect();
    assert_eq!(first, [(1, 0), (1, 0)]);
    assert_eq!(watched.read(2, 0, BLOCK), (1, 4), "the rest of it, and the next three");
    assert_eq!(watched.read(2, BLOCK, BLOCK), (0, 1), "its rest is ready, and four are ahead again");
    for n in 3..30 {
        assert_eq!(watched.read(n, 0, BLOCK).0, 0, "{n}");
        assert_eq!(watched.read(n, BLOCK, BLOCK).0, 0, "the rest of {n}");
    }
    assert!(watched.announced.load(Ordering::Relaxed) > 0);
    // Each of them once, and four that are ahead.
    assert_eq!(watched.image.decompressed(), 2 + 28 * 2 + 4);
}

#[test]
fn the_next_fragment_is_ready() {
    let Some(watched) = Watched::new("the next fragment", &[10 << 10; 200], &[]) else { return };
    let first = (0..3).map(|n| watched.read(n, 0, BLOCK).0).sum::<u64>();
    assert_eq!(first, 1);
    let for_reads: u64 = (3..200).map(|n| watched.read(n, 0, BLOCK).0).sum();
    assert_eq!(for_reads, 0);
    assert_eq!(watched.image.decompressed(), u64::from(watched.image.superblock().fragments));
}

#[test]
fn most_of_a_long_file_is_ready() {
    const BLOCKS: usize = 60;
    let Some(watched) = Watched::new("a long file", &[BLOCKS * BLOCK], &[]) else { return };
    let mut ready = 0;
    for offset in (0..BLOCKS * BLOCK).step_by(BLOCK) {
        ready += u64::from(watched.read(0, offset, BLOCK).0 == 0);
    }
    // Some may have been driven out before they were wanted.
    let decompressed = watched.image.decompressed();
    assert!(decompressed <= BLOCKS as u64 * 11 / 10, "{decompressed} for {BLOCKS}");
    assert!(ready > BLOCKS as u64 * 3 / 4, "{ready} of {BLOCKS}");
}

#[test]
fn what_is_read_here_and_there_is_not_followed() {
    let Some(watched) = Watched::new("here and there", &[BLOCK * 3 / 2; 60], &[]) else { return };
    let mut random = Random(3);
    for _ in 0..300 {
        // Each file is behind the one before by less than nothing, or by chance.
        let file = random.below(60) as usize;
        watched.read(file, BLOCK, 4096);
    }
    (0..60).rev().for_each(|file| assert_eq!(watched.read(file, 0, 4096).1, 0, "{file}"));
}

#[test]
fn stored_blocks_and_holes_need_nothing() {
    let Some(watched) = Watched::new("stored blocks", &[BLOCK * 3 / 2; 20], &["-noD", "-noF"]) else { return };
    (0..20).for_each(|n| assert_eq!(watched.read(n, 0, BLOCK), (0, 0), "{n}"));
}

/// Between an answer and what is done after it others read: what they drive out of the cache need not be decompressed again.
#[test]
fn what_the_cache_has_lost_goes_in_reserve() {
    const BLOCKS: usize = 40;
    let Some(watched) = Watched::new("lost by the cache", &[BLOCKS * BLOCK; 2], &[]) else { return };
    watched.image.take_pages(Box::<Memory>::default());
    let (inode, content) = &watched.files[0];
    let read = |block: usize| watched.image.read(*inode, (block * BLOCK) as u64, 4096).unwrap();
    for block in (0..10).rev() {
        let Bytes::Part(spare, _) = read(block) else { panic!("block {block} is in reserve, or not a part") };
        for other in (0..BLOCKS).rev() {
            watched.read(1, other * BLOCK, 4096);
        }
        watched.image.keep(*inode, (block * BLOCK) as u64, &spare);
    }
    let before = watched.image.decompressed();
    for block in 0..10 {
        assert!(*read(block) == content[block * BLOCK..][..4096], "block {block}");
    }
    assert_eq!(watched.image.decompressed(), before);
}
