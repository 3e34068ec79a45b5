//! What nobody may gain or lose by a copy-up: set-id bits, groups, access lists, and uppers that change hands.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[allow(dead_code, reason = "shared with the POSIX suite")]
#[path = "posix/assertions.rs"]
mod assertions;
mod mounted;

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use assertions::{exists, lstat, names};
use haosfs::sys::cred::keep_capabilities;
use haosfs::types::{Atime, Caller, Kind};
use haosfs::union as core;
use haosfs::union::create::New;
use mounted::ground::Ground;
use mounted::mount::{Mount, run};
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::open_temp_dir;
use mounted::union::{Driver, Union};
use mounted::user::{NOBODY, as_user};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, StatxFlags, Timespec, Timestamps, XattrFlags, getxattr, listxattr, removexattr, setxattr, statx,
    utimensat,
};

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

/// Device nodes in an upper's root that a user may open without the union.
fn devices_of(uid: u32, upper: &Path) -> Vec<String> {
    let is_open = |name: &String| {
        let node = lstat(upper.join(name));
        node.file_type().is_char_device() && (node.rdev() != 0) && (node.uid() == uid || node.mode() & 0o7 != 0)
    };
    names(upper).into_iter().filter(is_open).collect()
}

#[test]
fn a_squashed_owner_gets_no_device_of_root() {
    if !can_run("a_squashed_owner_gets_no_device_of_root", NEEDS) {
        return;
    }
    let device = "c 660 0 0 1 3";
    let pseudo = ["-p".to_owned(), format!("device {device}"), "-p".to_owned(), format!("moved {device}")];
    let pseudo: Vec<&str> = pseudo.iter().map(String::as_str).collect();
    let ground = Ground::image(&pseudo, |_| {});
    let union = ground.mount(Driver::Haosfs, SQUASHED);
    let device = union.path().join("device");
    assert_eq!((lstat(&device).uid(), mode(&device)), (NOBODY, 0o660));
    let change = || {
        let opened = OpenOptions::new().read(true).open(&device).map(drop);
        let mode = fs::set_permissions(&device, Permissions::from_mode(0o666));
        let list = setxattr(&device, "system.posix_acl_access", &access_list(NOBODY), XattrFlags::empty());
        drop(fs::rename(union.path().join("moved"), union.path().join("elsewhere")));
        (opened, mode, list)
    };
    let (opened, mode, list) = as_user(NOBODY, NOBODY, &[], change);
    assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::EACCES));
    assert_eq!(devices_of(NOBODY, union.upper()), Vec::<String>::new());
    assert_eq!(mode.unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(list, Err(rustix::io::Errno::PERM));
    // Root's change copies it up, and it stays whose it was.
    fs::set_permissions(&device, Permissions::from_mode(0o600)).unwrap();
    assert_eq!((lstat(union.upper().join("device")).uid(), lstat(union.upper().join("device")).gid()), (0, 0));
    as_user(NOBODY, NOBODY, &[], || fs::set_permissions(&device, Permissions::from_mode(0o666))).unwrap_err();
    assert_eq!(devices_of(NOBODY, union.upper()), Vec::<String>::new());
}

