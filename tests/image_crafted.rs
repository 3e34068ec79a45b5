//! Images in which one number is a lie: what each is called, and that everything else still works.
// What fails in the support of tests fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod image;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use haosfs::error::{Errno, Error, Result};
use haosfs::image::{Image, InodeRef, Options};
use haosfs::types::{Atime, Caller, Kind};
use haosfs::union::create::New;
use haosfs::union::{NodeId, Prefix, ROOT, SquashfsLower, Union, Upper};
use image::pack::{self, pack};
use image::random::Random;
use image::skip;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// Times by which inodes are found in the bytes of an image.
const FILE_TIME: u32 = 0x1a2b_3c4d;
const LINK_TIME: u32 = 0x1a2b_3c4e;
const WIDE_TIME: u32 = 0x1a2b_3c4f;
const SIZE: usize = 30_000;
/// Entries of a directory that is long enough to have an index.
const WIDE: usize = 300;

fn wide_name(i: usize) -> String {
    format!("wide/{}-{i:03}", "w".repeat(80))
}

/// An image whose metadata is not compressed, and a copy of it to be damaged.
struct Subject {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Subject {
    fn new(test: &str) -> Option<Self> {
        Self::with(test, |_| {})
    }

    /// The same with whatever `extra` adds to the tree.
    fn with(test: &str, extra: impl FnOnce(&Path)) -> Option<Self> {
        if !pack::available() {
            skip(test, "needs mksquashfs");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("cycle")).unwrap();
        fs::write(tree.join("cycle/inner"), "").unwrap();
        for name in ["victim-name", "aa-first", "dup-a", "dup-b", "zz-last"] {
            fs::write(tree.join(name), content(name)).unwrap();
        }
        extra(&tree);
        fs::write(tree.join("file"), Random(7).text(SIZE)).unwrap();
        set_time(&tree.join("file"), FILE_TIME);
        std::os::unix::fs::symlink("the-target-of-the-link", tree.join("link")).unwrap();
        set_time(&tree.join("link"), LINK_TIME);
        rustix::fs::lsetxattr(tree.join("victim-name"), "user.attribute-name", b"attribute-value", XattrFlags::empty()).unwrap();
        let image = dir.path().join("image");
        pack(&tree, &image, &["-noI", "-noX", "-noId", "-b", "16K", "-tailends"]);
        let bytes = fs::read(image).unwrap();
        Some(Self { dir, bytes })
    }

    /// The only place of `needle`.
    fn find(&self, needle: &[u8]) -> usize {
        let mut places = self.bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
        let found = places.next().unwrap().0;
        assert!(places.next().is_none(), "{needle:?} is in more than one place");
        found
    }

    /// Where the inode with this time begins.
    fn inode(&self, time: u32) -> usize {
        self.find(&time.to_le_bytes()) - 8
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("patched")
    }

