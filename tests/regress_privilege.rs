//! What nobody may gain or lose by a copy-up: set-id bits, groups, access lists, and uppers that change hands.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[allow(dead_code, reason = "shared with the POSIX suite")]
#[path = "posix/assertions.rs"]
mod assertions;
mod mounted;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use assertions::{exists, lstat, names};
use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::open_temp_dir;
use mounted::union::{Driver, Union};
use mounted::user::{NOBODY, as_user};
use rustix::fs::{AtFlags, CWD, StatxFlags, Timespec, Timestamps, listxattr, statx, utimensat};

const NEEDS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Tool("mksquashfs"),
    Requirement::Tool("setfacl"),
    Requirement::Tool("fusermount3"),
    Requirement::Fuse,
];

/// Everything shown as the ordinary user's, by root's daemon.
const SQUASHED: &[&str] = &["uid=65534", "gid=65534", "allow_other"];

fn mode(path: &Path) -> u32 {
    lstat(path).mode() & 0o7777
}

/// A file named `prog` of root's with that mode.
fn program(mode: u32) -> Ground {
    Ground::image(&[], |tree| {
        fs::write(tree.join("prog"), b"#!/bin/sh\n").unwrap();
        fs::set_permissions(tree.join("prog"), Permissions::from_mode(mode)).unwrap();
    })
}

/// Whoever runs it becomes neither root nor a member of root's group.
#[track_caller]
fn no_rights_of_root(union: &Union) {
    if let Ok(copy) = fs::symlink_metadata(union.upper().join("prog")) {
        assert!(copy.mode() & 0o4000 == 0 || copy.uid() == NOBODY, "set-uid {}: {:o}", copy.uid(), copy.mode());
        assert!(copy.mode() & 0o2000 == 0 || copy.gid() == NOBODY, "set-gid {}: {:o}", copy.gid(), copy.mode());
    }
}

#[test]
fn a_squashed_owner_makes_no_program_of_root() {
    if !can_run("a_squashed_owner_makes_no_program_of_root", NEEDS) {
        return;
    }
    let ground = program(0o755);
    let union = ground.mount(Driver::Haosfs, SQUASHED);
    for mode in [0o4755, 0o6755] {
        // Whether it is refused is free; what the upper holds is not.
        as_user(NOBODY, NOBODY, &[], || drop(fs::set_permissions(union.path().join("prog"), Permissions::from_mode(mode))));
        no_rights_of_root(&union);
    }
}

#[test]
fn a_squashed_owner_keeps_no_program_of_root() {
    if !can_run("a_squashed_owner_keeps_no_program_of_root", NEEDS) {
        return;
    }
    let ground = program(0o6755);
    let union = ground.mount(Driver::Haosfs, SQUASHED);
    let time = Timespec { tv_sec: 1000, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    as_user(NOBODY, NOBODY, &[], || utimensat(CWD, union.path().join("prog"), &times, AtFlags::empty())).unwrap();
    assert!(exists(union.upper().join("prog")));
    no_rights_of_root(&union);
}

#[test]
fn truncating_takes_set_id_bits_at_once() {
    if !can_run("truncating_takes_set_id_bits_at_once", NEEDS) {
        return;
    }
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let ground = program(0o6777);
        let union = ground.mount(driver, &[]);
        let path = union.path().join("prog");
        assert_eq!(mode(&path), 0o6777);
        let file = as_user(1000, 1000, &[], || OpenOptions::new().write(true).truncate(true).open(&path)).unwrap();
        // The mode alone may be asked for: a size known to be stale must not be what brings the new mode.
        let asked = statx(CWD, &path, AtFlags::empty(), StatxFlags::MODE).unwrap();
        assert_eq!(format!("{:o}", asked.stx_mode & 0o7777), "777", "{driver:?}");
        assert_eq!(format!("{:o}", mode(&path)), "777", "{driver:?}");
        assert_eq!(format!("{:o}", file.metadata().unwrap().mode() & 0o7777), "777", "{driver:?}");
    }
}

/// A work directory with a group and lists that new files in it inherit.
fn mount_with_generous_work(ground: &Ground) -> Union {
    let work = ground.home().join("work");
    fs::create_dir(&work).unwrap();
    chown(&work, None, Some(1000)).unwrap();
    fs::set_permissions(&work, Permissions::from_mode(0o2755)).unwrap();
    run(Command::new("setfacl").args(["-d", "-m", "u:65534:rwx"]).arg(&work));
    ground.mount(Driver::Haosfs, &[])
}

#[track_caller]
fn is_plain(path: &Path, mode: u32) {
    let meta = lstat(path);
    let found = format!("{}:{} {:o}", meta.uid(), meta.gid(), meta.mode() & 0o7777);
    assert_eq!(found, format!("0:0 {mode:o}"), "{}", path.display());
    let mut list = vec![0; 4096];
    let len = listxattr(path, &mut list[..]).unwrap();
    let list = String::from_utf8_lossy(&list[..len]).into_owned();
    assert!(!list.contains("posix_acl"), "{}: {list}", path.display());
}

