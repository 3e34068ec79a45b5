//! Grown trees, packed by mksquashfs with every compressor and several block sizes, through haosfs and through the kernel:
//! what is mounted is what was packed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;

use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::open_temp_dir;
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use tempfile::TempDir;
use tree::compare::{Tolerance, assert_same};
use tree::grow::{Recipe, grow};
use tree::snapshot::Snapshot;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// What squashfs does not keep of a tree.
const SQUASHFS: Tolerance =
    Tolerance { nanoseconds: true, times: false, directory_links: true, xattrs: false, acls: true, hard_links: false };

/// A grown tree and what it looks like.
struct Original {
    dir: TempDir,
    seen: Snapshot,
}

impl Original {
    fn new(wide: usize) -> Self {
        let dir = open_temp_dir();
        let at = dir.path().join("tree");
        std::fs::create_dir(&at).unwrap();
        grow(&at, &Recipe { seed: 42, wide, acls: false });
        let seen = Snapshot::read(&at).unwrap();
        Self { dir, seen }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// Packs it, and gives the image to `check`.
    fn packed(&self, args: &[&str], check: impl FnOnce(&Path)) {
        let dir = open_temp_dir();
        let image = dir.path().join("image.sqfs");
        squashfs::pack(&self.tree(), &image, args);
        check(&image);
    }

    /// The image mounted by haosfs shows the original.
    fn shown_by_haosfs(&self, args: &[&str], tolerance: Tolerance) {
        self.packed(args, |image| {
            let union = Union::without_upper(Driver::Haosfs, &[Lower::Image(image.to_path_buf())], &[]);
            let found = Snapshot::read(union.path()).unwrap();
            assert_same(&format!("haosfs, {args:?}"), &self.seen, &found, tolerance);
        });
    }
}

/// Entries of the widest directory where a tree is packed many times.
const NARROW: usize = 600;

fn every_block_size(compressor: &[&str]) {
    if can_run("matrix", NEEDS) {
        let original = Original::new(NARROW);
        for block in ["4096", "131072", "1048576"] {
            original.shown_by_haosfs(&[compressor, &["-b", block]].concat(), SQUASHFS);
        }
    }
}

macro_rules! compressors {
    ($($name:ident: $args:expr;)*) => { $(#[test] fn $name() { every_block_size(&$args); })* };
}

compressors! {
    gzip: ["-comp", "gzip"];
    xz: ["-comp", "xz"];
    xz_with_filters: ["-comp", "xz", "-Xbcj", "x86,arm"];
    lz4: ["-comp", "lz4"];
    lz4_hc: ["-comp", "lz4", "-Xhc"];
    zstd: ["-comp", "zstd"];
    lzo: ["-comp", "lzo"];
    stored: ["-noI", "-noId", "-noD", "-noF", "-noX"];
}

/// Images without one or another of their tables.
#[test]
fn layouts() {
    if !can_run("layouts", NEEDS) {
        return;
    }
    let original = Original::new(NARROW);
    let without_xattrs = Tolerance { xattrs: true, ..SQUASHFS };
    for args in [
        &["-no-fragments"][..],
        &["-always-use-fragments"],
        &["-no-exports"],
        &["-no-duplicates"],
        &["-no-sparse"],
        &["-noI"],
        &["-noD"],
    ] {
        original.shown_by_haosfs(&[&["-comp", "zstd"], args].concat(), SQUASHFS);
    }
    original.shown_by_haosfs(&["-comp", "zstd", "-no-xattrs"], without_xattrs);
    original.shown_by_haosfs(&["-comp", "gzip", "-no-xattrs", "-no-fragments", "-no-exports", "-nopad"], without_xattrs);
}

/// 20,000 entries in one directory, with a directory index; also what the kernel's squashfs shows of the same image.
#[test]
fn wide_directories() {
    if !can_run("wide_directories", NEEDS) {
        return;
    }
    let original = Original::new(20_000);
    original.packed(&["-comp", "zstd"], |image| {
        let union = Union::without_upper(Driver::Haosfs, &[Lower::Image(image.to_path_buf())], &[]);
        let found = Snapshot::read(union.path()).unwrap();
        assert_same("haosfs", &original.seen, &found, SQUASHFS);
    });
}

/// The oracle itself: the kernel's squashfs, and the kernel's overlayfs over it, show the original.
#[test]
fn the_kernel_shows_the_original() {
    if !can_run("the_kernel_shows_the_original", NEEDS) {
        return;
    }
    let original = Original::new(20_000);
    original.packed(&["-comp", "lz4"], |image| {
        let dir = open_temp_dir();
        let (at, home) = (dir.path().join("at"), dir.path().join("home"));
        std::fs::create_dir(&at).unwrap();
        std::fs::create_dir(&home).unwrap();
        let mount = squashfs::mount(image, &at);
        assert_same("squashfs", &original.seen, &Snapshot::read(mount.path()).unwrap(), SQUASHFS);
        let union = Union::new(Driver::Kernel, &[Lower::Image(image.to_path_buf())], &home);
        // The root's attributes are those of the new upper.
        assert_same(
            "overlay",
            &original.seen.clone().without_root(),
            &Snapshot::read(union.path()).unwrap().without_root(),
            SQUASHFS,
        );
    });
}

/// Growing is repeatable, and the comparison sees what differs.
#[test]
fn the_comparison_sees_differences() {
    if !can_run("the_comparison_sees_differences", &[Requirement::Root]) {
        return;
    }
    let (one, two) = (Original::new(10), Original::new(10));
    assert_same("the same seed", &one.seen, &two.seen, Tolerance { directory_links: true, ..Tolerance::default() });
    type Change<'a> = (&'a str, &'a dyn Fn(&Path));
    let changes: [Change<'_>; 6] = [
        ("names/...: missing", &|tree| std::fs::remove_file(tree.join("names/...")).unwrap()),
        ("names/new: should not be there", &|tree| std::fs::write(tree.join("names/new"), b"").unwrap()),
        ("deep: mode (octal)", &|tree| drop(run(Command::new("chmod").arg("1111").arg(tree.join("deep"))))),
        ("files/twin-a: digest", &|tree| std::fs::write(tree.join("files/twin-a"), vec![1; 300_000]).unwrap()),
        ("nodes/fifo: mtime", &|tree| drop(run(Command::new("touch").arg(tree.join("nodes/fifo"))))),
        ("links/a/first-0: link count", &|tree| std::fs::hard_link(tree.join("links/a/first-0"), tree.join("links/x")).unwrap()),
    ];
    for (line, change) in changes {
        change(&two.tree());
        let found = Snapshot::read(&two.tree()).unwrap();
        let differences = tree::compare::differences(&one.seen, &found, Tolerance::default());
        assert!(differences.iter().any(|difference| difference.starts_with(line)), "{line} is not in {differences:#?}");
    }
}

/// A file of more than 4 GiB, nearly all of it a hole.
#[test]
fn files_over_4_gib() {
    use std::os::unix::fs::FileExt;
    if !can_run("files_over_4_gib", NEEDS) {
        return;
    }
    let dir = open_temp_dir();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image.sqfs"));
    std::fs::create_dir(&tree).unwrap();
    let len = (4_u64 << 30) + 5_000_000;
    let file = std::fs::File::create(tree.join("huge")).unwrap();
    file.set_len(len).unwrap();
    file.write_all_at(b"near the end", len - 100).unwrap();
    squashfs::pack(&tree, &image, &["-comp", "lz4", "-b", "1M"]);
    let union = Union::without_upper(Driver::Haosfs, &[Lower::Image(image)], &[]);
    let huge = std::fs::File::open(union.path().join("huge")).unwrap();
    assert_eq!(huge.metadata().unwrap().len(), len);
    let mut bytes = [1; 112];
    huge.read_exact_at(&mut bytes[..], len - 112).unwrap();
    assert_eq!(&bytes[..24], b"\0\0\0\0\0\0\0\0\0\0\0\0near the end");
    let data = rustix::fs::seek(&huge, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!(data <= len - 100 && data > len - (2 << 20), "data at {data}");
}
