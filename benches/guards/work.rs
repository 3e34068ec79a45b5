//! The operations, and what each is compared with.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use haosfs::image::{Image, InodeRef, Options};

use crate::image;

/// All operations.
pub const NAMES: [&str; 9] = [
    "attr",
    "listing",
    "lookup-absent",
    "lookup-present",
    "metadata-decode",
    "open-image",
    "read-compressed",
    "read-fragment",
    "read-stored",
];

const FILES: usize = 2000;
const BLOCK: usize = 128 << 10;

/// An image of many small files, and one of a large file, stored and compressed.
pub struct Subject {
    small: PathBuf,
    stored: PathBuf,
    compressed: PathBuf,
}

impl Subject {
    /// The images that [`Subject::pack`] has made in this directory.
    pub fn of(dir: &Path) -> Self {
        let [small, stored, compressed] = ["small", "stored", "compressed"].map(|name| dir.join(name));
        Self { small, stored, compressed }
    }

    /// Makes them; all operations are on the same.
    pub fn pack(dir: &Path) -> Self {
        let subject = Self::of(dir);
        let (small, large) = (image::Subject::new(FILES, 1000), image::Subject::new(1, 4 * BLOCK));
        let compressed = ["-comp", "zstd"];
        fs::rename(small.pack(&compressed), &subject.small).unwrap();
        fs::rename(large.pack(&["-comp", "zstd", "-noD", "-noF"]), &subject.stored).unwrap();
        fs::rename(large.pack(&compressed), &subject.compressed).unwrap();
        subject
    }
}

fn consume<T>(value: T) {
    black_box(value);
}

fn open(path: &Path) -> Image {
    Image::open(path, &Options::default()).unwrap()
}

fn find(image: &Image, dir: InodeRef, name: &OsStr) -> InodeRef {
    image.lookup(dir, name).unwrap().unwrap().inode
}

/// One operation, ready to be done any number of times.
pub fn operation<'a>(subject: &'a Subject, name: &str) -> Box<dyn FnMut() + 'a> {
    match name {
        "open-image" => Box::new(|| consume(open(&subject.small))),
        "metadata-decode" => Box::new(|| {
            let image = open(&subject.small);
            let dir = find(&image, image.root(), "d".as_ref());
            black_box(image.lookup(dir, "name-1234".as_ref()).unwrap());
        }),
        "read-stored" => reading(&subject.stored),
        "read-compressed" => reading(&subject.compressed),
        name => {
            // All that is read fits, and what tells where it is: of so many files the default keeps half.
            let options = Options { data_cache: 256 << 20, metadata_cache: 256 << 20, ..Options::default() };
            let mut warm = in_directory(Image::open(&subject.small, &options).unwrap(), name);
            (0..FILES).for_each(|_| warm());
            warm
        }
    }
}

/// Reads each block of a large file in turn, of an image opened anew so that nothing is kept from before.
fn reading(path: &Path) -> Box<dyn FnMut() + '_> {
    Box::new(move || {
        let image = open(path);
        let dir = find(&image, image.root(), "d".as_ref());
        let file = find(&image, dir, "name-0".as_ref());
        for block in 0..4 {
            black_box(image.read(file, block * BLOCK as u64, BLOCK).unwrap().len());
        }
    })
}

fn in_directory(image: Image, name: &str) -> Box<dyn FnMut()> {
    let dir = find(&image, image.root(), "d".as_ref());
    let names: Vec<OsString> = (0..FILES).map(|i| format!("name-{}", i * 7919 % FILES).into()).collect();
    let mut next = 0;
    let mut turn = move || {
        next = (next + 1) % FILES;
        next
    };
    match name {
        "lookup-present" => Box::new(move || consume(image.lookup(dir, &names[turn()]).unwrap())),
        "lookup-absent" => Box::new(move || consume(image.lookup(dir, "name-5x".as_ref()).unwrap())),
        "attr" => {
            let inodes: Vec<InodeRef> = names.iter().map(|name| find(&image, dir, name)).collect();
            Box::new(move || consume(image.attr(inodes[turn()]).unwrap()))
        }
        "listing" => Box::new(move || consume(image.entries(dir).unwrap().iter().count())),
        "read-fragment" => {
            let inodes: Vec<InodeRef> = names.iter().map(|name| find(&image, dir, name)).collect();
            Box::new(move || consume(image.read(inodes[turn()], 0, 4096).unwrap().len()))
        }
        name => panic!("no operation {name}"),
    }
}

/// A look into a hash map of the same names, or a copy of the same bytes.
pub fn reference(name: &str) -> Box<dyn FnMut()> {
    if copies(name) {
        let (from, mut to) = (vec![7_u8; 4 * BLOCK], vec![0; 4 * BLOCK]);
        return Box::new(move || black_box(&mut to).copy_from_slice(black_box(&from)));
    }
    let map: HashMap<OsString, usize> = (0..FILES).map(|i| (format!("name-{i}").into(), i)).collect();
    let names: Vec<OsString> = (0..FILES).map(|i| format!("name-{}", i * 7919 % FILES).into()).collect();
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % FILES;
        black_box(map.get(&names[next]));
    })
}

fn copies(name: &str) -> bool {
    matches!(name, "read-stored" | "read-compressed")
}

/// For people.
pub fn reference_name(name: &str) -> &'static str {
    if copies(name) { "a copy of its bytes" } else { "a look into a hash map" }
}
