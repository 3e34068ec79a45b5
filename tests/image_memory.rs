//! Listings come and go among nodes that stay, and the memory of one is the next one's.
// What fails in the support of tests fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod image;

use std::fmt::Write;
use std::fs;

use haosfs::image::{Image, Options};
use image::pack::{self, pack};
use image::skip;

/// Names of one directory, which is read in parts.
const MANY: usize = 18_000;
/// Others, read whole.
const DIRECTORIES: usize = 3_000;
const NODES: usize = 60_000;
/// KiB that the caches of metadata and of listings keep.
const CACHES: u64 = 3 << 10;

/// Private memory of this process in KiB, without mapped files. Unlike that of status it is exact.
fn anonymous() -> u64 {
    let sums = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = sums.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn name(number: usize) -> String {
    format!("a-name-that-is-as-long-as-many-are-{number}")
}

#[test]
fn what_listings_took_is_taken_again() {
    if !pack::available() {
        return skip("what_listings_took_is_taken_again", "needs mksquashfs");
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, list, path) = (dir.path().join("tree"), dir.path().join("list"), dir.path().join("image"));
    fs::create_dir(&tree).unwrap();
    let mut text = String::new();
    writeln!(text, "many d 755 0 0").unwrap();
    (0..MANY).for_each(|number| writeln!(text, "many/{} c 644 0 0 1 3", name(number)).unwrap());
    for dir in 0..DIRECTORIES {
        writeln!(text, "{dir} d 755 0 0").unwrap();
        (0..=dir % 40).for_each(|number| writeln!(text, "{dir}/{} c 644 0 0 1 3", name(number)).unwrap());
    }
    fs::write(&list, text).unwrap();
    pack(&tree, &path, &["-comp", "zstd", "-pf", list.to_str().unwrap()]);

    let image = Image::open(&path, &Options::default()).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut look = || {
        let dir = random.usize(..DIRECTORIES);
        let (dir, name) = match random.usize(..3) {
            0 => ("many".to_owned(), name(random.usize(..MANY))),
            _ => (dir.to_string(), name(random.usize(..=dir % 40))),
        };
        let dir = image.lookup(image.root(), dir.as_ref()).unwrap().unwrap();
        assert!(image.lookup(dir.inode, name.as_ref()).unwrap().is_some());
    };
    let before = anonymous();
    let mut nodes = Vec::with_capacity(NODES);
    for number in 0..NODES {
        look();
        nodes.push(vec![1_u8; 100 + number % 100]);
    }
    let took = anonymous().saturating_sub(before);
    let kept = nodes.iter().map(|node| node.len() + 40).sum::<usize>() as u64 / 1024;
    println!("{took} KiB, {kept} of them for nodes");
    assert!(took < kept + CACHES + 2048, "{took} KiB, {kept} of them for nodes");
}