    fn open(&self) -> Result<Image> {
        fs::write(self.path(), &self.bytes).unwrap();
        Image::open(&self.path(), &Options::default())
    }
}

fn set_time(path: &Path, seconds: u32) {
    let time = Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What a file with this name holds: not the name, so that the name is in one place only.
fn content(name: &str) -> String {
    name.chars().rev().collect()
}

fn lookup(image: &Image, name: &str) -> Result<InodeRef> {
    Ok(image.lookup(image.root(), OsStr::new(name))?.unwrap().inode)
}

fn read(image: &Image) -> Result<Vec<u8>> {
    Ok(image.read(lookup(image, "file")?, 0, SIZE)?.to_vec())
}

/// Asserts that this is damage of `structure`, said in one line with these words.
fn assert_damage<T>(answer: Result<T>, structure: &str, words: &str) {
    let error = answer.err().unwrap();
    assert_eq!(error.errno(), Errno::EIO, "{error}");
    let text = error.to_string();
    assert!(matches!(&error, Error::Damage(damage) if damage.structure == structure), "{text}");
    assert!(text.contains(words) && text.lines().count() == 1, "{text}");
}

#[test]
fn superblocks_that_lie() {
    let Some(original) = Subject::new("superblocks_that_lie") else { return };
    let cases: [(&str, usize, &[u8], &str); 17] = [
        ("another magic", 0, b"hsqx", "not a squashfs image"),
        ("big-endian", 0, b"sqsh", "big-endian"),
        ("version 3", 28, &[3, 0, 1, 0], "version 3.1 is not supported"),
        ("lzma", 20, &[2, 0], "lzma compression is not supported"),
        ("unknown compressor", 20, &[7, 0], "no compressor has the number 7"),
        ("block size 0", 12, &[0; 4], "block size 0"),
        ("block size not as its logarithm", 12, &[0, 0, 2, 0], "block size 131072"),
        ("no inodes", 4, &[0; 4], "no inodes"),
        ("no ids", 26, &[0; 2], "no inodes or no ids"),
        ("4 billion inodes", 4, &[0xff; 4], "export table"),
        ("4 billion fragments", 16, &[0xff; 4], "fragment table"),
        ("longer than the file", 40, &[0, 0, 0, 0, 1, 0, 0, 0], "cut off"),
        ("inodes behind directories", 64, &[0xff, 0xff, 0, 0, 0, 0, 0, 0], "inode table"),
        ("id table outside", 48, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], "id table"),
        ("xattr table in the superblock", 56, &[1, 0, 0, 0, 0, 0, 0, 0], "xattr table"),
        ("directory table outside", 72, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x7f], "directory table"),
        ("root outside", 32, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "past the end"),
    ];
    for (name, at, bytes, words) in cases {
        let mut subject = Subject { dir: tempfile::tempdir().unwrap(), bytes: original.bytes.clone() };
        subject.patch(at, bytes);
        let error = subject.open().err().unwrap_or_else(|| panic!("{name} was opened")).to_string();
        assert!(error.contains(words) && error.lines().count() == 1, "{name}: {error}");
    }
}

#[test]
fn every_truncation_is_noticed_at_the_latest_when_opened() {
    let Some(mut subject) = Subject::new("every_truncation_is_noticed") else { return };
    // mksquashfs pads images to 4 KiB; that may be missing.
    let used = u64::from_le_bytes(subject.bytes[40..48].try_into().unwrap()) as usize;
    let whole = subject.bytes.clone();
    for len in (0..100).chain((100..used).step_by(97)).chain([used - 1]) {
        subject.bytes = whole[..len].to_vec();
        let error = subject.open().err().unwrap_or_else(|| panic!("{len} bytes were opened")).to_string();
        assert!(
            error.contains("cut off") || error.contains("not a squashfs") || error.contains("nothing is there"),
            "{len}: {error}"
        );
    }
    subject.bytes = whole[..used].to_vec();
    subject.open().unwrap().verify(|_| {}).unwrap();
}

#[test]
fn files_that_are_not_images() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let open = || Image::open(&path, &Options::default()).err().unwrap();
    assert_eq!(open().errno(), Errno::ENOENT);
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    assert_damage::<()>(Err(open()), "superblock", "not a squashfs image");
    fs::write(&path, "hsqs").unwrap();
    assert_damage::<()>(Err(open()), "superblock", "cut off");
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let error = Image::open(&pipe, &Options::default()).err().unwrap();
    assert!(error.to_string().contains(pipe.to_str().unwrap()), "{error}");
    let error = Image::open(dir.path(), &Options::default()).err().unwrap();
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
}

#[test]
fn names_that_cannot_be() {
    let Some(mut subject) = Subject::new("names_that_cannot_be") else { return };
    let at = subject.find(b"victim-name");
    for name in [&b"victim/name"[..], b"victim\0name", b"/"] {
        subject.patch(at, b"victim-name");
        subject.patch(at, name);
        let image = subject.open().unwrap();
        assert_damage(image.entries(image.root()), "directory", "is impossible");
        assert_damage(image.lookup(image.root(), OsStr::new("file")), "directory", "is impossible");
    }
    subject.patch(at, b"victim-name");
    // The length of the name: one less than it has bytes.
    for (len, name) in [(0_u16, &b"."[..]), (1, b"..")] {
        subject.patch(at - 2, &len.to_le_bytes());
        subject.patch(at, name);
        let image = subject.open().unwrap();
        assert_damage(image.entries(image.root()), "directory", "is impossible");
    }
}

