//! What stands in SEMANTICS.md and in no other suite: features of an upper that are refused, what an ordinary user's daemon
//! leaves out, ways of allocation that FUSE does not carry, images that fail under a mounted union.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use haosfs::error::Errno;
use mounted::daemon::daemon;
use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::open_temp_dir;
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use mounted::user::{NOBODY, as_user};
use rustix::fs::{FallocateFlags, XattrFlags, fallocate, getxattr, setxattr};
use rustix::process::{Signal, kill_process};

const NEEDS: &[Requirement] =
    &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Tool("fusermount3"), Requirement::Fuse];

fn errno<T: std::fmt::Debug>(answer: std::io::Result<T>) -> Errno {
    Errno::from(answer.unwrap_err())
}

#[test]
fn features_are_refused() {
    if !can_run("features_are_refused", NEEDS) {
        return;
    }
    let grow = |tree: &Path| {
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/below"), b"below").unwrap();
        fs::write(tree.join("owned"), b"content of the lower").unwrap();
        fs::write(tree.join("plain"), b"plain").unwrap();
    };
    let ground = Ground::image(&[], grow);
    let kernel = ground.mount(Driver::Kernel, &["redirect_dir=on", "metacopy=on"]);
    fs::rename(kernel.path().join("dir"), kernel.path().join("moved")).unwrap();
    chown(kernel.path().join("owned"), Some(12), None).unwrap();
    drop(kernel);
    let union = ground.mount(Driver::Haosfs, &["redirect_dir=nofollow"]);
    // Wrong content would be worse than none: neither an empty directory nor a file of zeros shows.
    assert_eq!(errno(fs::metadata(union.path().join("moved"))), Errno::EOPNOTSUPP);
    assert_eq!(errno(fs::read(union.path().join("owned"))), Errno::EOPNOTSUPP);
    assert_eq!(fs::read(union.path().join("plain")).unwrap(), b"plain");
    assert_eq!(errno(fs::metadata(union.path().join("dir"))), Errno::ENOENT);
}

#[test]
fn copy_up_without_privilege() {
    if !can_run("copy_up_without_privilege", NEEDS) {
        return;
    }
    let grow = |tree: &Path| {
        for name in ["own", "roots"] {
            fs::write(tree.join(name), name).unwrap();
            setxattr(tree.join(name), "trusted.secret", b"x", XattrFlags::empty()).unwrap();
            setxattr(tree.join(name), "user.note", b"kept", XattrFlags::empty()).unwrap();
        }
        fs::set_permissions(tree.join("own"), fs::Permissions::from_mode(0o444)).unwrap();
        chown(tree.join("own"), Some(NOBODY), Some(NOBODY)).unwrap();
        chown(tree, Some(NOBODY), Some(NOBODY)).unwrap();
    };
    let ground = Ground::image(&[], grow);
    let union = ground.mount(Driver::HaosfsUser, &[]);
    as_user(NOBODY, NOBODY, &[], || {
        let (own, roots) = (union.path().join("own"), union.path().join("roots"));
        fs::set_permissions(&own, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(fs::read(&own).unwrap(), b"own");
        let mut note = [0; 16];
        assert_eq!(getxattr(&own, "user.note", note.as_mut_slice()), Ok(4));
        assert_eq!(errno(fs::rename(&roots, union.path().join("mine"))), Errno::EPERM);
        assert_eq!(fs::read(&roots).unwrap(), b"roots");
    });
    let upper = union.upper().join("own");
    assert_eq!((fs::metadata(&upper).unwrap().uid(), fs::metadata(&upper).unwrap().mode() & 0o7777), (NOBODY, 0o640));
    assert!(getxattr(&upper, "trusted.secret", [0; 16].as_mut_slice()).is_err());
    drop(union);
    let id = NOBODY.to_string();
    let squashed = ground.mount(Driver::HaosfsUser, &[&format!("uid={id}"), &format!("gid={id}")]);
    as_user(NOBODY, NOBODY, &[], || {
        let (roots, mine) = (squashed.path().join("roots"), squashed.path().join("mine"));
        assert_eq!(fs::metadata(&roots).unwrap().uid(), NOBODY);
        fs::rename(&roots, &mine).unwrap();
        assert_eq!(fs::read(&mine).unwrap(), b"roots");
    });
}

#[test]
fn collapse_range_is_refused() {
    if !can_run("collapse_range_is_refused", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| fs::write(tree.join("file"), [7; 65_536]).unwrap());
    let union = ground.mount(Driver::Haosfs, &[]);
    let file = OpenOptions::new().write(true).open(union.path().join("file")).unwrap();
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(fallocate(&file, mode, 0, 4096).unwrap_err(), rustix::io::Errno::OPNOTSUPP, "{mode:?}");
    }
    assert_eq!(fs::read(union.path().join("file")).unwrap(), [7; 65_536]);
}

