//! `origin` and `impure`: the same bytes as the kernel's overlayfs writes, and inode numbers that stay over remounts where they
//! may be trusted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "origin/marks.rs"]
mod marks;
mod mounted;
#[path = "origin/script.rs"]
mod script;

use std::collections::BTreeMap;
use std::fs::{self, Permissions, create_dir, hard_link, rename};
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use marks::{is_impure, marks, origin, set_origin};
use mounted::ground::Ground;
use mounted::namespace::{give_away, run_again};
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use mounted::user::{NOBODY, as_user};
use rustix::io::Errno;
use script::{SCRIPTS, append, plant, touch};

const NEEDS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Tool("mksquashfs"),
    Requirement::Tool("getfattr"),
    Requirement::Tool("unshare"),
    Requirement::Tool("setpriv"),
    Requirement::Fuse,
];

/// A user namespace that begins while a union is mounted keeps that union alive, and its upper in use.
static NAMESPACES: RwLock<()> = RwLock::new(());

fn beside() -> RwLockReadGuard<'static, ()> {
    NAMESPACES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the inner run where its file system is.
const INSIDE: &str = "HAOSFS_TEST_INSIDE";

/// What a driver leaves in a fresh upper when all scripts have run.
fn written_by(driver: Driver, lower: &Lower, homes: &Path, options: &[&str]) -> BTreeMap<String, Vec<String>> {
    let home = homes.join(driver.name());
    create_dir(&home).unwrap();
    let mut union = Union::with_options(driver, std::slice::from_ref(lower), &home, options);
    SCRIPTS.iter().for_each(|(name, script)| script(&union.path().join(name)));
    union.unmount();
    marks(union.upper())
}

fn compare(lower: &Lower, homes: &Path, options: &[&str]) -> BTreeMap<String, Vec<String>> {
    let kernel = written_by(Driver::Kernel, lower, homes, options);
    let ours = written_by(Driver::Haosfs, lower, homes, options);
    for path in kernel.keys().chain(ours.keys()) {
        assert_eq!(kernel.get(path), ours.get(path), "{path} over {lower:?} with {options:?}: the kernel's, ours");
    }
    assert!(kernel.len() > SCRIPTS.len(), "{kernel:?}");
    ours
}

#[test]
fn images_give_the_kernel_s_bytes() {
    if !can_run("images_give_the_kernel_s_bytes", NEEDS) {
        return;
    }
    let _beside = beside();
    let homes = || open_temp_dir();
    let exported = Ground::image(&["-exports"], plant);
    compare(exported.lower(), homes().path(), &[]);
    compare(exported.lower(), homes().path(), &["xino=on"]);
    compare(exported.lower(), homes().path(), &["redirect_dir=on"]);
    let marked = compare(exported.lower(), homes().path(), &["userxattr"]);
    let origin = &marked["# file: write/file"][0];
    assert!(origin.starts_with("user.overlay.origin=0x00fb1d0001000000") && origin.ends_with("00000000"), "{origin}");
    let other = Ground::image(&["-no-exports"], plant);
    let marked = compare(other.lower(), homes().path(), &[]);
    assert_eq!(marked["# file: write/file"], ["trusted.overlay.origin=0x"]);
}

#[test]
fn directories_give_the_kernel_s_bytes() {
    if !can_run("directories_give_the_kernel_s_bytes", NEEDS) {
        return;
    }
    let _beside = beside();
    for kind in Fs::ALL {
        let scratch = Scratch::new(kind);
        plant(&scratch.dir("tree"));
        let lower = Lower::Dir(scratch.path().join("tree"));
        let marked = compare(&lower, &scratch.dir("homes"), &[]);
        assert!(marked["# file: write/file"][0].starts_with("trusted.overlay.origin=0x00fb"), "{kind:?}: {marked:?}");
        if kind == Fs::Ext4 {
            compare(&lower, &scratch.dir("user"), &["userxattr"]);
        }
    }
}

#[test]
fn a_user_namespace_gives_the_kernel_s_bytes() {
    let test = "a_user_namespace_gives_the_kernel_s_bytes";
    if let Some(at) = std::env::var_os(INSIDE) {
        let at = Path::new(&at);
        let marked = compare(&Lower::Dir(at.join("tree")), &at.join("homes"), &["userxattr"]);
        assert_eq!(marked["# file: write/file"], ["user.overlay.origin=0x"]);
    } else if can_run(test, NEEDS) {
        let _alone = NAMESPACES.write().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::new(Fs::Ext4);
        plant(&scratch.dir("tree"));
        scratch.dir("homes");
        give_away(scratch.path());
        run_again(test, INSIDE, scratch.path());
    }
}

