//! Images that are lost while they are open: reads fail with EIO, the process lives.
// What fails in the support of tests fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod image;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use haosfs::error::{Errno, Result};
use haosfs::image::{Image, InodeRef, Options};
use haosfs::types::{Atime, Attr, Caller, Kind};
use haosfs::union::create::New;
use haosfs::union::lower::{Listing, Lower, LowerEntry, LowerId, LowerSpace, Seek};
use haosfs::union::{Bytes, Prefix, ROOT, SquashfsLower, Union, Upper};
use image::mounted::LoopDevice;
use image::pack::{self, pack};
use image::random::Random;
use image::{not_root, skip};

const FILES: usize = 40;
const SIZE: usize = 200_000;

/// An image of some noise, which no compressor shrinks, and some text.
fn make(test: &str, options: &[&str]) -> Option<(tempfile::TempDir, PathBuf)> {
    if !pack::available() {
        skip(test, "needs mksquashfs");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mut random = Random(5);
    for i in 0..FILES {
        let content = if i % 2 == 0 { random.bytes(SIZE) } else { random.text(SIZE) };
        fs::write(tree.join(format!("file{i}")), content).unwrap();
    }
    let image = dir.path().join("image");
    pack(&tree, &image, options);
    Some((dir, image))
}

fn file(image: &Image, number: usize) -> Result<InodeRef> {
    let found = image.lookup(image.root(), OsStr::new(&format!("file{number}")))?;
    Ok(found.unwrap().inode)
}

/// Reads all files; counts those that could be read as they were, and those that failed with EIO.
fn read_all(image: &Image, tree: &Path) -> (usize, usize) {
    let (mut good, mut lost) = (0, 0);
    for i in 0..FILES {
        match file(image, i).and_then(|inode| image.read(inode, 0, SIZE)) {
            Ok(bytes) => {
                assert!(*bytes == fs::read(tree.join(format!("file{i}"))).unwrap(), "file{i} has wrong content");
                good += 1;
            }
            Err(e) => {
                assert_eq!(e.errno(), Errno::EIO, "{e}");
                assert!(e.to_string().contains("cannot be read"), "{e}");
                lost += 1;
            }
        }
    }
    (good, lost)
}

#[test]
fn a_file_cut_off_while_open_gives_eio() {
    for options in
        [&["-comp", "gzip"][..], &["-noD", "-noF"], &["-comp", "xz", "-b", "64K"], &["-comp", "zstd"], &["-comp", "lz4"]]
    {
        let Some((dir, path)) = make("a_file_cut_off_while_open_gives_eio", options) else { return };
        let image = Image::open(&path, &Options { data_cache: 0, ..Options::default() }).unwrap();
        // Metadata lies at the end: it is read before the end goes.
        for i in 0..FILES {
            file(&image, i).unwrap();
        }
        let half = fs::metadata(&path).unwrap().len() / 2;
        File::options().write(true).open(&path).unwrap().set_len(half).unwrap();
        let (good, lost) = read_all(&image, &dir.path().join("tree"));
        assert!(good > FILES / 4 && lost > FILES / 4, "{options:?}: {good} good, {lost} lost");
        assert_eq!(image.verify(|_| {}).unwrap_err().errno(), Errno::EIO);
    }
}

#[test]
fn metadata_cut_off_while_open_gives_eio() {
    let Some((_dir, path)) = make("metadata_cut_off_while_open_gives_eio", &["-comp", "zstd"]) else { return };
    let image = Image::open(&path, &Options { metadata_cache: 0, ..Options::default() }).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let error = image.attr(image.root()).unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert_eq!(image.entries(image.root()).unwrap_err().errno(), Errno::EIO);
}

#[test]
fn bytes_in_hand_are_known_to_be_lost() {
    let Some((_dir, path)) = make("bytes_in_hand_are_known_to_be_lost", &["-noD", "-noF", "-no-fragments"]) else { return };
    let image = Image::open(&path, &Options::default()).unwrap();
    let bytes = image.read(file(&image, 0).unwrap(), 0, SIZE).unwrap();
    assert!(image.is_intact(&bytes));
    File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert!(!image.is_intact(&bytes));
}

/// An image that is cut off as soon as somebody was told that what he has of it is whole.
struct CutOff {
    lower: SquashfsLower,
    path: PathBuf,
}

impl Lower for CutOff {
    fn root(&self) -> LowerId {
        self.lower.root()
    }

    fn lookup(&self, dir: LowerId, name: &OsStr) -> Result<Option<LowerEntry>> {
        self.lower.lookup(dir, name)
    }

    fn entries(&self, dir: LowerId) -> Result<Listing> {
        self.lower.entries(dir)
    }

    fn attr(&self, id: LowerId) -> Result<Attr> {
        self.lower.attr(id)
    }

    fn readlink(&self, id: LowerId) -> Result<OsString> {
        self.lower.readlink(id)
    }

    fn xattr_names(&self, id: LowerId) -> Result<Vec<OsString>> {
        self.lower.xattr_names(id)
    }

    fn xattr(&self, id: LowerId, name: &OsStr) -> Result<Option<Vec<u8>>> {
        self.lower.xattr(id, name)
    }

    fn read(&self, id: LowerId, offset: u64, len: usize) -> Result<Bytes<'_>> {
        self.lower.read(id, offset, len)
    }

    fn is_intact(&self, bytes: &Bytes<'_>) -> bool {
        let is_intact = self.lower.is_intact(bytes);
        File::options().write(true).open(&self.path).unwrap().set_len(4096).unwrap();
        // Another reader meets the pages that are gone, and finds zeros from then on.
        std::hint::black_box(bytes.iter().filter(|byte| **byte != 0).count());
        is_intact
    }

    fn seek(&self, id: LowerId, offset: u64, whence: Seek) -> Result<u64> {
        self.lower.seek(id, offset, whence)
    }

    fn space(&self) -> LowerSpace {
        self.lower.space()
    }
}