/// Cuts the image off while it is mounted: what is gone answers EIO, what was read before stays, and the daemon lives.
fn cut_off(options: &[&str]) {
    let grow = |tree: &Path| {
        let noise: Vec<u8> = (0..6_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(tree.join("large"), noise).unwrap();
    };
    let ground = Ground::image(options, grow);
    let union = ground.mount(Driver::Haosfs, &[]);
    let large = File::open(union.path().join("large")).unwrap();
    let mut head = vec![0; 4096];
    large.read_exact_at(&mut head, 0).unwrap();
    let Lower::Image(image) = ground.lower() else { panic!("the lower is an image") };
    let size = fs::metadata(image).unwrap().len();
    OpenOptions::new().write(true).open(image).unwrap().set_len(size / 2).unwrap();
    let end = 6_000_000 - 4096;
    assert_eq!(errno(large.read_exact_at(&mut head, end)), Errno::EIO, "{options:?}");
    assert_eq!(errno(fs::copy(union.path().join("large"), union.path().join("copy"))), Errno::EIO, "{options:?}");
    // Still served, and the upper still works.
    fs::write(union.path().join("new"), b"new").unwrap();
    assert_eq!(fs::read(union.path().join("new")).unwrap(), b"new");
    // A copy-up that cannot read its source leaves nothing behind.
    let large = OpenOptions::new().append(true).open(union.path().join("large")).unwrap();
    assert_eq!(errno(large.write_at(b"more", 0)), Errno::EIO, "{options:?}");
    assert!(!union.upper().join("large").exists());
    assert_eq!(fs::read_dir(union.upper().parent().unwrap().join("work/work")).unwrap().count(), 0);
}

#[test]
fn a_compressed_image_that_is_cut_off_answers_eio() {
    if can_run("a_compressed_image_that_is_cut_off_answers_eio", NEEDS) {
        cut_off(&["-comp", "zstd", "-Xcompression-level", "1"]);
    }
}

#[test]
fn a_stored_image_that_is_cut_off_answers_eio() {
    if can_run("a_stored_image_that_is_cut_off_answers_eio", NEEDS) {
        cut_off(&["-noI", "-noD", "-noF", "-noX"]);
    }
}

#[test]
fn without_an_upper_nothing_changes() {
    if !can_run("without_an_upper_nothing_changes", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| fs::write(tree.join("file"), b"file").unwrap());
    let union = Union::without_upper(Driver::Haosfs, std::slice::from_ref(ground.lower()), &[]);
    let file = union.path().join("file");
    assert_eq!(errno(OpenOptions::new().write(true).open(&file)), Errno::EROFS);
    assert_eq!(errno(fs::write(union.path().join("new"), b"")), Errno::EROFS);
    assert_eq!(errno(fs::remove_file(&file)), Errno::EROFS);
    assert_eq!(errno(fs::create_dir(union.path().join("dir"))), Errno::EROFS);
    assert_eq!(errno(fs::rename(&file, union.path().join("other"))), Errno::EROFS);
    assert_eq!(errno(fs::hard_link(&file, union.path().join("other"))), Errno::EROFS);
    assert_eq!(errno(fs::set_permissions(&file, fs::Permissions::from_mode(0o600))), Errno::EROFS);
    assert_eq!(setxattr(&file, OsStr::new("user.x"), b"", XattrFlags::empty()).unwrap_err(), rustix::io::Errno::ROFS);
    assert_eq!(fs::read(&file).unwrap(), b"file");
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A layer that was made where no device node could be: its whiteouts are empty files with an attribute.
fn layer_with_xattr_whiteouts(top: &Path) {
    fs::create_dir_all(top.join("d")).unwrap();
    for marked in [top.to_path_buf(), top.join("d")] {
        setxattr(&marked, "trusted.overlay.opaque", b"x", XattrFlags::empty()).unwrap();
    }
    for name in ["gone", "d/gone", "d/empty"] {
        fs::write(top.join(name), b"").unwrap();
    }
    for name in ["gone", "d/gone"] {
        setxattr(top.join(name), "trusted.overlay.whiteout", b"", XattrFlags::empty()).unwrap();
    }
}

#[test]
fn xattr_whiteouts_of_a_lower_hide() {
    if !can_run("xattr_whiteouts_of_a_lower_hide", NEEDS) {
        return;
    }
    let dir = open_temp_dir();
    let (top, bottom, image) = (dir.path().join("top"), dir.path().join("bottom"), dir.path().join("top.sqfs"));
    layer_with_xattr_whiteouts(&top);
    fs::create_dir_all(bottom.join("d")).unwrap();
    for name in ["gone", "kept", "d/gone", "d/kept", "d/empty"] {
        fs::write(bottom.join(name), name).unwrap();
    }
    squashfs::pack(&top, &image, &[]);
    let look = |driver: Driver, first: Lower, home: &str| {
        let home = dir.path().join(home);
        fs::create_dir(&home).unwrap();
        let union = Union::new(driver, &[first, Lower::Dir(bottom.clone())], &home);
        let gone = errno(fs::symlink_metadata(union.path().join("d/gone")));
        (names(union.path()), names(&union.path().join("d")), fs::read(union.path().join("d/empty")).unwrap(), gone)
    };
    let kernel = look(Driver::Kernel, Lower::Dir(top.clone()), "kernel");
    assert_eq!((&kernel.1, kernel.3), (&vec!["empty".to_owned(), "kept".to_owned()], Errno::ENOENT));
    assert_eq!(look(Driver::Haosfs, Lower::Dir(top.clone()), "directory"), kernel);
    assert_eq!(look(Driver::Haosfs, Lower::Image(image), "image"), kernel);
}

/// Without an upper nothing but the option tells which marks count.
#[test]
fn the_marks_of_a_lower_follow_userxattr() {
    if !can_run("the_marks_of_a_lower_follow_userxattr", NEEDS) {
        return;
    }
    let dir = open_temp_dir();
    let [top, bottom] = ["top", "bottom"].map(|name| dir.path().join(name));
    for (layer, name) in [(&top, "trusted"), (&top, "user"), (&bottom, "kept")] {
        fs::create_dir_all(layer).unwrap();
        fs::write(layer.join(name), b"").unwrap();
    }
    for namespace in ["trusted", "user"] {
        setxattr(&top, format!("{namespace}.overlay.opaque"), b"x", XattrFlags::empty()).unwrap();
        setxattr(top.join(namespace), format!("{namespace}.overlay.whiteout"), b"", XattrFlags::empty()).unwrap();
    }
    for driver in [Driver::Kernel, Driver::Haosfs] {
        for (options, shown) in [(&[][..], "user"), (&["userxattr"], "trusted")] {
            let union = Union::without_upper(driver, &[Lower::Dir(top.clone()), Lower::Dir(bottom.clone())], options);
            assert_eq!(names(union.path()), ["kept", shown], "{driver:?}");
        }
    }
}

/// An access ACL that lets user 1 read.
fn acl_with_a_user() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [(1_u16, 7_u16, u32::MAX), (2, 4, 1), (4, 5, u32::MAX), (16, 5, u32::MAX), (32, 5, u32::MAX)] {
        acl.extend(tag.to_le_bytes().into_iter().chain(perm.to_le_bytes()).chain(id.to_le_bytes()));
    }
    acl
}

#[test]
fn setfacl_by_an_outsider_takes_set_group_id() {
    if !can_run("setfacl_by_an_outsider_takes_set_group_id", NEEDS) {
        return;
    }
    let grow = |tree: &Path| {
        fs::write(tree.join("file"), b"").unwrap();
        chown(tree.join("file"), Some(NOBODY), Some(1000)).unwrap();
        fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o2755)).unwrap();
    };
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let ground = Ground::image(&[], grow);
        let union = ground.mount(driver, &[]);
        let file = union.path().join("file");
        // The kernel's wants the file in the upper first: squashfs has no ACLs.
        fs::write(&file, b"x").unwrap();
        for (groups, mode) in [(&[1000][..], 0o2755), (&[], 0o755)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o2755)).unwrap();
            as_user(NOBODY, NOBODY, groups, || {
                setxattr(&file, "system.posix_acl_access", &acl_with_a_user(), XattrFlags::empty()).unwrap();
            });
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, mode, "{driver:?}: {groups:?}");
        }
    }
}