/// A directory that was in the upper before there was one below it.
#[test]
fn a_directory_that_merges_is_given_its_origin() {
    if !can_run("a_directory_that_merges_is_given_its_origin", NEEDS) {
        return;
    }
    let _beside = beside();
    let scratch = Scratch::new(Fs::Ext4);
    fs::create_dir_all(scratch.path().join("tree/d/e/f")).unwrap();
    let lower = Lower::Dir(scratch.path().join("tree"));
    let marked = |driver: Driver| {
        let home = scratch.dir(driver.name());
        fs::create_dir_all(home.join("upper/d/e/f")).unwrap();
        create_dir(home.join("work")).unwrap();
        let mut union = Union::new(driver, std::slice::from_ref(&lower), &home);
        fs::metadata(union.path().join("d/e")).unwrap();
        union.unmount();
        marks(union.upper())
    };
    let kernel = marked(Driver::Kernel);
    assert_eq!(kernel, marked(Driver::Haosfs));
    assert_eq!(kernel.keys().collect::<Vec<_>>(), ["# file: .", "# file: d", "# file: d/e"]);
}

/// Numbers of some names of [`changed`], listed first: nothing has been looked up yet.
fn numbers(union: &Union) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for dir in ["", "d", "new"] {
        let at = union.path().join(dir);
        let listed: Vec<_> = fs::read_dir(&at).unwrap().map(Result::unwrap).collect();
        for entry in listed {
            let shown = fs::symlink_metadata(entry.path()).unwrap().ino();
            if union.driver() == Driver::Haosfs {
                assert_eq!(entry.ino(), shown, "{}: readdir(3), stat(2)", entry.path().display());
            }
            all.insert(entry.path().strip_prefix(union.path()).unwrap().display().to_string(), shown);
        }
    }
    all
}

/// A lower with a file of each sort, changed through a union.
fn changed(driver: Driver, lower: &Lower, home: &Path, options: &[&str]) -> Union {
    let union = Union::with_options(driver, std::slice::from_ref(lower), home, options);
    let at = |name: &str| union.path().join(name);
    let before = ["file", "d/below", "sym", "moved", "linked"].map(|name| fs::symlink_metadata(at(name)).unwrap().ino());
    append(at("file"));
    append(at("d/below"));
    touch(at("sym"));
    create_dir(at("new")).unwrap();
    fs::write(at("new/newer"), b"").unwrap();
    rename(at("moved"), at("new/moved")).unwrap();
    hard_link(at("linked"), at("new/linked")).unwrap();
    let after = ["file", "d/below", "sym", "new/moved", "new/linked"].map(|name| fs::symlink_metadata(at(name)).unwrap().ino());
    // The kernel's shows another number for the new name of a hard link.
    if driver == Driver::Haosfs {
        assert_eq!(before, after);
    }
    union
}

fn grow(tree: &Path) {
    create_dir(tree.join("d")).unwrap();
    ["file", "d/below", "moved", "linked", "untouched"].iter().for_each(|name| fs::write(tree.join(name), name).unwrap());
    symlink("nowhere", tree.join("sym")).unwrap();
}

const COPIED_UP: [&str; 6] = ["file", "d/below", "sym", "new/moved", "new/linked", "linked"];

#[test]
fn numbers_stay_over_remounts_where_the_kernel_s_do() {
    if !can_run("numbers_stay_over_remounts_where_the_kernel_s_do", NEEDS) {
        return;
    }
    let _beside = beside();
    let directory = Scratch::new(Fs::Ext4);
    grow(&directory.dir("tree"));
    let directory = Lower::Dir(directory.path().join("tree"));
    let image = Ground::image(&["-exports"], grow);
    for (lower, options, stay) in [
        (&directory, &[] as &[&str], true),
        (image.lower(), &[], false),
        (image.lower(), &["xino=on"], true),
        (image.lower(), &["metacopy=on"], true),
    ] {
        for driver in [Driver::Kernel, Driver::Haosfs] {
            let home = open_temp_dir();
            let mut union = changed(driver, lower, home.path(), options);
            let first = numbers(&union);
            union.remount();
            let second = numbers(&union);
            // The kernel's shows the upper's number for the new name of a hard link from the first.
            for name in COPIED_UP.iter().copied().filter(|name| driver == Driver::Haosfs || !name.contains("linked")) {
                assert_eq!(first[name] == second[name], stay, "{name} by {driver:?} over {lower:?} with {options:?}");
            }
            assert_eq!(first["untouched"], second["untouched"]);
        }
    }
}