/// `u::rw-,u:UID:rw-,g::r--,m::rw-,o::---` (linux/posix_acl_xattr.h).
fn access_list(uid: u32) -> Vec<u8> {
    let any = u32::MAX;
    let entries = [(1_u16, 6_u16, any), (2, 6, uid), (4, 4, any), (0x10, 6, any), (0x20, 0, any)];
    let entries =
        entries.iter().flat_map(|(tag, perm, id)| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
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

/// Somebody asks for a file's capabilities again and again while its data are copied, which takes them for a moment.
#[test]
fn capabilities_of_a_file_that_is_completed_are_not_forgotten() {
    if !can_run("capabilities_of_a_file_that_is_completed_are_not_forgotten", NEEDS) {
        return;
    }
    const NAME: &str = "security.capability";
    /// `cap_net_raw=ep` as a `struct vfs_cap_data` (linux/capability.h).
    const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let ground = Ground::directory(|tree| {
        fs::write(tree.join("file"), vec![7; 96 << 20]).unwrap();
        setxattr(tree.join("file"), NAME, &NET_RAW, XattrFlags::empty()).unwrap();
    });
    let union = ground.mount(Driver::Haosfs, &["metacopy=on"]);
    let (file, moved) = (union.path().join("file"), union.path().join("moved"));
    fs::set_permissions(&file, Permissions::from_mode(0o700)).unwrap();
    let (is_done, get) = (AtomicBool::new(false), |path: &Path| getxattr(path, NAME, [0; 32].as_mut_slice()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let _either = [get(&file), get(&moved)];
            }
        });
        fs::rename(&file, &moved).unwrap();
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(get(&moved), Ok(NET_RAW.len()));
    removexattr(&moved, NAME).unwrap();
    assert!(getxattr(union.upper().join("moved"), NAME, [0; 32].as_mut_slice()).is_err());
}

/// The kernel takes the bit before the daemon is asked, from Linux 6.0 on; so the union is asked itself.
#[test]
fn set_group_id_is_not_made_by_who_is_not_in_the_group() {
    if !can_run("set_group_id_is_not_made_by_who_is_not_in_the_group", NEEDS) {
        return;
    }
    let scratch = open_temp_dir();
    let path = |name: &str| scratch.path().join(name);
    ["lower", "upper", "work"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
    fs::write(path("lower/removed"), b"").unwrap();
    chown(path("upper"), None, Some(77)).unwrap();
    fs::set_permissions(path("upper"), Permissions::from_mode(0o2777)).unwrap();
    let upper = core::Upper::open(&path("upper"), &path("work"), core::Prefix::Auto, Atime::Relative, |_| Ok(())).unwrap();
    let lower = core::DirLower::open(&path("lower")).unwrap();
    let union = core::Union::new(vec![Box::new(lower)], Some(upper), core::Options::default()).unwrap();
    let removed = OsStr::new("removed");
    union.unlink(core::ROOT, removed).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            keep_capabilities().unwrap();
            for (name, gid, found) in [("new", 1000, 0o755), ("removed", 1000, 0o755), ("ours", 77, 0o2755)] {
                let caller = Caller { uid: 1000, gid, pid: 0 };
                let new = New::of(OsStr::new(name), Kind::File, 0o2755, 0);
                let attr = union.create(core::ROOT, &new, caller, false).unwrap().1;
                assert_eq!((attr.uid, attr.gid, format!("{:o}", attr.perm)), (1000, 77, format!("{found:o}")), "{name}");
            }
        });
    });
}

/// A daemon whose threads lose their rights while they act as somebody else still finds its directories.
#[test]
fn a_directory_is_found_by_the_daemons_own_rights() {
    if !can_run("a_directory_is_found_by_the_daemons_own_rights", NEEDS) {
        return;
    }
    let scratch = open_temp_dir();
    let path = |name: &str| scratch.path().join(name);
    ["lower", "upper", "work", "union"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-setpcap", "--inh-caps", "-setpcap", env!("CARGO_BIN_EXE_haosfs"), "mount"]);
    command.args([path("lower"), path("union")]).arg("--upper").arg(path("upper")).arg("--work").arg(path("work"));
    run(command.args(["--backend", "fuse"]));
    let mount = Mount::adopt(&path("union"));
    let open = mount.path().join("private/open");
    fs::create_dir_all(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(mount.path().join("private"), Permissions::from_mode(0o700)).unwrap();
    let dir = fs::File::open(&open).unwrap();
    // The kernel need not look the name up again.
    fs::symlink_metadata(open.join("new")).unwrap_err();
    // More directories than the daemon keeps open.
    for n in 0..600 {
        fs::create_dir(mount.path().join(n.to_string())).unwrap();
        fs::write(mount.path().join(format!("{n}/file")), "x").unwrap();
    }
    let create = || rustix::fs::openat(&dir, "new", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR);
    as_user(NOBODY, NOBODY, &[], || create().map(drop)).unwrap();
}
