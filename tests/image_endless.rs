//! An image that was made to be endless: directories share one list, so that it has as many ways as directories times names.
// What fails in the support of tests fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod image;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use haosfs::image::{Image, Options};
use haosfs::types::{Atime, Caller};
use haosfs::union::{self, Prefix, ROOT, SetAttr, SquashfsLower, Union, Upper};
use image::pack::{self, pack};
use image::skip;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

/// Directories, and names in the list that they share.
const DIRS: usize = 3000;
const NAMES: usize = 3000;
/// Longest that the removal of one name may take; the walk through all ways takes minutes.
const LIMIT: Duration = Duration::from_secs(10);
/// Times by which inodes are found.
const SHARES: u32 = 0x1a2b_3c4d;
const SHARED: u32 = 0x1a2b_3c4e;

fn set_time(path: &Path, seconds: u32) {
    let time = Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Directories `d0`... without anything in them, and `many` with pairs of hard links.
fn grow(tree: &Path) {
    fs::create_dir_all(tree.join("many")).unwrap();
    for i in (0..NAMES).step_by(2) {
        fs::write(tree.join(format!("many/{i:04}")), "before").unwrap();
        fs::hard_link(tree.join(format!("many/{i:04}")), tree.join(format!("many/{:04}", i + 1))).unwrap();
    }
    for i in 0..DIRS {
        fs::create_dir(tree.join(format!("d{i}"))).unwrap();
        set_time(&tree.join(format!("d{i}")), SHARES);
    }
    set_time(&tree.join("many"), SHARED);
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + N].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The uncompressed inode table without the lengths of its blocks: each byte, and where it is in the image.
fn inode_table(image: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut at, end) = (number::<8>(image, 64) as usize, number::<8>(image, 72) as usize);
    let mut places = Vec::new();
    while at < end {
        let len = number::<2>(image, at) as usize & 0x7fff;
        places.extend(at + 2..at + 2 + len);
        at += 2 + len;
    }
    (places.iter().map(|place| image[*place]).collect(), places)
}

/// Gives all the empty directories the list of `many` (`squashfs_dir_inode`, `squashfs_ldir_inode`).
fn share(image: &mut [u8]) {
    let (table, places) = inode_table(image);
    let with = |time: u32| -> Vec<usize> {
        table.windows(4).enumerate().filter(|(_, window)| **window == time.to_le_bytes()).map(|(at, _)| at - 8).collect()
    };
    let many = with(SHARED)[0];
    let (start, size, offset) = match number::<2>(&table, many) {
        1 => (number::<4>(&table, many + 16), number::<2>(&table, many + 24), number::<2>(&table, many + 26)),
        _ => (number::<4>(&table, many + 24), number::<4>(&table, many + 20), number::<2>(&table, many + 34)),
    };
    let mut patch = |at: usize, bytes: &[u8]| bytes.iter().enumerate().for_each(|(i, byte)| image[places[at + i]] = *byte);
    let sharing = with(SHARES);
    assert_eq!(sharing.len(), DIRS);
    for dir in sharing {
        patch(dir + 16, &u32::try_from(start).unwrap().to_le_bytes());
        patch(dir + 24, &u16::try_from(size).unwrap().to_le_bytes());
        patch(dir + 26, &u16::try_from(offset).unwrap().to_le_bytes());
    }
}

#[test]
fn a_name_of_an_endless_image_is_removed() {
    if !pack::available() {
        return skip("a_name_of_an_endless_image_is_removed", "needs mksquashfs");
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    ["tree", "upper", "work"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
    grow(&at("tree"));
    pack(&at("tree"), &at("image"), &["-noI", "-noId", "-noD", "-noF"]);
    let mut bytes = fs::read(at("image")).unwrap();
    share(&mut bytes);
    fs::write(at("image"), bytes).unwrap();
    let image = Image::open(&at("image"), &Options::default()).unwrap();
    let upper = Upper::open(&at("upper"), &at("work"), Prefix::Auto, Atime::Relative, |_| Ok(())).unwrap();
    let union = Union::new(vec![Box::new(SquashfsLower::new(image))], Some(upper), union::Options::default()).unwrap();

    let caller = Caller { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), pid: 0 };
    let many = union.lookup(ROOT, OsStr::new("many")).unwrap().0.id;
    let shares = union.lookup(ROOT, OsStr::new("d17")).unwrap().0.id;
    assert!(union.lookup(shares, OsStr::new("0123")).is_ok(), "it does not share the list");
    let file = union.lookup(many, OsStr::new("0000")).unwrap().0.id;
    union.setattr(file, &SetAttr { perm: Some(0o600), ..SetAttr::default() }, caller).unwrap();
    let begun = Instant::now();
    union.unlink(many, OsStr::new("0000")).unwrap();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert!(union.lookup(many, OsStr::new("0000")).is_err());
    assert_eq!(union.lookup(many, OsStr::new("0001")).unwrap().1.perm, 0o644);
}