#[test]
fn directories_out_of_order_and_with_the_same_name_twice() {
    let Some(mut subject) = Subject::new("directories_out_of_order") else { return };
    let (first, last, twin) = (subject.find(b"aa-first"), subject.find(b"zz-last"), subject.find(b"dup-b"));
    subject.patch(first, b"zz-first");
    subject.patch(last, b"aa-last");
    subject.patch(twin, b"dup-a");
    let image = subject.open().unwrap();
    for (name, original) in [("zz-first", "aa-first"), ("aa-last", "zz-last"), ("dup-a", "dup-a"), ("victim-name", "victim-name")]
    {
        assert_eq!(*image.read(lookup(&image, name).unwrap(), 0, 100).unwrap(), *content(original).as_bytes());
    }
    let names: Vec<OsString> = image.entries(image.root()).unwrap().iter().map(|(name, _)| name.into()).collect();
    assert_eq!(names, ["aa-last", "cycle", "dup-a", "file", "link", "victim-name", "zz-first"]);
}

#[test]
fn an_inode_that_is_listed_by_two_numbers_is_one_file() {
    let Some(mut subject) = Subject::new("an_inode_that_is_listed_by_two_numbers") else { return };
    let entry = subject.find(b"dup-a") - 8;
    let delta = i16::from_le_bytes([subject.bytes[entry + 2], subject.bytes[entry + 3]]);
    subject.patch(entry + 2, &(delta + 1000).to_le_bytes());
    let image = subject.open().unwrap();
    let own = image.attr(lookup(&image, "dup-a").unwrap()).unwrap().ino;
    assert_eq!(image.lookup(image.root(), OsStr::new("dup-a")).unwrap().unwrap().ino, own + 1000);
    let union = Union::new(vec![Box::new(SquashfsLower::new(image))], None, haosfs::union::Options::default()).unwrap();
    let (by_name, attr) = union.lookup(ROOT, OsStr::new("dup-a")).unwrap();
    assert_eq!(by_name.id, NodeId(attr.ino));
    let mut listed = None;
    let mut take = |dir: &_, entry: &haosfs::union::Entry, _| {
        if entry.name == "dup-a" {
            listed = Some(union.enter(dir, entry).unwrap().0);
        }
        true
    };
    union.read_dir(ROOT, 0, &mut take).unwrap();
    assert!(std::sync::Arc::ptr_eq(&by_name, &listed.unwrap()));
}

/// What is kept open of a directory is not taken for another's that gets its number when it has been forgotten.
#[test]
fn of_two_directories_with_one_number_each_has_its_own_names() {
    let times = [("one", 0x1a2b_3c50), ("two", 0x1a2b_3c51)];
    let subject = Subject::with("of_two_directories_with_one_number", |tree| {
        times.into_iter().for_each(|(name, _)| fs::create_dir(tree.join(name)).unwrap());
        times.into_iter().for_each(|(name, time)| set_time(&tree.join(name), time));
    });
    let Some(mut subject) = subject else { return };
    let [one, two] = times.map(|(_, time)| subject.inode(time) + 12);
    let number: [u8; 4] = subject.bytes[one..one + 4].try_into().unwrap();
    subject.patch(two, &number);
    let [upper, work] = ["upper", "work"].map(|name| subject.dir.path().join(name));
    [&upper, &work].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let opened = Upper::open(&upper, &work, Prefix::Auto, Atime::Relative, |_| Ok(())).unwrap();
    let lower = SquashfsLower::new(subject.open().unwrap());
    let union = Union::new(vec![Box::new(lower)], Some(opened), haosfs::union::Options::default()).unwrap();

    let caller = Caller { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), pid: 0 };
    let make =
        |dir: NodeId, name| union.create(dir, &New::of(OsStr::new(name), Kind::File, 0o644, 0), caller, false).unwrap().0.id;
    let find = |name| union.lookup(ROOT, OsStr::new(name)).unwrap().0.id;
    let first = find("one");
    let inner = make(first, "inner");
    // It stays for what is in it, and leaves with that.
    union.forget(first, 1);
    union.forget(inner, 1);
    assert_eq!(union.nodes(), 1);
    let second = find("two");
    assert_eq!(second, first);
    make(second, "other");
    assert!(upper.join("two/other").exists() && !upper.join("one/other").exists());
}

