//! Images alone.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use haosfs::image::{Image, InodeRef, Options};

use crate::axis::{Axis, COLD, Growth};
use crate::{image, timing};

/// Of a directory of the image of many inodes.
const FILES: usize = 1000;
/// Of a file, and of a piece of it.
const SIZE: usize = 64 << 20;
const PIECE: usize = 4096;

/// Opens one with every cache as it is by default.
fn open(path: &Path) -> Image {
    Image::open(path, &Options::default()).unwrap()
}

fn find(image: &Image, directory: InodeRef, name: &str) -> InodeRef {
    image.lookup(directory, name.as_ref()).unwrap().unwrap().inode
}

fn look(image: &Image, directory: InodeRef, name: &OsStr, there: bool) {
    assert_eq!(black_box(image.lookup(directory, name).unwrap()).is_some(), there);
}

/// Opens one with room for all metadata and listings: then it is the search alone that grows.
fn open_with_room(path: &Path) -> Image {
    let room = 1 << 30;
    Image::open(path, &Options { metadata_cache: room, listing_cache: room, ..Options::default() }).unwrap()
}

/// Numbers below `n` in an order that is no order, each once.
pub fn shuffled(n: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| i * 7919 % n)
}

/// Powers of ten.
pub fn decades(from: usize, largest: usize) -> Vec<usize> {
    std::iter::successors(Some(from), |n| Some(n * 10)).take_while(|n| *n <= largest).collect()
}

/// One directory of the image.
pub fn directories(largest: usize) -> Axis {
    let series = [
        (COLD, Growth::Logarithmic),
        ("look up a name", Growth::Kept),
        ("look up an absent name", Growth::Kept),
        ("list, for each name", Growth::Kept),
        ("look up a name, with room for all", Growth::Logarithmic),
    ];
    Axis::along("names in a directory of an image", series, &decades(10, largest), |files| {
        let subject = image::Subject::new(files, 0);
        let path = subject.pack(&["-comp", "zstd"]);
        let first = timing::of(|| {
            let image = open(&path);
            black_box(find(&image, find(&image, image.root(), "d"), &format!("name-{}", files / 2)));
        });
        let image = open(&path);
        let directory = find(&image, image.root(), "d");
        let names: Vec<OsString> = shuffled(files).map(|i| format!("name-{i}").into()).collect();
        let mut next = names.iter().cycle();
        let mut present = |image: &Image| {
            let directory = find(image, image.root(), "d");
            timing::of(|| look(image, directory, next.next().unwrap(), true))
        };
        let (kept, roomy) = (present(&image), present(&roomy(&path, &names)));
        let absent = timing::of(|| look(&image, directory, "name-5x".as_ref(), false));
        let list = timing::of(|| assert_eq!(image.entries(directory).unwrap().iter().map(black_box).count(), files));
        [first, kept, absent, list / files as f64, roomy]
    })
}

/// With room for all, and everything there that looking up these names of its directory brings.
fn roomy(path: &Path, names: &[OsString]) -> Image {
    let image = open_with_room(path);
    let directory = find(&image, image.root(), "d");
    names.iter().for_each(|name| look(&image, directory, name, true));
    image
}

/// An image of device nodes, which cost mksquashfs least.
fn many(directory: &Path, inodes: usize) -> PathBuf {
    let [tree, list, path] = ["tree", "list", "image"].map(|name| directory.join(name));
    fs::create_dir(&tree).unwrap();
    let mut text = String::new();
    for d in 0..inodes / FILES {
        writeln!(text, "d{d} d 755 0 0").unwrap();
        (0..FILES).for_each(|f| writeln!(text, "d{d}/file-{f} c 644 0 0 1 3").unwrap());
    }
    fs::write(&list, text).unwrap();
    let mut command = Command::new("mksquashfs");
    command.arg(&tree).arg(&path).args(["-noappend", "-no-progress", "-quiet", "-comp", "zstd", "-pf"]).arg(list);
    assert!(command.status().unwrap().success(), "{command:?}");
    path
}

fn look_anywhere(image: &Image, directories: usize, number: usize) {
    let directory = find(image, image.root(), &format!("d{}", number * 7919 % directories));
    black_box(image.attr(find(image, directory, &format!("file-{number}"))).unwrap());
}

/// The image as a whole.
pub fn inodes(largest: usize) -> Axis {
    let series = [
        (COLD, Growth::Logarithmic),
        ("names and attributes anywhere, each", Growth::Kept),
        ("the same, with room for all", Growth::Logarithmic),
    ];
    Axis::along("inodes of an image", series, &decades(FILES, largest), |inodes| {
        let dir = tempfile::tempdir().unwrap();
        let path = many(dir.path(), inodes);
        let first = timing::of(|| {
            let image = open(&path);
            black_box(find(&image, find(&image, image.root(), "d0"), "file-500"));
        });
        let each = [open(&path), open_with_room(&path)]
            .map(|image| timing::whole(|| (0..FILES).for_each(|i| look_anywhere(&image, inodes / FILES, i))) / FILES as f64);
        [first, each[0], each[1]]
    })
}

/// A file of text in an image, and the inode of it.
fn large(path: &Path, options: &Options) -> (Image, InodeRef) {
    let image = Image::open(path, options).unwrap();
    let file = find(&image, find(&image, image.root(), "d"), "name-0");
    (image, file)
}

/// Seconds in which `threads` read what lies at these places, all together.
fn read_by(threads: usize, image: &Image, file: InodeRef, places: &[usize]) -> f64 {
    timing::whole(|| {
        std::thread::scope(|scope| {
            for part in places.chunks(places.len().div_ceil(threads)) {
                scope.spawn(move || {
                    for place in part {
                        assert_eq!(black_box(image.read(file, *place as u64, PIECE).unwrap()).len(), PIECE);
                    }
                });
            }
        });
    })
}

/// Readers of one file: each decompresses, or all read what is kept.
pub fn threads() -> Axis {
    let series = [("read 4 KiB that must be decompressed", Growth::None), ("read 4 KiB that is kept", Growth::Shared)];
    let subject = image::Subject::new(1, SIZE);
    let path = subject.pack(&["-comp", "zstd"]);
    Axis::along("threads that read", series, &[1, 2, 4, 8, 16], |threads| {
        let (image, file) = large(&path, &Options { data_cache: 0, ..Options::default() });
        let places: Vec<usize> = shuffled(1024).map(|i| i * (SIZE / 1024)).collect();
        let anew = read_by(threads, &image, file, &places) / places.len() as f64;
        let (image, file) = large(&path, &Options { data_cache: 4 << 20, ..Options::default() });
        let near: Vec<usize> = shuffled(1 << 16).map(|i| i % 64 * PIECE).collect();
        let kept = read_by(threads, &image, file, &near) / near.len() as f64;
        [anew, kept]
    })
}

/// Room for decompressed data.
pub fn caches() -> Axis {
    let series = [("read 4 KiB anywhere in 64 MiB", Growth::None)];
    let subject = image::Subject::new(1, SIZE);
    let path = subject.pack(&["-comp", "zstd"]);
    Axis::along("MiB of data kept", series, &[4, 16, 64, 256], |mib| {
        let (image, file) = large(&path, &Options { data_cache: (mib << 20) as u64, ..Options::default() });
        let places: Vec<usize> = shuffled(SIZE / PIECE / 4).map(|i| i * 4 * PIECE).collect();
        [read_by(1, &image, file, &places) / places.len() as f64]
    })
}
