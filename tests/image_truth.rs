//! Images by mksquashfs and backhand, compared with the trees they were made from and with the kernel's view of them.
// What fails in the support of tests fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod image;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek as _, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use haosfs::image::{Image, Options, Seek};
use image::compare::{Oracle, compare};
use image::mounted::{LoopDevice, Mounted};
use image::pack::{self, COMPRESSORS, pack};
use image::{not_root, skip, tree};

/// A tree and a place for images of it.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// `None`, and says so, where there is no mksquashfs.
    fn new(test: &str, many: usize) -> Option<Self> {
        if !pack::available() {
            skip(test, "needs mksquashfs");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        tree::build(&dir.path().join("tree"), many);
        Some(Self { dir })
    }

    /// A bench with a tree of some kilobytes.
    fn small(test: &str) -> Option<Self> {
        if !pack::available() {
            skip(test, "needs mksquashfs");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        tree::build_small(&dir.path().join("tree"));
        Some(Self { dir })
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn pack(&self, options: &[&str]) -> PathBuf {
        let image = self.dir.path().join("image");
        pack(&self.tree(), &image, options);
        image
    }

    /// Packs the tree with `options` and compares the image with it.
    fn check(&self, options: &[&str]) {
        let image = Image::open(&self.pack(options), &Options::default()).unwrap();
        let oracle = if options.contains(&"-no-xattrs") { Oracle::TreeWithoutXattrs } else { Oracle::Tree };
        let names = compare(&image, &self.tree(), oracle);
        assert!(names > 100, "{options:?}: {names} names");
        let totals = image.verify(|_| {}).unwrap();
        assert_eq!(totals.inodes(), u64::from(image.superblock().inodes), "{options:?}");
    }
}

#[test]
fn the_options_an_image_was_packed_with() {
    let Some(bench) = Bench::small("options") else { return };
    let cases: [(&[&str], Option<&str>); 8] = [
        (&["-comp", "gzip"], None),
        (&["-comp", "gzip", "-Xcompression-level", "3"], Some("level 3, window 15")),
        (&["-comp", "gzip", "-Xstrategy", "default,fixed"], Some("level 9, window 15, strategies default,fixed")),
        (&["-comp", "lzo"], Some("algorithm lzo1x_1, level 0")),
        (&["-comp", "xz"], None),
        (&["-comp", "xz", "-Xbcj", "x86,arm", "-Xdict-size", "64K"], Some("dictionary 65536, filters x86,arm")),
        (&["-comp", "lz4", "-Xhc"], Some("high compression")),
        (&["-comp", "zstd"], Some("level 3")),
    ];
    for (options, expected) in cases {
        let image = Image::open(&bench.pack(options), &Options::default()).unwrap();
        assert_eq!(image.superblock().compressor.to_string(), options[1]);
        let found = image.compressor_options().map(ToString::to_string);
        assert_eq!(found.as_deref(), expected, "{options:?}");
    }
}

fn check_compressor(compressor: &str) {
    let Some(bench) = Bench::new(compressor, 300) else { return };
    for block_size in ["4K", "128K", "1M"] {
        bench.check(&["-comp", compressor, "-b", block_size]);
    }
    bench.check(&["-comp", compressor, "-b", "64K", "-no-fragments"]);
    bench.check(&["-comp", compressor, "-b", "256K", "-always-use-fragments", "-no-xattrs", "-no-exports"]);
}

#[test]
fn gzip() {
    check_compressor("gzip");
}

#[test]
fn lzo() {
    check_compressor("lzo");
}

#[test]
fn lz4() {
    check_compressor("lz4");
}

#[test]
fn zstd() {
    check_compressor("zstd");
}

#[test]
fn xz_with_and_without_filters() {
    check_compressor("xz");
    let Some(bench) = Bench::new("xz", 10) else { return };
    bench.check(&["-comp", "xz", "-Xbcj", "x86"]);
    bench.check(&["-comp", "xz", "-Xbcj", "x86,arm,armthumb,powerpc,sparc,ia64", "-Xdict-size", "50%"]);
}

#[test]
fn uncompressed_in_part_and_as_a_whole() {
    let Some(bench) = Bench::new("uncompressed", 300) else { return };
    for options in [&["-noI"][..], &["-noD"], &["-noF"], &["-noX"], &["-noI", "-noD", "-noF", "-noX"], &["-noD", "-b", "4K"]] {
        bench.check(options);
    }
    bench.check(&["-no-sparse", "-no-duplicates"]);
    bench.check(&["-tailends", "-b", "8K"]);
    // No hard links in the image: every name is an inode of its own.
    let image = Image::open(&bench.pack(&["-no-hardlinks"]), &Options::default()).unwrap();
    assert!(image.verify(|_| {}).is_ok());
}

#[test]
fn stored_data_is_answered_from_the_mapping_across_blocks() {
    let Some(bench) = Bench::new("mapping", 1) else { return };
    let image = Image::open(&bench.pack(&["-noD", "-noF", "-b", "4K"]), &Options::default()).unwrap();
    let file = walk(&image, "contents/noise-1050000");
    assert!(matches!(image.read(file, 10, 1_000_000).unwrap(), haosfs::image::Bytes::Mapped(bytes) if bytes.len() == 1_000_000));
    assert_eq!(image.cached().data, 0);
}

fn walk(image: &Image, path: &str) -> haosfs::image::InodeRef {
    path.split('/').fold(image.root(), |at, name| image.lookup(at, OsStr::new(name)).unwrap().unwrap().inode)
}

#[test]
fn blocks_are_decompressed_once_by_sequential_readers() {
    const SIZE: usize = 8 << 20;
    let Some(bench) = Bench::small("sequential readers") else { return };
    let content = image::random::Random(8).text(SIZE);
    fs::write(bench.tree().join("long"), &content).unwrap();
    for (block_size, bytes) in [("4K", 4 << 10), ("128K", 128 << 10), ("1M", 1 << 20)] {
        // However far apart the readers come, all of it is kept.
        let options = Options { data_cache: 4 * SIZE as u64, ..Options::default() };
        let image = Image::open(&bench.pack(&["-comp", "lz4", "-b", block_size]), &options).unwrap();
        let long = walk(&image, "long");
        let read = |step: usize| {
            for offset in (0..SIZE).step_by(step) {
                assert!(*image.read(long, offset as u64, step).unwrap() == content[offset..SIZE.min(offset + step)]);
            }
        };
        std::thread::scope(|scope| {
            // Parts of blocks: whoever reads a whole block keeps it himself.
            for step in [bytes / 32, bytes / 2, bytes / 4 * 3 + 3] {
                scope.spawn(move || read(step));
            }
        });
        assert_eq!(image.decompressed() as usize, SIZE / bytes, "block size {block_size}");
        for offset in (0..SIZE).rev().step_by(70_001) {
            assert!(*image.read(long, offset as u64, 5000).unwrap() == content[offset..SIZE.min(offset + 5000)]);
        }
    }
}

#[test]
fn whole_blocks_do_not_drive_out_what_is_read_in_parts() {
    const SIZE: usize = 8 << 20;
    let Some(bench) = Bench::small("whole blocks") else { return };
    let content = image::random::Random(8).text(SIZE);
    fs::write(bench.tree().join("long"), &content).unwrap();
    let image = Image::open(&bench.pack(&["-comp", "lz4"]), &Options::default()).unwrap();
    let long = walk(&image, "long");
    assert_eq!(*image.read(long, 5, 1000).unwrap(), content[5..1005]);
    for (offset, len) in [(128 << 10, 128 << 10), (0, 1 << 20), (1 << 20, 7 << 20), (1000, 300 << 10)] {
        assert!(*image.read(long, offset as u64, len).unwrap() == content[offset..offset + len], "{len} bytes at {offset}");
    }
    // The first block stayed; the second was read whole, then in the row, and then in part together with a part of the third.
    assert_eq!(image.decompressed(), 1 + 1 + 7 + 56 + 2);
    assert_eq!(*image.read(long, 300_000, 9000).unwrap(), content[300_000..309_000]);
    assert_eq!(image.decompressed(), 1 + 1 + 7 + 56 + 2);
}

#[test]
fn readers_of_many_long_files_do_not_drive_out_each_others_blocks() {
    const SIZE: usize = 2 << 20;
    const FILES: usize = 10;
    let Some(bench) = Bench::small("many readers") else { return };
    let mut random = image::random::Random(9);
    for i in 0..FILES {
        fs::write(bench.tree().join(format!("long-{i}")), random.text(SIZE)).unwrap();
    }
    let options = Options { data_cache: 4 << 20, ..Options::default() };
    let image = Image::open(&bench.pack(&["-comp", "lz4"]), &options).unwrap();
    let files: Vec<_> = (0..FILES).map(|i| walk(&image, &format!("long-{i}"))).collect();
    for offset in (0..SIZE).step_by(4096) {
        for &file in &files {
            assert_eq!(image.read(file, offset as u64, 4096).unwrap().len(), 4096);
        }
    }
    assert_eq!(image.decompressed() as usize, FILES * SIZE / (128 << 10));
}

#[test]
fn twenty_thousand_entries_in_one_directory() {
    let Some(bench) = Bench::new("many entries", 20_000) else { return };
    bench.check(&["-comp", "lz4"]);
    // With next to no budget every lookup goes through the directory's own index.
    let options = Options { listing_cache: 64 << 10, ..Options::default() };
    let image = Image::open(&bench.dir.path().join("image"), &options).unwrap();
    let many = walk(&image, "names/many");
    // It is too long to be kept decoded, so nobody decodes it ahead.
    let anew = Image::open(&bench.dir.path().join("image"), &options).unwrap();
    anew.prepare_listing(many);
    assert_eq!(anew.cached().listings, 0);
    anew.prepare_listing(anew.root());
    assert!(anew.cached().listings > 0);
    let names = image.entries(many).unwrap();
    assert_eq!(names.len(), 20_000);
    for (name, entry) in names.iter() {
        assert_eq!(image.lookup(many, name).unwrap(), Some(entry));
        let absent = [name.as_encoded_bytes(), b"!"].concat();
        assert_eq!(image.lookup(many, OsStr::from_bytes(&absent)).unwrap(), None);
    }
    assert!(image.cached().listings <= options.listing_cache);
}

#[test]
fn caches_keep_to_their_budgets() {
    let Some(bench) = Bench::new("budgets", 3000) else { return };
    let options = Options { data_cache: 1 << 20, metadata_cache: 256 << 10, listing_cache: 128 << 10, ..Options::default() };
    let image = Image::open(&bench.pack(&["-b", "16K"]), &options).unwrap();
    compare(&image, &bench.tree(), Oracle::Tree);
    let cached = image.cached();
    assert!(cached.data <= options.data_cache && cached.data > 0, "{cached:?}");
    assert!(cached.metadata <= options.metadata_cache && cached.metadata > 0, "{cached:?}");
    assert!(cached.listings <= options.listing_cache && cached.listings > 0, "{cached:?}");
}

#[test]
fn the_kernel_sees_the_same() {
    let test = "the_kernel_sees_the_same";
    if let Some(reason) = not_root() {
        return skip(test, reason);
    }
    let Some(bench) = Bench::new(test, 2000) else { return };
    for compressor in COMPRESSORS {
        let image = bench.pack(&["-comp", compressor, "-b", "32K"]);
        match Mounted::new(&image, &bench.dir.path().join("mnt"), 0) {
            Ok(mounted) => {
                let names = compare(&Image::open(&image, &Options::default()).unwrap(), &mounted.at, Oracle::Kernel);
                assert!(names > 2000);
            }
            Err(reason) => skip(test, &format!("{compressor}: {reason}")),
        }
    }
}

#[test]
fn an_image_at_an_offset_of_a_file_and_of_a_block_device() {
    let test = "an_image_at_an_offset_of_a_file_and_of_a_block_device";
    let Some(bench) = Bench::new(test, 10) else { return };
    let bytes = fs::read(bench.pack(&["-comp", "zstd"])).unwrap();
    let shifted = bench.dir.path().join("shifted");
    for offset in [1, 4096, 70_001] {
        let mut file = File::create(&shifted).unwrap();
        file.seek(std::io::SeekFrom::Start(offset)).unwrap();
        file.write_all(&bytes).unwrap();
        // A loop device has whole sectors only; the image must lie in them.
        file.write_all(&[0; 511]).unwrap();
        let image = Image::open(&shifted, &Options { offset, ..Options::default() }).unwrap();
        compare(&image, &bench.tree(), Oracle::Tree);
        let error = Image::open(&shifted, &Options::default()).err().unwrap().to_string();
        assert!(error.contains("not a squashfs image"), "{error}");
    }
    let error = Image::open(&shifted, &Options { offset: 1 << 40, ..Options::default() }).err().unwrap().to_string();
    assert!(error.contains("nothing is there"), "{error}");
    if let Some(reason) = not_root() {
        return skip(test, reason);
    }
    match LoopDevice::new(&shifted) {
        Ok(device) => {
            let image = Image::open(&device.path, &Options { offset: 70_001, ..Options::default() }).unwrap();
            compare(&image, &bench.tree(), Oracle::Tree);
        }
        Err(reason) => skip(test, &reason),
    }
}

#[test]
fn a_sparse_file_of_more_than_four_gib() {
    const SIZE: u64 = (4 << 30) + (300 << 20) + 123;
    const BLOCK: u64 = 128 << 10;
    if !pack::available() {
        return skip("a_sparse_file_of_more_than_four_gib", "needs mksquashfs");
    }
    let dir = tempfile::tempdir().unwrap();
    // Reading holes is ten times faster from tmpfs.
    let source = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let tree = source.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let file = File::create(tree.join("huge")).unwrap();
    file.set_len(SIZE).unwrap();
    let marks = [(0, "first"), ((4 << 30) - 3, "across 4 GiB"), (SIZE - 4, "last")];
    for (at, text) in marks {
        file.write_all_at(text.as_bytes(), at).unwrap();
    }
    let path = dir.path().join("image");
    pack(&tree, &path, &["-comp", "lz4", "-b", "128K"]);
    let image = Image::open(&path, &Options::default()).unwrap();
    let huge = walk(&image, "huge");
    assert_eq!(image.attr(huge).unwrap().size, SIZE);
    for (at, text) in marks.iter().rev() {
        assert_eq!(*image.read(huge, *at, text.len()).unwrap(), *text.as_bytes());
    }
    assert_eq!(*image.read(huge, SIZE - 4, 100).unwrap(), *b"last");
    assert!(image.read(huge, 2 << 30, 1 << 20).unwrap().iter().all(|&b| b == 0));
    assert_eq!(image.seek(huge, 1 << 20, Seek::Data).unwrap(), (4 << 30) - BLOCK);
    assert_eq!(image.seek(huge, 0, Seek::Hole).unwrap(), BLOCK);
    assert_eq!(image.seek(huge, (4 << 30) + BLOCK, Seek::Data).unwrap(), SIZE / BLOCK * BLOCK);
    assert_eq!(image.verify(|_| {}).unwrap().bytes, SIZE);
}

#[test]
fn images_by_backhand() {
    use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader, compression::Compressor};
    let dir = tempfile::tempdir().unwrap();
    let content = image::random::Random(4).text(100_000);
    for compressor in [Compressor::Gzip, Compressor::Xz, Compressor::Zstd] {
        let mut writer = FilesystemWriter::default();
        writer.set_block_size(16 << 10);
        writer.set_compressor(FilesystemCompressor::new(compressor, None).unwrap());
        let header = NodeHeader { permissions: 0o640, uid: 7, gid: 8, mtime: 9 };
        writer.push_dir("dir", header).unwrap();
        writer.push_file(&content[..], "dir/file", header).unwrap();
        writer.push_file(&b"small"[..], "dir/small", header).unwrap();
        writer.push_symlink("file", "dir/link", header).unwrap();
        // More than fits into 64 KiB, without the index that mksquashfs makes.
        writer.push_dir("many", header).unwrap();
        for i in 0..3000 {
            writer.push_file(std::io::empty(), format!("many/a-somewhat-longer-name-{i}"), header).unwrap();
        }
        let path = dir.path().join("image");
        writer.write(File::create(&path).unwrap()).unwrap();
        check_backhand(&path, &content);
    }
}

fn check_backhand(path: &Path, content: &[u8]) {
    let image = Image::open(path, &Options { listing_cache: 64 << 10, ..Options::default() }).unwrap();
    let file = walk(&image, "dir/file");
    assert_eq!(*image.read(file, 0, 200_000).unwrap(), *content);
    assert_eq!(*image.read(walk(&image, "dir/small"), 0, 10).unwrap(), *b"small");
    assert_eq!(image.readlink(walk(&image, "dir/link")).unwrap(), "file");
    let attr = image.attr(file).unwrap();
    assert_eq!((attr.perm, attr.uid, attr.gid, attr.mtime.secs), (0o640, 7, 8, 9));
    assert_eq!(image.entries(walk(&image, "many")).unwrap().len(), 3000);
    for i in (0..3000).step_by(37) {
        walk(&image, &format!("many/a-somewhat-longer-name-{i}"));
    }
    assert_eq!(image.lookup(walk(&image, "many"), OsStr::new("absent")).unwrap(), None);
    image.verify(|_| {}).unwrap();
}