#[test]
fn a_directory_in_itself() {
    let Some(mut subject) = Subject::new("a_directory_in_itself") else { return };
    let image = subject.open().unwrap();
    let root = image.root();
    let (root_ino, ino) = (image.attr(root).unwrap().ino, image.attr(lookup(&image, "cycle").unwrap()).unwrap().ino);
    // An entry is the inode's offset, the difference of its number to that in the header, type, length and name.
    let entry = subject.find(b"cycle") - 8;
    subject.patch(entry, &(root.0 as u16).to_le_bytes());
    assert_damage(subject.open().unwrap().verify(|_| {}), "inode", "but its directory has");
    let delta = i16::from_le_bytes([subject.bytes[entry + 2], subject.bytes[entry + 3]]);
    subject.patch(entry + 2, &(delta + root_ino as i16 - ino as i16).to_le_bytes());
    let image = subject.open().unwrap();
    assert_eq!(lookup(&image, "cycle").unwrap(), root);
    assert_damage(image.verify(|_| {}), "inode", "a directory is in two places");
}

#[test]
fn indexes_that_lie() {
    let extra = |tree: &Path| {
        fs::create_dir(tree.join("wide")).unwrap();
        for i in 0..WIDE {
            fs::write(tree.join(wide_name(i)), "").unwrap();
        }
        set_time(&tree.join("wide"), WIDE_TIME);
    };
    let Some(original) = Subject::with("indexes_that_lie", extra) else { return };
    let inode = original.inode(WIDE_TIME);
    // An extended directory: number of links at 16, size, block, parent, entries of the index at 32, the index at 40: byte of
    // the listing, block, length of the name.
    let cases: [(&str, usize, &[u8], &str, &str); 7] = [
        ("as it is", 16, &[], "", ""),
        ("2 GiB of names", 20, &[0xff, 0xff, 0xff, 0x7f], "directory", "is too long"),
        ("65535 entries", 32, &[0xff; 2], "directory index", ""),
        ("a byte behind the end", 40, &[0xff; 4], "directory index", "points to byte 4294967295"),
        ("a block behind the end", 44, &[0xff; 4], "directory", "past the end of its table"),
        ("a long name", 48, &[0xff; 4], "directory index", "a name of 4294967295 bytes"),
        ("a byte within an entry", 40, &[0x11, 0x20, 0, 0], "directory", ""),
    ];
    for (what, at, bytes, structure, words) in cases {
        let mut subject = Subject { dir: tempfile::tempdir().unwrap(), bytes: original.bytes.clone() };
        subject.patch(inode + at, bytes);
        subject.open().unwrap();
        // Without a budget every lookup goes through the index.
        let image = Image::open(&subject.path(), &Options { listing_cache: 0, ..Options::default() }).unwrap();
        let wide = lookup(&image, "wide").unwrap();
        let names = (0..WIDE).map(wide_name);
        let all = names.map(|name| image.lookup(wide, OsStr::new(&name[5..]))).collect::<Result<Vec<_>>>();
        println!("{what}");
        match structure {
            "" => assert!(all.unwrap().iter().all(Option::is_some)),
            _ => assert_damage(all, structure, words),
        }
    }
}

/// As squashfs-tools-ng writes it, and mksquashfs does not.
#[test]
fn an_index_may_have_a_point_for_the_beginning() {
    let extra = |tree: &Path| {
        fs::create_dir(tree.join("wide")).unwrap();
        (0..WIDE).for_each(|i| fs::write(tree.join(wide_name(i)), "").unwrap());
        set_time(&tree.join("wide"), WIDE_TIME);
    };
    let Some(mut subject) = Subject::with("an_index_may_have_a_point_for_the_beginning", extra) else { return };
    let inode = subject.inode(WIDE_TIME);
    let block = subject.bytes[inode + 24..][..4].to_vec();
    subject.patch(inode + 40, &[0; 4]);
    subject.patch(inode + 44, &block);
    subject.patch(inode + 52, &wide_name(0).as_bytes()[5..]);
    subject.open().unwrap();
    // Enough for a part of the directory, and not for all of it.
    let image = Image::open(&subject.path(), &Options { listing_cache: 256 << 10, ..Options::default() }).unwrap();
    let wide = lookup(&image, "wide").unwrap();
    assert_eq!(image.lookup(wide, OsStr::new("before all others")).unwrap(), None);
    for name in (0..WIDE).map(wide_name) {
        assert!(image.lookup(wide, OsStr::new(&name[5..])).unwrap().is_some(), "{name}");
    }
}