#[test]
fn the_kernel_and_haosfs_follow_each_other_s_origins() {
    if !can_run("the_kernel_and_haosfs_follow_each_other_s_origins", NEEDS) {
        return;
    }
    let _beside = beside();
    let scratch = Scratch::new(Fs::Ext4);
    grow(&scratch.dir("tree"));
    let lower = Lower::Dir(scratch.path().join("tree"));
    for (writer, reader) in [(Driver::Kernel, Driver::Haosfs), (Driver::Haosfs, Driver::Kernel)] {
        let home = open_temp_dir();
        let mut union = changed(writer, &lower, home.path(), &[]);
        union.remount_by(reader);
        for (name, below) in COPIED_UP.iter().zip(["file", "d/below", "sym", "moved", "linked", "linked"]) {
            let real = fs::symlink_metadata(scratch.path().join("tree").join(below)).unwrap().ino();
            let seen = fs::symlink_metadata(union.path().join(name)).unwrap().ino();
            // The upper half of our numbers is the layer's.
            assert_eq!(seen & 0xffff_ffff, real, "{name} by {writer:?}, read by {reader:?}");
        }
    }
}

/// As after `cp -a` in the upper.
#[test]
fn two_files_of_one_origin_stay_two() {
    if !can_run("two_files_of_one_origin_stay_two", NEEDS) {
        return;
    }
    let _beside = beside();
    let scratch = Scratch::new(Fs::Ext4);
    grow(&scratch.dir("tree"));
    let mut union = changed(Driver::Haosfs, &Lower::Dir(scratch.path().join("tree")), &scratch.dir("home"), &[]);
    union.unmount();
    let upper = union.upper().to_path_buf();
    fs::write(upper.join("twin"), b"twin").unwrap();
    set_origin(&upper.join("twin"), &origin(&upper.join("file")));
    union.mount();
    let at = |name: &str| union.path().join(name);
    for _ in 0..2 {
        let (file, twin) = (fs::metadata(at("file")).unwrap(), fs::metadata(at("twin")).unwrap());
        assert_ne!(file.ino(), twin.ino());
        assert_eq!((file.nlink(), twin.nlink()), (1, 1));
        append(at("twin"));
        mounted::daemon::drop_caches();
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"filemore");
    assert_eq!(fs::read(at("twin")).unwrap(), b"twinmoremore");
    fs::remove_file(at("new/moved")).unwrap();
    union.remount_by(Driver::Kernel);
    let at = |name: &str| union.path().join(name);
    assert_eq!(fs::read(at("file")).unwrap(), b"filemore");
    assert_eq!(fs::metadata(at("twin")).map_err(|e| e.raw_os_error()).unwrap_err(), Some(Errno::STALE.raw_os_error()));
}

#[test]
fn bad_origins_hide_nothing() {
    if !can_run("bad_origins_hide_nothing", NEEDS) {
        return;
    }
    let _beside = beside();
    let scratch = Scratch::new(Fs::Ext4);
    grow(&scratch.dir("tree"));
    let image = Ground::image(&["-exports"], grow);
    for lower in [&Lower::Dir(scratch.path().join("tree")), image.lower()] {
        let home = open_temp_dir();
        let mut union = changed(Driver::Haosfs, lower, home.path(), &["xino=on"]);
        union.unmount();
        let upper = union.upper().to_path_buf();
        let good = origin(&upper.join("file"));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let cut = |len: usize| good[..len].to_vec();
        let of_a_directory = origin(&upper.join("d"));
        let bad = [vec![], cut(1), cut(20), cut(28), vec![0xff; 255], of_a_directory];
        let flipped = [(0, 1), (1, 0), (2, 20), (2, 25), (3, 4), (3, 8), (4, 0xff), (5, 0x55), (21, 0xff), (24, 0xff)];
        let all: Vec<Vec<u8>> = bad.into_iter().chain(flipped.map(|(at, byte)| with(at, byte))).collect();
        for (i, value) in all.iter().enumerate() {
            let path = upper.join(format!("bad{i}"));
            fs::write(&path, format!("{i}")).unwrap();
            set_origin(&path, value);
        }
        union.mount();
        let (numbers, file) = (numbers(&union), fs::metadata(union.path().join("file")).unwrap().ino());
        for (i, value) in all.iter().enumerate() {
            assert_eq!(fs::read(union.path().join(format!("bad{i}"))).unwrap(), format!("{i}").as_bytes(), "{value:x?}");
            assert_ne!(numbers[&format!("bad{i}")], file, "{value:x?}");
        }
    }
}