/// The marks of the kernel's own `volatile`: gone after a clean unmount, in the way of every mount after any other end.
#[test]
fn a_volatile_upper_is_usable_only_after_a_clean_end() {
    if !can_run("a_volatile_upper_is_usable_only_after_a_clean_end", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| fs::write(tree.join("file"), b"file").unwrap());
    let (home, tree) = (ground.home(), ground.tree());
    let dirty = home.join("work/work/incompat/volatile/dirty");
    let mut union = ground.mount(Driver::Haosfs, &["fsync=volatile"]);
    fs::write(union.path().join("file"), b"changed").unwrap();
    assert!(dirty.exists());
    union.remount();
    assert_eq!(fs::read(union.path().join("file")).unwrap(), b"changed");
    kill_process(daemon(union.path()).unwrap(), Signal::KILL).unwrap();
    drop(union);
    assert!(dirty.exists());
    let options = format!("lowerdir={},upperdir={1}/upper,workdir={1}/work", tree.display(), home.display());
    let mount = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).arg(&tree).output().unwrap();
        assert!(!output.status.success(), "{program} {args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = mount(env!("CARGO_BIN_EXE_haosfs"), &["mount", "none", "-o", &options.replace("/tree,", "/image.sqfs,")]);
    assert!(said.contains("volatile") && said.contains("incompat"), "{said}");
    mount("mount", &["-t", "overlay", "-o", &options, "none"]);
}