#[test]
fn files_that_lie() {
    let Some(original) = Subject::new("files_that_lie") else { return };
    let inode = original.inode(FILE_TIME);
    // A basic file: time at 8, then number, position of the data, fragment, offset in it, size, sizes of the blocks.
    let cases: [(&str, usize, &[u8], &str, &str); 9] = [
        ("data behind the end", 16, &[0xff, 0xff, 0xff, 0x7f], "block list", "past the end of the image"),
        ("fragment past the table", 20, &[99, 0, 0, 0], "fragment table", "entry 99 is asked for"),
        ("offset past the fragment", 24, &[0xff, 0x3f, 0, 0], "fragment", "are asked for, it has"),
        ("offset that overflows", 24, &[0xff; 4], "fragment", "are asked for, it has"),
        ("block larger than blocks", 32, &[1, 0x40, 0, 0], "block list", "is impossible"),
        ("stored block that is short", 32, &[5, 0, 0, 1], "block list", "a stored block has 5 bytes"),
        ("stored block of no bytes", 32, &[0, 0, 0, 1], "block list", "is impossible"),
        ("size with unknown bits", 32, &[5, 0, 0, 0x80], "block list", "is impossible"),
        ("compressed block cut short", 32, &[9, 0, 0, 0], "data block", "gzip"),
    ];
    for (name, at, bytes, structure, words) in cases {
        let mut subject = Subject { dir: tempfile::tempdir().unwrap(), bytes: original.bytes.clone() };
        subject.patch(inode + at, bytes);
        let image = subject.open().unwrap();
        println!("{name}");
        assert_damage(read(&image), structure, words);
        assert!(image.verify(|_| {}).is_err(), "{name}");
        assert_eq!(*image.read(lookup(&image, "aa-first").unwrap(), 0, 10).unwrap(), *content("aa-first").as_bytes());
    }
}

#[test]
fn a_file_larger_than_its_list() {
    let Some(mut subject) = Subject::new("a_file_larger_than_its_list") else { return };
    let inode = subject.inode(FILE_TIME);
    subject.patch(inode + 28, &[0xff; 4]);
    let image = subject.open().unwrap();
    let file = lookup(&image, "file").unwrap();
    assert_eq!(image.attr(file).unwrap().size, u64::from(u32::MAX));
    for offset in [1 << 20, 1 << 30, u64::from(u32::MAX) - 1] {
        assert_eq!(image.read(file, offset, 100).err().unwrap().errno(), Errno::EIO);
    }
    assert!(image.verify(|_| {}).is_err());
}

/// Nobody waits for the end of a list that could be read for hours.
#[test]
fn a_file_of_too_many_blocks() {
    let extra = |tree: &Path| {
        fs::write(tree.join("long"), Random(8).text(SIZE)).unwrap();
        // With a second name it has the inode that can tell of more than 4 GiB.
        fs::hard_link(tree.join("long"), tree.join("second")).unwrap();
        set_time(&tree.join("long"), WIDE_TIME);
    };
    let Some(mut subject) = Subject::with("a_file_of_too_many_blocks", extra) else { return };
    let inode = subject.inode(WIDE_TIME);
    // Type 9, and the size behind the position of the data.
    assert_eq!(subject.bytes[inode..][..2], [9, 0]);
    subject.patch(inode + 24, &(1_u64 << 45).to_le_bytes());
    let image = subject.open().unwrap();
    let long = lookup(&image, "long").unwrap();
    assert_eq!(image.attr(long).unwrap().size, 1 << 45);
    let refused = image.read(long, (1 << 45) - 5000, 100).unwrap_err();
    assert_eq!(refused.errno(), Errno::EOPNOTSUPP);
    assert!(
        refused.to_string().contains("a file of 2147483648 blocks can be read to the end of block 67108864 alone"),
        "{refused}"
    );
}

#[test]
fn blocks_that_hold_more_than_a_block() {
    let Some(mut subject) = Subject::new("blocks_that_hold_more_than_a_block") else { return };
    // 8 KiB instead of 16 KiB.
    subject.patch(12, &8192_u32.to_le_bytes());
    subject.patch(22, &13_u16.to_le_bytes());
    let image = subject.open().unwrap();
    assert_damage(image.read(lookup(&image, "file").unwrap(), 0, 100), "data block", "gzip");
    assert_eq!(read(&image).unwrap_err().errno(), Errno::EIO);
}