/// Whoever can pass through a directory of mode 0 by privilege makes such a one, as the kernel does.
#[test]
fn unfinished_objects_are_out_of_reach() {
    if !can_run("unfinished_objects_are_out_of_reach", NEEDS) {
        return;
    }
    let ground = Ground::image(&["-all-root"], |tree| fs::write(tree.join("f"), b"").unwrap());
    let home = open_temp_dir();
    for (driver, perm) in [(Driver::Kernel, 0), (Driver::Haosfs, 0), (Driver::HaosfsUser, 0o700)] {
        let home = home.path().join(driver.name());
        fs::create_dir(&home).unwrap();
        let union = ground.mount_with(driver, &home, &[]);
        assert_eq!(lstat(home.join("work/work")).mode() & 0o7777, perm, "{driver:?}");
        drop(union);
    }
}

#[test]
fn copies_inherit_nothing_from_the_work_directory() {
    if !can_run("copies_inherit_nothing_from_the_work_directory", NEEDS) {
        return;
    }
    let ground = Ground::image(&["-all-root"], |tree| {
        fs::write(tree.join("f"), b"f").unwrap();
        fs::set_permissions(tree.join("f"), Permissions::from_mode(0o640)).unwrap();
        fs::create_dir(tree.join("d")).unwrap();
        fs::set_permissions(tree.join("d"), Permissions::from_mode(0o750)).unwrap();
    });
    let union = mount_with_generous_work(&ground);
    OpenOptions::new().append(true).open(union.path().join("f")).unwrap().write_all(b"more").unwrap();
    fs::write(union.path().join("d/new"), b"").unwrap();
    is_plain(&union.upper().join("f"), 0o640);
    is_plain(&union.upper().join("d"), 0o750);
}

#[test]
fn what_replaces_a_whiteout_inherits_nothing_from_the_work_directory() {
    if !can_run("what_replaces_a_whiteout_inherits_nothing_from_the_work_directory", NEEDS) {
        return;
    }
    let ground = Ground::image(&["-all-root"], |tree| {
        ["f", "d", "l"].iter().for_each(|name| fs::write(tree.join(name), b"").unwrap());
    });
    let union = mount_with_generous_work(&ground);
    ["f", "d", "l"].iter().for_each(|name| fs::remove_file(union.path().join(name)).unwrap());
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(union.path().join("f")).unwrap();
    rustix::fs::mkdir(union.path().join("d"), rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("target", union.path().join("l")).unwrap();
    is_plain(&union.upper().join("f"), 0o600);
    is_plain(&union.upper().join("d"), 0o700);
    assert_eq!((lstat(union.upper().join("l")).uid(), lstat(union.upper().join("l")).gid()), (0, 0));
}

/// A directory `d` that the driver's marks make opaque in the upper.
fn with_opaque_directory(driver: Driver) -> (Ground, Union) {
    let ground = Ground::image(&["-force-uid", "65534", "-force-gid", "65534"], |tree| {
        fs::create_dir(tree.join("d")).unwrap();
        fs::write(tree.join("d/of-the-lower"), b"").unwrap();
    });
    let mut union = ground.mount(driver, &[]);
    let replace = || {
        fs::remove_dir_all(union.path().join("d")).unwrap();
        fs::create_dir(union.path().join("d")).unwrap();
        assert_eq!(names(union.path().join("d")), Vec::<String>::new());
    };
    if driver == Driver::HaosfsUser {
        as_user(NOBODY, NOBODY, &[], replace)
    } else {
        replace()
    }
    union.unmount();
    (ground, union)
}

#[test]
fn a_user_s_upper_is_right_or_refused_by_root() {
    if !can_run("a_user_s_upper_is_right_or_refused_by_root", NEEDS) {
        return;
    }
    let (ground, mut union) = with_opaque_directory(Driver::HaosfsUser);
    if let Err(refusal) = catch_unwind(AssertUnwindSafe(|| union.remount_by(Driver::Haosfs))) {
        let words = refusal.downcast_ref::<String>().unwrap();
        assert!(words.contains("userxattr"), "{words}");
        union = ground.mount(Driver::Haosfs, &["userxattr"]);
    }
    let dir = union.path().join("d");
    assert_eq!(names(&dir), Vec::<String>::new());
    let len = listxattr(&dir, &mut [0_u8; 4096][..]).unwrap();
    assert_eq!(len, 0, "the marks show");
}

#[test]
fn root_s_upper_is_right_or_refused_by_a_user() {
    if !can_run("root_s_upper_is_right_or_refused_by_a_user", NEEDS) {
        return;
    }
    let (ground, union) = with_opaque_directory(Driver::Haosfs);
    drop(union);
    give_away(&ground.home());
    match catch_unwind(AssertUnwindSafe(|| ground.mount(Driver::HaosfsUser, &[]))) {
        Ok(union) => assert_eq!(as_user(NOBODY, NOBODY, &[], || names(union.path().join("d"))), Vec::<String>::new()),
        Err(refusal) => {
            let words = refusal.downcast_ref::<String>().unwrap();
            assert!(words.contains("overlay"), "{words}");
        }
    }
}

/// Makes a whole tree the user's.
fn give_away(path: &Path) {
    lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if lstat(path).is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
}
