//! Grown trees above and below: grown inside a union, they look as on a bare file system; copied up by a touch, they look as in
//! the image; and both after a remount.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
mod tree;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use tree::compare::{Tolerance, assert_same};
use tree::grow::{Recipe, grow};
use tree::snapshot::Snapshot;

const NEEDS: &[Requirement] =
    &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Tool("mkfs.xfs"), Requirement::Fuse];

/// What the trees must agree in: everything but the link counts of directories.
const STRICT: Tolerance =
    Tolerance { nanoseconds: false, times: false, directory_links: true, xattrs: false, acls: false, hard_links: false };

const RECIPE: Recipe = Recipe { seed: 7, wide: 500, acls: true };

/// The same seed, on a bare file system and inside the union.
fn grown_inside(driver: Driver, fs: Fs) {
    if !can_run("grown_inside", NEEDS) {
        return;
    }
    let (scratch, dir) = (Scratch::new(fs), open_temp_dir());
    let (lower, image) = (dir.path().join("lower"), dir.path().join("image.sqfs"));
    fs::create_dir_all(lower.join("from-below")).unwrap();
    squashfs::pack(&lower, &image, &[]);
    let bare = scratch.dir("bare");
    grow(&bare, &RECIPE);
    let expected = Snapshot::read(&bare).unwrap();
    let mut union = Union::new(driver, &[Lower::Image(image)], &scratch.dir("home"));
    let inside = union.path().join("from-below");
    grow(&inside, &RECIPE);
    assert_same("grown inside", &expected, &Snapshot::read(&inside).unwrap(), STRICT);
    union.remount();
    assert_same("after a remount", &expected, &Snapshot::read(&inside).unwrap(), STRICT);
    fs::remove_dir_all(&inside).unwrap();
    assert_eq!(fs::read_dir(union.path()).unwrap().count(), 0);
}

/// Makes every file, directory and symbolic link be copied up, and changes nothing but times of access.
fn touch_everything(root: &Path, seen: &Snapshot) {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: Timespec { tv_sec: 1_000_000, tv_nsec: 0 }, last_modification: omit };
    for name in seen.names.keys() {
        let path = root.join(std::ffi::OsStr::from_bytes(name));
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// Copy-up loses nothing. The kernel without an index breaks hard links, and so does any driver over a remount.
fn copied_up(driver: Driver, fs: Fs) {
    if !can_run("copied_up", NEEDS) {
        return;
    }
    let (scratch, dir) = (Scratch::new(fs), open_temp_dir());
    let (lower, image) = (dir.path().join("lower"), dir.path().join("image.sqfs"));
    fs::create_dir(&lower).unwrap();
    grow(&lower, &Recipe { acls: false, ..RECIPE });
    squashfs::pack(&lower, &image, &["-comp", "zstd"]);
    let mut union = Union::new(driver, &[Lower::Image(image)], &scratch.dir("home"));
    let expected = Snapshot::read(union.path()).unwrap().without_root();
    touch_everything(union.path(), &expected);
    let broken = Tolerance { hard_links: true, ..STRICT };
    let tolerance = if driver == Driver::Kernel { broken } else { STRICT };
    assert_same("copied up", &expected, &Snapshot::read(union.path()).unwrap().without_root(), tolerance);
    union.remount();
    assert_same("after a remount", &expected, &Snapshot::read(union.path()).unwrap().without_root(), broken);
    union.unmount();
    let upper = Snapshot::read(union.upper()).unwrap();
    assert!(expected.names.keys().all(|name| upper.names.contains_key(name)), "not everything was copied up");
}

macro_rules! targets {
    ($($name:ident: $run:ident($($arg:expr),*);)*) => { $(#[test] fn $name() { $run($($arg),*); })* };
}

targets! {
    overlay_grown_inside_ext4: grown_inside(Driver::Kernel, Fs::Ext4);
    overlay_grown_inside_tmpfs: grown_inside(Driver::Kernel, Fs::Tmpfs);
    haosfs_grown_inside_ext4: grown_inside(Driver::Haosfs, Fs::Ext4);
    haosfs_grown_inside_xfs: grown_inside(Driver::Haosfs, Fs::Xfs);
    haosfs_grown_inside_btrfs: grown_inside(Driver::Haosfs, Fs::Btrfs);
    haosfs_grown_inside_tmpfs: grown_inside(Driver::Haosfs, Fs::Tmpfs);
    overlay_copied_up_ext4: copied_up(Driver::Kernel, Fs::Ext4);
    overlay_copied_up_btrfs: copied_up(Driver::Kernel, Fs::Btrfs);
    haosfs_copied_up_ext4: copied_up(Driver::Haosfs, Fs::Ext4);
    haosfs_copied_up_xfs: copied_up(Driver::Haosfs, Fs::Xfs);
    haosfs_copied_up_btrfs: copied_up(Driver::Haosfs, Fs::Btrfs);
    haosfs_copied_up_tmpfs: copied_up(Driver::Haosfs, Fs::Tmpfs);
}