#[test]
fn links_that_lie() {
    let Some(mut subject) = Subject::new("links_that_lie") else { return };
    let inode = subject.inode(LINK_TIME);
    for len in [0_u32, 4096, u32::MAX] {
        subject.patch(inode + 20, &len.to_le_bytes());
        let image = subject.open().unwrap();
        let link = lookup(&image, "link").unwrap();
        assert_damage(image.readlink(link), "inode", "is impossible");
    }
    subject.patch(inode + 20, &22_u32.to_le_bytes());
    subject.patch(inode + 30, &[0]);
    let image = subject.open().unwrap();
    assert_damage(image.readlink(lookup(&image, "link").unwrap()), "inode", "NUL");
    subject.patch(inode, &[15, 0]);
    let image = subject.open().unwrap();
    assert_damage(image.attr(lookup(&image, "link").unwrap()), "inode", "no inode has the type 15");
}

#[test]
fn attributes_that_lie() {
    let Some(original) = Subject::new("attributes_that_lie") else { return };
    // Type and length of the name stand before it, the length of the value behind.
    let name = original.find(b"attribute-name");
    let table = u64::from_le_bytes(original.bytes[56..64].try_into().unwrap()) as usize;
    let ids = u64::from_le_bytes(original.bytes[table + 16..table + 24].try_into().unwrap()) as usize + 2;
    let cases: [(&str, usize, &[u8], &str, &str); 8] = [
        ("4 billion attributes", ids + 8, &[0xff; 4], "xattr", "attributes of one file are impossible"),
        ("more attributes than can be listed", ids + 8, &9363_u32.to_le_bytes(), "xattr", "9363 attributes of one file"),
        ("more attributes than there are", ids + 8, &[100, 0, 0, 0], "xattr", ""),
        ("list outside", ids, &[0xff; 8], "xattr", ""),
        ("long value", name + 14, &[0xff; 4], "xattr", "a value of 4294967295 bytes"),
        ("long name", name - 2, &[0xff; 2], "xattr", "a name of 65535 bytes"),
        ("empty name", name - 2, &[0; 2], "xattr", "a name of 0 bytes"),
        ("name with a NUL", name + 3, &[0], "xattr", "NUL"),
    ];
    for (what, at, bytes, structure, words) in cases {
        let mut subject = Subject { dir: tempfile::tempdir().unwrap(), bytes: original.bytes.clone() };
        subject.patch(at, bytes);
        let image = subject.open().unwrap();
        println!("{what}");
        let victim = lookup(&image, "victim-name").unwrap();
        assert_damage(image.xattrs(victim), structure, words);
        assert!(image.verify(|_| {}).is_err(), "{what}");
        assert_eq!(image.attr(victim).unwrap().size, 11);
    }
    // A value that claims to be elsewhere, but is no reference.
    let mut subject = Subject { dir: tempfile::tempdir().unwrap(), bytes: original.bytes };
    subject.patch(name - 3, &[1]);
    let image = subject.open().unwrap();
    let victim = lookup(&image, "victim-name").unwrap();
    assert_damage(image.xattr(victim, OsStr::from_bytes(b"user.attribute-name")), "xattr", "a reference of 15 bytes");
}

/// Appends a block of metadata that is not compressed.
fn push_metadata(bytes: &mut Vec<u8>, block: &[u8]) {
    bytes.extend((0x8000 | u16::try_from(block.len()).unwrap()).to_le_bytes());
    bytes.extend(block);
}

/// Appends one that cannot be decompressed.
fn push_damaged(bytes: &mut Vec<u8>) {
    bytes.extend(8_u16.to_le_bytes());
    bytes.extend([0xff; 8]);
}

/// Replaces the attributes of the only file that has some by `count` others with names of 255 bytes and their prefix.
fn with_long_names(original: &Subject, count: u32) -> Subject {
    // Type, length, name, and an empty value.
    let list: Vec<u8> =
        (0..count).flat_map(|n| [vec![0, 0, 255, 0], format!("{n:0>255}").into_bytes(), vec![0; 4]].concat()).collect();
    with_list(original, count, |bytes| list.chunks(8192).for_each(|block| push_metadata(bytes, block)))
}

