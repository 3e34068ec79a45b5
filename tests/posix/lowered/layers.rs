//! Several lowers: whiteouts and opaque directories in the middle ones, compared with the kernel's overlayfs over the same.

use std::fs::{self, create_dir, create_dir_all};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};

use super::super::assertions::{exists, names};
use super::super::case::{Verdict, is_wanted};
use super::super::xattr::{get, set};
use crate::mounted::squashfs;
use crate::mounted::union::{Driver, Lower, Union};
use crate::tree::compare::{Tolerance, assert_same};
use crate::tree::snapshot::Snapshot;

/// What the kernel and haosfs may answer differently about the same layers.
const BETWEEN_DRIVERS: Tolerance =
    Tolerance { nanoseconds: false, times: false, directory_links: true, xattrs: false, acls: false, hard_links: false };

/// One promise of a union of these layers, under an upper in the directory.
type LayersCase = (&'static str, fn(Driver, &Layers, &Path));

const CASES: &[LayersCase] = &[
    ("merged_as_listed", merged_as_listed),
    ("merged_as_the_kernel_does", merged_as_the_kernel_does),
    ("changed_as_the_kernel_does", changed_as_the_kernel_does),
    ("read_only_without_upper", read_only_without_upper),
    ("an_image_below_directories", an_image_below_directories),
    ("access_lists_survive_copy_up", access_lists_survive_copy_up),
    ("nanoseconds_survive_copy_up", nanoseconds_survive_copy_up),
    ("the_kernel_reads_the_upper", the_kernel_reads_the_upper),
];

/// Three directories, topmost first, and the lowest once more as an image.
pub struct Layers {
    top: PathBuf,
    middle: PathBuf,
    bottom: PathBuf,
    image: PathBuf,
}

impl Layers {
    /// Makes them in a directory on a file system that keeps `trusted.*`.
    pub fn new(home: &Path) -> Self {
        let at = |name: &str| home.join(name);
        let layers = Self { top: at("top"), middle: at("middle"), bottom: at("bottom"), image: at("image.sqfs") };
        bottom(&layers.bottom);
        middle(&layers.middle);
        top(&layers.top);
        squashfs::pack(&layers.bottom, &layers.image, &[]);
        layers
    }

    fn directories(&self) -> Vec<Lower> {
        [&self.top, &self.middle, &self.bottom].map(|path| Lower::Dir(path.clone())).to_vec()
    }
}

fn file(at: &Path, name: &str) {
    fs::write(at.join(name), format!("{name} of {}", at.file_name().unwrap().display())).unwrap();
}

fn whiteout(at: &Path, name: &str) {
    mknodat(CWD, at.join(name), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn opaque(path: &Path) {
    set(path, "trusted.overlay.opaque", b"y", XattrFlags::CREATE).unwrap();
}

fn bottom(at: &Path) {
    create_dir_all(at.join("dir/sub/deep")).unwrap();
    create_dir_all(at.join("hidden/sub")).unwrap();
    create_dir_all(at.join("gone/sub")).unwrap();
    create_dir_all(at.join("back/sub")).unwrap();
    for name in ["everywhere", "only-bottom", "removed", "replaced", "dir/a", "dir/b", "dir/sub/c", "dir/sub/deep/d"] {
        file(at, name);
    }
    for name in ["hidden/x", "hidden/sub/y", "gone/x", "gone/sub/y", "back/x", "back/sub/y", "becomes-a-directory", "listed"] {
        file(at, name);
    }
    create_dir(at.join("becomes-a-file")).unwrap();
    file(at, "becomes-a-file/inside");
    fs::set_permissions(at.join("only-bottom"), fs::Permissions::from_mode(0o640)).unwrap();
}

fn middle(at: &Path) {
    create_dir_all(at.join("dir/sub")).unwrap();
    create_dir_all(at.join("hidden/sub")).unwrap();
    create_dir_all(at.join("becomes-a-directory")).unwrap();
    for name in ["everywhere", "only-middle", "dir/b", "dir/m", "hidden/new", "hidden/sub/new", "becomes-a-directory/f"] {
        file(at, name);
    }
    for name in ["removed", "replaced", "gone", "back", "dir/a", "dir/sub/c"] {
        whiteout(at, name);
    }
    file(at, "becomes-a-file");
    opaque(&at.join("hidden"));
}

fn top(at: &Path) {
    create_dir_all(at.join("dir/sub/deep")).unwrap();
    create_dir_all(at.join("back/sub")).unwrap();
    create_dir(at.join("hidden")).unwrap();
    for name in ["everywhere", "only-top", "replaced", "dir/t", "dir/sub/deep/t", "back/new", "hidden/top"] {
        file(at, name);
    }
    whiteout(at, "only-middle");
    symlink("everywhere", at.join("listed")).unwrap();
}

/// Runs every function with layers and an upper of its own in `homes`.
pub fn run_layers(target: &str, driver: Driver, homes: &Path) {
    let mut verdict = Verdict::new(target);
    for (name, run) in CASES.iter().filter(|(name, _)| is_wanted(name)) {
        let home = homes.join(name);
        verdict.judge(name, || {
            create_dir(&home).unwrap();
            run(driver, &Layers::new(&home), &home);
        });
    }
    verdict.close();
}

fn merged_as_listed(driver: Driver, layers: &Layers, home: &Path) {
    let union = Union::new(driver, &layers.directories(), home);
    let root = union.path();
    assert!(names(root).iter().map(String::as_str).eq([
        "back",
        "becomes-a-directory",
        "becomes-a-file",
        "dir",
        "everywhere",
        "hidden",
        "listed",
        "only-bottom",
        "only-top",
        "replaced",
    ]));
    assert_eq!(names(root.join("dir")), ["b", "m", "sub", "t"]);
    assert_eq!(
        (names(root.join("dir/sub")), names(root.join("dir/sub/deep"))),
        (vec!["deep".into()], vec!["d".into(), "t".into()])
    );
    assert_eq!(
        (names(root.join("hidden")), names(root.join("back"))),
        (vec!["new".to_owned(), "sub".into(), "top".into()], vec!["new".to_owned(), "sub".into()],)
    );
    assert_eq!((names(root.join("hidden/sub")), names(root.join("back/sub")).len()), (vec!["new".to_owned()], 0));
    assert_eq!(fs::read_to_string(root.join("listed")).unwrap(), "everywhere of top");
    assert_eq!(names(root.join("becomes-a-directory")), ["f"]);
    assert_eq!(fs::read_to_string(root.join("becomes-a-file")).unwrap(), "becomes-a-file of middle");
}

/// A home for the kernel's own union of the same layers, beside the one under test.
fn beside(home: &Path) -> PathBuf {
    create_dir(home.join("kernel")).unwrap();
    home.join("kernel")
}

fn merged_as_the_kernel_does(driver: Driver, layers: &Layers, home: &Path) {
    let kernel = Union::new(Driver::Kernel, &layers.directories(), &beside(home));
    let union = Union::new(driver, &layers.directories(), home);
    // The uppers are made one after the other.
    let [expected, found] = [&kernel, &union].map(|union| Snapshot::read(union.path()).unwrap().without_root());
    assert_same(driver.name(), &expected, &found, BETWEEN_DRIVERS);
}

fn change(root: &Path) {
    fs::remove_dir_all(root.join("hidden")).unwrap();
    fs::create_dir(root.join("hidden")).unwrap();
    fs::remove_file(root.join("everywhere")).unwrap();
    fs::write(root.join("only-bottom"), b"changed").unwrap();
    fs::rename(root.join("dir/b"), root.join("dir/sub/b")).unwrap();
    fs::write(root.join("only-middle"), b"again").unwrap();
    fs::create_dir(root.join("gone")).unwrap();
    fs::write(root.join("becomes-a-directory/g"), b"new").unwrap();
    fs::remove_dir_all(root.join("back")).unwrap();
    symlink("dir", root.join("back")).unwrap();
}

fn changed_as_the_kernel_does(driver: Driver, layers: &Layers, home: &Path) {
    let mut kernel = Union::new(Driver::Kernel, &layers.directories(), &beside(home));
    let mut union = Union::new(driver, &layers.directories(), home);
    let tolerance = Tolerance { times: true, ..BETWEEN_DRIVERS };
    change(kernel.path());
    change(union.path());
    let expected = Snapshot::read(kernel.path()).unwrap();
    assert_same(driver.name(), &expected, &Snapshot::read(union.path()).unwrap(), tolerance);
    union.remount();
    assert_same("remounted", &expected, &Snapshot::read(union.path()).unwrap(), tolerance);
    kernel.unmount();
    union.unmount();
    uppers_agree(kernel.upper(), union.upper());
}

/// Both uppers hold the same names, types and contents, whiteouts and opaque marks included. What a driver keeps for itself
/// (origin, impure, index) may differ, and so may the modes of whiteouts, which nothing reads.
fn uppers_agree(kernel: &Path, other: &Path) {
    let mut snapshots = [kernel, other].map(|upper| Snapshot::read(upper).unwrap());
    for seen in snapshots.iter_mut().flat_map(|snapshot| snapshot.names.values_mut()) {
        seen.xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay.") || name.as_slice() == b"trusted.overlay.opaque");
        let is_whiteout = seen.mode & libc::S_IFMT == libc::S_IFCHR && seen.rdev == 0;
        if is_whiteout {
            seen.mode = libc::S_IFCHR;
            seen.nlink = 1;
            seen.first_name.clear();
        }
    }
    assert_same("uppers", &snapshots[0], &snapshots[1], Tolerance { times: true, ..BETWEEN_DRIVERS });
}

fn read_only_without_upper(driver: Driver, layers: &Layers, _home: &Path) {
    use super::super::assertions::refused;
    let union = Union::without_upper(driver, &layers.directories(), &[]);
    assert_eq!(fs::read_to_string(union.path().join("replaced")).unwrap(), "replaced of top");
    let root = union.path();
    refused(fs::write(root.join("new"), b""), rustix::io::Errno::ROFS);
    refused(fs::write(root.join("replaced"), b""), rustix::io::Errno::ROFS);
    refused(fs::remove_file(root.join("replaced")), rustix::io::Errno::ROFS);
    refused(fs::create_dir(root.join("new")), rustix::io::Errno::ROFS);
    refused(fs::rename(root.join("replaced"), root.join("new")), rustix::io::Errno::ROFS);
    refused(set(&root.join("replaced"), "user.x", b"", XattrFlags::empty()), rustix::io::Errno::ROFS);
    refused(fs::set_permissions(root.join("replaced"), fs::Permissions::from_mode(0o600)), rustix::io::Errno::ROFS);
}

fn an_image_below_directories(driver: Driver, layers: &Layers, home: &Path) {
    let lowers = [Lower::Dir(layers.top.clone()), Lower::Dir(layers.middle.clone()), Lower::Image(layers.image.clone())];
    let mut union = Union::new(driver, &lowers, home);
    assert_eq!(fs::read_to_string(union.path().join("only-bottom")).unwrap(), "only-bottom of bottom");
    assert_eq!(names(union.path().join("dir/sub/deep")), ["d", "t"]);
    fs::write(union.path().join("dir/sub/deep/d"), b"new").unwrap();
    fs::remove_file(union.path().join("dir/sub/deep/t")).unwrap();
    union.remount();
    assert_eq!(fs::read(union.path().join("dir/sub/deep/d")).unwrap(), b"new");
    assert!(!exists(union.path().join("dir/sub/deep/t")) && !exists(union.path().join("removed")));
}

fn access_lists_survive_copy_up(driver: Driver, layers: &Layers, home: &Path) {
    let acl = |args: &[&str]| {
        crate::mounted::mount::run(std::process::Command::new("setfacl").args(args).current_dir(&layers.bottom));
    };
    acl(&["-m", "u:1234:rw,g:5678:r", "only-bottom"]);
    acl(&["-d", "-m", "u:1234:rwx", "dir/sub/deep"]);
    let union = Union::new(driver, &layers.directories(), home);
    let (path, dir) = (union.path().join("only-bottom"), union.path().join("dir/sub/deep"));
    let (list, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let before = get(&path, list).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap();
    assert_eq!(get(&path, list).unwrap(), before);
    assert_eq!(get(&layers.bottom.join("only-bottom"), list).unwrap(), before);
    // The topmost directory's attributes count, and it has no list.
    assert!(get(&dir, default).is_err());
}

fn nanoseconds_survive_copy_up(driver: Driver, layers: &Layers, home: &Path) {
    use super::super::assertions::lstat;
    use std::os::unix::fs::MetadataExt;
    let union = Union::new(driver, &layers.directories(), home);
    let path = union.path().join("only-bottom");
    let before = lstat(layers.bottom.join("only-bottom"));
    set(&path, "user.touch", b"", XattrFlags::empty()).unwrap();
    assert_eq!((lstat(&path).mtime(), lstat(&path).mtime_nsec()), (before.mtime(), before.mtime_nsec()));
}

/// One upper, today under this driver and tomorrow under the kernel.
fn the_kernel_reads_the_upper(driver: Driver, layers: &Layers, home: &Path) {
    let mut union = Union::new(driver, &layers.directories(), home);
    change(union.path());
    let before = Snapshot::read(union.path()).unwrap();
    union.unmount();
    let kernel = Union::new(Driver::Kernel, &layers.directories(), home);
    assert_same("by the kernel", &before, &Snapshot::read(kernel.path()).unwrap(), BETWEEN_DRIVERS);
}
