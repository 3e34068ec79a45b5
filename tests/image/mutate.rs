//! Damaging images at random, and using what is left of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Mutex;

use haosfs::error::Error;
use haosfs::image::{Bytes, Image, InodeRef, Options, Pages, Seek};
use haosfs::types::Kind;

use super::random::Random;

/// Numbers that tend to be forgotten.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x0100_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// A damaged copy of `image`; `donor` is where spliced pieces come from.
pub fn mutate(image: &[u8], donor: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = image.to_vec();
    for _ in 0..=random.below(3) {
        one(&mut bytes, donor, random);
    }
    bytes
}

fn one(bytes: &mut Vec<u8>, donor: &[u8], random: &mut Random) {
    let len = bytes.len() as u64;
    if len == 0 {
        return;
    }
    let at = place(len, random);
    match random.below(8) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.next() as u8,
        3 | 4 => {
            let edge = EDGES[random.below(14) as usize].to_le_bytes();
            let width = [2, 4, 8][random.below(3) as usize].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&edge[..width]);
        }
        5 => bytes.truncate(at),
        6 => {
            let width = (1 + random.below(64) as usize).min(bytes.len() - at);
            let from = random.below((donor.len() - width) as u64) as usize;
            bytes[at..at + width].copy_from_slice(&donor[from..from + width]);
        }
        _ => {
            let width = (1 + random.below(32) as usize).min(bytes.len() - at);
            bytes[at..at + width].fill(random.next() as u8);
        }
    }
}

/// Half of the places are where the structure is: the superblock, and the metadata at the end.
fn place(len: u64, random: &mut Random) -> usize {
    let at = match random.below(4) {
        0 => random.below(96.min(len)),
        1 | 2 => len - 1 - random.below((len / 2).clamp(1, 6000)),
        _ => random.below(len),
    };
    at as usize
}

/// Pages that stay, by their offset.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<u64, Vec<u8>>>);

impl Pages for Memory {
    fn room(&self) -> u64 {
        1 << 56
    }

    fn read(&self, offset: u64, room: &mut [u8]) -> bool {
        let held = self.0.lock().unwrap();
        room.iter_mut().zip(offset..).all(|(byte, at)| {
            held.get(&(at & !4095)).map(|page| *byte = page.get((at & 4095) as usize).copied().unwrap_or(0)).is_some()
        })
    }

    fn store(&self, offset: u64, bytes: &[u8]) -> bool {
        let pages = bytes.chunks(4096).map(<[u8]>::to_vec).zip(0..);
        self.0.lock().unwrap().extend(pages.map(|(page, n)| (offset + n * 4096, page)));
        true
    }
}

/// Opens an image and uses all there is to use; answers whether it could be opened.
pub fn exercise(path: &Path) -> bool {
    let image = match Image::open(path, &Options { data_cache: 0, metadata_cache: 32 << 10, ..Options::default() }) {
        Ok(image) => {
            image.take_pages(Box::<Memory>::default());
            image
        }
        Err(e) => {
            names_the_image(&e, path);
            return false;
        }
    };
    let (mut waiting, mut seen, mut files) = (vec![image.root()], HashSet::new(), BTreeSet::new());
    while let Some(inode) = waiting.pop() {
        if !seen.insert(inode) {
            continue;
        }
        let Ok(entries) = image.entries(inode) else { continue };
        for (name, entry) in entries.iter().take(5000) {
            assert_eq!(image.lookup(inode, name).unwrap_or(Some(entry)), Some(entry));
            if entry.kind == Kind::Dir {
                waiting.push(entry.inode);
            } else if entry.kind == Kind::File {
                files.insert(entry.inode);
            }
            if let Err(e) = inode_uses(&image, entry.inode) {
                names_the_image(&e, path);
            }
        }
    }
    for inode in files {
        let _content = image.read(inode, 0, 4096).map(drop);
        while image.decode_ahead() {}
    }
    if let Err(e) = image.verify(|_| {}) {
        names_the_image(&e, path);
    }
    true
}

fn inode_uses(image: &Image, inode: InodeRef) -> Result<(), Error> {
    let attr = image.attr(inode)?;
    let _ = image.by_number(attr.ino);
    let xattrs = image.xattrs(inode).map(|names| names.into_iter().try_for_each(|name| image.xattr(inode, &name).map(drop)));
    match attr.kind {
        Kind::Symlink => drop(image.readlink(inode)?),
        Kind::File => {
            for offset in [0, 1, 4095, 70_000, attr.size / 2, attr.size.saturating_sub(5), attr.size, u64::MAX] {
                let read = image.read(inode, offset, 100_000).map(|bytes| bytes.len());
                if let Ok(Bytes::Part(spare, _)) = image.read(inode, offset, 4096) {
                    image.keep(inode, offset, &spare);
                }
                assert!(read.is_err() || read.is_ok_and(|len| len as u64 == attr.size.saturating_sub(offset).min(100_000)));
                let _ = (image.seek(inode, offset, Seek::Data), image.seek(inode, offset, Seek::Hole));
            }
        }
        Kind::Dir => drop(image.lookup(inode, OsStr::new("absent"))?),
        _ => {}
    }
    xattrs?
}

/// Whoever reads an error learns which image has it, in one line.
fn names_the_image(error: &Error, path: &Path) {
    let text = error.to_string();
    let is_expected = matches!(error, Error::Expected(_));
    assert!(is_expected || (text.contains(path.to_str().unwrap()) && text.lines().count() == 1), "{text:?}");
}