/// Replaces them by a list of `count` attributes.
fn with_list(original: &Subject, count: u32, push: impl FnOnce(&mut Vec<u8>)) -> Subject {
    let mut bytes = original.bytes.clone();
    let lists = bytes.len() as u64;
    push(&mut bytes);
    let ids = bytes.len() as u64;
    push_metadata(&mut bytes, &[&0_u64.to_le_bytes()[..], &count.to_le_bytes(), &1_u32.to_le_bytes()].concat());
    let table = bytes.len() as u64;
    bytes.extend([&lists.to_le_bytes()[..], &1_u32.to_le_bytes(), &0_u32.to_le_bytes(), &ids.to_le_bytes()].concat());
    let used = bytes.len() as u64;
    let mut subject = Subject { dir: tempfile::tempdir().unwrap(), bytes };
    subject.patch(40, &used.to_le_bytes());
    subject.patch(56, &table.to_le_bytes());
    subject
}

#[test]
fn more_names_than_listxattr_can_give() {
    let Some(original) = Subject::new("more_names_than_listxattr_can_give") else { return };
    // With the prefix and a NUL each name is 261 bytes: 251 of them are 65511.
    let image = with_long_names(&original, 251).open().unwrap();
    let names = image.xattrs(lookup(&image, "victim-name").unwrap()).unwrap();
    assert_eq!((names.len(), names.iter().map(|name| name.len() + 1).sum()), (251, 65511));
    let subject = with_long_names(&original, 252);
    let image = subject.open().unwrap();
    assert_damage(image.xattrs(lookup(&image, "victim-name").unwrap()), "xattr", "more than 65536 bytes of names");
}

/// What follows a long value costs no more than where it is: a file may have thousands behind thousands of those.
#[test]
fn values_that_are_passed_over_are_not_decompressed() {
    let Some(original) = Subject::new("values_that_are_passed_over_are_not_decompressed") else { return };
    let (len, middle) = (65536_usize, 3);
    let value = vec![b'v'; len];
    let list = [&[0, 0, 1, 0, b'a'][..], &65536_u32.to_le_bytes(), &value, &[0, 0, 1, 0, b'b', 1, 0, 0, 0, b'w']].concat();
    let subject = with_list(&original, 2, |bytes| {
        for (at, block) in list.chunks(8192).enumerate() {
            if at == middle { push_damaged(bytes) } else { push_metadata(bytes, block) }
        }
    });
    let image = subject.open().unwrap();
    let victim = lookup(&image, "victim-name").unwrap();
    assert_eq!(image.xattrs(victim).unwrap(), ["user.a", "user.b"]);
    assert_eq!(image.xattr(victim, OsStr::new("user.b")).unwrap().unwrap(), b"w");
    assert_damage(image.xattr(victim, OsStr::new("user.a")), "metadata block", "");
    assert!(image.verify(|_| {}).is_err());
}

/// A table of owners that is damaged behind what is asked for is not read again for each file.
#[test]
fn owners_are_known_though_others_are_lost() {
    let Some(original) = Subject::new("owners_are_known_though_others_are_lost") else { return };
    let mut bytes = original.bytes.clone();
    let blocks = [bytes.len() as u64, 0];
    push_metadata(&mut bytes, &1234_u32.to_le_bytes().repeat(2048));
    let blocks = [blocks[0], bytes.len() as u64];
    push_damaged(&mut bytes);
    let table = bytes.len() as u64;
    bytes.extend(blocks.map(u64::to_le_bytes).concat());
    let used = bytes.len() as u64;
    let mut subject = Subject { dir: tempfile::tempdir().unwrap(), bytes };
    subject.patch(26, &4096_u16.to_le_bytes());
    subject.patch(40, &used.to_le_bytes());
    subject.patch(48, &table.to_le_bytes());
    let image = subject.open().unwrap();
    let victim = lookup(&image, "victim-name").unwrap();
    let before = image.blocks().decompressed;
    for _ in 0..100 {
        let attr = image.attr(victim).unwrap();
        assert_eq!((attr.uid, attr.gid), (1234, 1234));
    }
    assert_eq!(image.blocks().decompressed - before, 1, "the damaged block was tried again");
}