/// All images have the same UUID, none: then no handle says which image it is for.
#[test]
fn a_uuid_that_two_lowers_share_is_not_trusted() {
    if !can_run("a_uuid_that_two_lowers_share_is_not_trusted", NEEDS) {
        return;
    }
    let _beside = beside();
    let images = Ground::image(&["-exports"], grow);
    let home = open_temp_dir();
    let other = Ground::image(&["-exports"], |tree| fs::write(tree.join("more"), b"").unwrap());
    let lowers = [images.lower().clone(), other.lower().clone()];
    let mut union = Union::with_options(Driver::Haosfs, &lowers, home.path(), &["xino=on"]);
    append(union.path().join("file"));
    let before = fs::metadata(union.path().join("file")).unwrap().ino();
    union.remount();
    assert_ne!(fs::metadata(union.path().join("file")).unwrap().ino(), before);
}

/// Whatever this mount follows: another one may.
#[test]
fn impure_tells_of_every_origin() {
    if !can_run("impure_tells_of_every_origin", NEEDS) {
        return;
    }
    let _beside = beside();
    let image = Ground::image(&["-exports"], grow);
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let home = open_temp_dir();
        let mut union = changed(driver, image.lower(), home.path(), &[]);
        union.remount();
        create_dir(union.path().join("newer")).unwrap();
        rename(union.path().join("file"), union.path().join("newer/file")).unwrap();
        union.unmount();
        assert_eq!(is_impure(&union, "newer"), driver == Driver::Haosfs, "{driver:?}");
    }
}

#[test]
fn impure_stays_when_the_last_origin_has_gone() {
    if !can_run("impure_stays_when_the_last_origin_has_gone", NEEDS) {
        return;
    }
    let _beside = beside();
    let scratch = Scratch::new(Fs::Ext4);
    grow(&scratch.dir("tree"));
    let lower = Lower::Dir(scratch.path().join("tree"));
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let mut union = changed(driver, &lower, &scratch.dir(driver.name()), &[]);
        ["moved", "linked"].iter().for_each(|name| fs::remove_file(union.path().join("new").join(name)).unwrap());
        union.remount();
        fs::read_dir(union.path().join("new")).unwrap().for_each(drop);
        union.unmount();
        assert_eq!(is_impure(&union, "new"), driver == Driver::Haosfs, "{driver:?}");
    }
}

/// Whoever may not read a file cannot tell whether it has an origin.
#[test]
fn unreadable_files_move_without_privilege() {
    if !can_run("unreadable_files_move_without_privilege", NEEDS) {
        return;
    }
    let _beside = beside();
    let scratch = Scratch::new(Fs::Ext4);
    grow(&scratch.dir("tree"));
    give_away(scratch.path());
    let union = Union::new(Driver::HaosfsUser, &[Lower::Dir(scratch.path().join("tree"))], &scratch.dir("home"));
    let at = |name: &str| union.path().join(name);
    as_user(NOBODY, NOBODY, &[], || {
        fs::set_permissions(at("file"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(at("linked"), Permissions::from_mode(0o200)).unwrap();
        create_dir(at("new")).unwrap();
        rename(at("file"), at("new/file")).unwrap();
        hard_link(at("linked"), at("new/linked")).unwrap();
        fs::set_permissions(at("d"), Permissions::from_mode(0o300)).unwrap();
        rename(at("new/file"), at("d/file")).unwrap();
        assert_eq!(fs::symlink_metadata(at("d/file")).unwrap().len(), 4);
    });
}

/// A directory on a mounted image: the kernel itself knows that it has no UUID, but tells nobody.
#[test]
fn a_uuid_that_is_not_told_leaves_the_origin_empty() {
    if !can_run("a_uuid_that_is_not_told_leaves_the_origin_empty", NEEDS) {
        return;
    }
    let _beside = beside();
    let image = open_temp_dir();
    let [tree, packed, at] = ["tree", "packed", "mnt"].map(|name| image.path().join(name));
    [&tree, &at].iter().for_each(|dir| create_dir(dir).unwrap());
    grow(&tree);
    squashfs::pack(&tree, &packed, &["-exports"]);
    let mount = squashfs::mount(&packed, &at);
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let home = open_temp_dir();
        let mut union = changed(driver, &Lower::Dir(at.clone()), home.path(), &[]);
        union.unmount();
        assert_eq!(origin(&union.upper().join("file")).is_empty(), driver == Driver::Haosfs, "{driver:?}");
    }
    drop(mount);
}