#[test]
fn no_zeros_are_copied_out_of_an_image_that_is_cut_off() {
    let options = ["-noD", "-noF", "-no-fragments"];
    let Some((dir, path)) = make("no_zeros_are_copied_out_of_an_image_that_is_cut_off", &options) else { return };
    let [upper, work] = ["upper", "work"].map(|name| dir.path().join(name));
    [&upper, &work].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let opened = Upper::open(&upper, &work, Prefix::Auto, Atime::Relative, |_| Ok(())).unwrap();
    let lower = CutOff { lower: SquashfsLower::new(Image::open(&path, &Options::default()).unwrap()), path };
    let union = Union::new(vec![Box::new(lower)], Some(opened), haosfs::union::Options::default()).unwrap();
    let caller = Caller { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), pid: 0 };
    let from = union.lookup(ROOT, OsStr::new("file2")).unwrap().0.id;
    let to = union.create(ROOT, &New::of(OsStr::new("copy"), Kind::File, 0o644, 0), caller, false).unwrap().0.id;
    let content = fs::read(dir.path().join("tree/file2")).unwrap();
    let copied = union.copy_range((from, 0), (to, 0), 65536, caller).unwrap();
    assert_eq!(copied, 65536);
    assert!(fs::read(upper.join("copy")).unwrap() == content[..copied], "other bytes than the image's");
    // What is gone is told, and nothing written.
    let again = union.copy_range((from, 65536), (to, 65536), 65536, caller);
    assert_eq!(again.unwrap_err().errno(), Errno::EIO);
    assert_eq!(fs::metadata(upper.join("copy")).unwrap().len(), 65536);
}

#[test]
fn many_threads_lose_a_file_at_once() {
    let Some((dir, path)) = make("many_threads_lose_a_file_at_once", &["-comp", "lz4", "-b", "16K"]) else { return };
    let tree = dir.path().join("tree");
    let image = Image::open(&path, &Options { data_cache: 0, ..Options::default() }).unwrap();
    let cut = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !cut.load(Ordering::Relaxed) {
                    read_all(&image, &tree);
                }
                let (_, lost) = read_all(&image, &tree);
                assert!(lost > 0);
            });
        }
        File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        cut.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_block_device_that_shrinks_gives_eio() {
    let test = "a_block_device_that_shrinks_gives_eio";
    if let Some(reason) = not_root() {
        return skip(test, reason);
    }
    let Some((dir, path)) = make(test, &["-comp", "zstd", "-b", "64K"]) else { return };
    let device = match LoopDevice::new(&path) {
        Ok(device) => device,
        Err(reason) => return skip(test, &reason),
    };
    let image = Image::open(&device.path, &Options { data_cache: 0, ..Options::default() }).unwrap();
    for i in 0..FILES {
        file(&image, i).unwrap();
    }
    let half = fs::metadata(&path).unwrap().len() / 2;
    File::options().write(true).open(&path).unwrap().set_len(half).unwrap();
    // What the kernel has read ahead would still be there.
    let flushed = std::process::Command::new("blockdev").arg("--flushbufs").arg(&device.path).status().unwrap();
    assert!(flushed.success());
    let (_, lost) = read_all(&image, &dir.path().join("tree"));
    assert!(lost > 0, "every read succeeded");
}
