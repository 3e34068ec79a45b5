//! An image of a million inodes: opened at once, with memory for what is used and not for what is there.
// What fails in the support of tests fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod image;

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use haosfs::image::{Image, Options};
use haosfs::types::Kind;
use image::pack::{self, pack};
use image::skip;

const DIRECTORIES: usize = 1000;
const FILES: usize = 1000;

/// Private memory of this process in bytes, without mapped files.
fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Devices cost mksquashfs least.
fn definitions() -> String {
    let mut text = String::new();
    for d in 0..DIRECTORIES {
        writeln!(text, "d{d} d 755 0 0").unwrap();
        for f in 0..FILES {
            writeln!(text, "d{d}/file-{f} c 644 0 0 1 {}", f % 256).unwrap();
        }
    }
    text
}

#[test]
fn a_million_inodes() {
    if !pack::available() {
        return skip("a_million_inodes", "needs mksquashfs");
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, list, path) = (dir.path().join("tree"), dir.path().join("list"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    fs::write(&list, definitions()).unwrap();
    pack(&tree, &path, &["-comp", "zstd", "-pf", list.to_str().unwrap()]);

    let before = anonymous();
    let start = Instant::now();
    let image = Image::open(&path, &Options::default()).unwrap();
    let opened = start.elapsed();
    assert!(opened < Duration::from_millis(200), "opening took {opened:?}");
    let look = |d: usize, f: usize| {
        let dir = image.lookup(image.root(), OsStr::new(&format!("d{d}"))).unwrap().unwrap();
        let entry = image.lookup(dir.inode, OsStr::new(&format!("file-{f}"))).unwrap().unwrap();
        let attr = image.attr(entry.inode).unwrap();
        assert_eq!((attr.kind, attr.rdev), (Kind::Char, libc::makedev(1, (f % 256) as u32)));
        assert_eq!(image.by_number(attr.ino).unwrap(), Some(entry.inode));
    };
    look(500, 500);
    let after_one = anonymous() - before;
    assert!(after_one < 3 << 20, "{after_one} bytes after one lookup");
    for d in 0..DIRECTORIES {
        look(d, d);
        look(d, FILES - 1);
    }
    let after_all = anonymous() - before;
    println!("open {opened:?}, {after_one} bytes after one lookup, {after_all} after lookups in all directories");
    assert!(after_all < 32 << 20, "{after_all} bytes after lookups in all directories");
    assert_eq!(image.superblock().inodes as usize, DIRECTORIES * (FILES + 1) + 1);
}
