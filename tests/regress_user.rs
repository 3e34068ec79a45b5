//! Modes that shut out their own owner: an ordinary user's daemon has no capability to pass over them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[allow(dead_code, reason = "shared with the POSIX suite")]
#[path = "posix/assertions.rs"]
mod assertions;
mod mounted;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use assertions::{exists, lstat, names};
use mounted::ground::Ground;
use mounted::mount::Mount;
use mounted::requirement::{Requirement, can_run};
use mounted::union::Driver;
use mounted::user::{NOBODY, as_user};
use rustix::fs::{Advice, AtFlags, CWD, Mode, Timespec, Timestamps, fadvise, mkdir, utimensat};

const NEEDS: &[Requirement] =
    &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Tool("fusermount3"), Requirement::Fuse];

/// An image of the user's files.
fn own(grow: impl FnOnce(&Path)) -> Ground {
    Ground::image(&["-force-uid", "65534", "-force-gid", "65534"], grow)
}

fn user<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    as_user(NOBODY, NOBODY, &[], work)
}

#[track_caller]
fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap_or_else(|e| panic!("chmod {mode:o} {}: {e}", path.display()));
}

#[track_caller]
fn mode(path: &Path) -> String {
    format!("{:o}", lstat(path).mode() & 0o7777)
}

fn make_dir(path: &Path, mode: u32) {
    mkdir(path, Mode::from_raw_mode(mode)).unwrap_or_else(|e| panic!("mkdir -m {mode:o} {}: {e}", path.display()));
}

/// A directory of the lower with a file in it.
fn make_lower_dir(tree: &Path, name: &str, mode: u32) {
    fs::create_dir(tree.join(name)).unwrap();
    fs::write(tree.join(name).join("f"), b"f").unwrap();
    chmod(&tree.join(name), mode);
}

/// Two names lead to an inode of one link, as where upper and lower case are one: this kernel need not have such directories.
#[test]
fn another_spelling_is_no_second_name() {
    if !can_run("another_spelling_is_no_second_name", NEEDS) {
        return;
    }
    let ground = own(|_| {});
    let dir = ground.home().join("upper/dir");
    fs::create_dir_all(&dir).unwrap();
    ["Foo", "foo"].iter().for_each(|name| fs::write(dir.join(name), name).unwrap());
    for path in [&ground.home().join("upper"), &dir, &dir.join("Foo"), &dir.join("foo")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let _one = Mount::new(&["--bind"], &dir.join("Foo"), &dir.join("foo"));
    let union = ground.mount(Driver::HaosfsUser, &[]);
    let at = |name: &str| union.path().join("dir").join(name);
    user(|| {
        let mut file = OpenOptions::new().append(true).open(at("Foo")).unwrap();
        for refused in [fs::metadata(at("foo")).map(drop), fs::remove_file(at("foo"))] {
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        }
        file.write_all(b" stays").unwrap();
        file.sync_all().unwrap();
        assert_eq!(fs::read(at("Foo")).unwrap(), b"Foo stays");
    });
    assert_eq!(fs::read(dir.join("Foo")).unwrap(), b"Foo stays");
}

#[test]
fn directories_without_rights_get_them_back() {
    if !can_run("directories_without_rights_get_them_back", NEEDS) {
        return;
    }
    let ground = own(|tree| ["w", "x"].iter().for_each(|name| make_lower_dir(tree, name, 0o755)));
    let mut union = ground.mount(Driver::HaosfsUser, &[]);
    let paths = ["v", "w", "x"].map(|name| union.path().join(name));
    user(|| {
        make_dir(&paths[0], 0o755);
        fs::write(paths[0].join("f"), b"f").unwrap();
        // One of the lower's is there in the upper before.
        fs::write(paths[2].join("g"), b"g").unwrap();
        for path in &paths {
            chmod(path, 0);
            assert_eq!(names(union.path()), ["v", "w", "x"]);
            chmod(path, 0o700);
            assert!(exists(path.join("f")), "{}", path.display());
            chmod(path, 0);
        }
    });
    union.remount();
    user(|| {
        assert_eq!(names(union.path()), ["v", "w", "x"]);
        for (path, expected) in paths.iter().zip([&["f"][..], &["f"], &["f", "g"]]) {
            assert_eq!(mode(path), "0");
            chmod(path, 0o700);
            assert_eq!(names(path), expected, "{}", path.display());
        }
    });
}

#[test]
fn directories_that_cannot_be_read_take_files() {
    if !can_run("directories_that_cannot_be_read_take_files", NEEDS) {
        return;
    }
    let ground = own(|tree| make_lower_dir(tree, "w", 0o755));
    let mut union = ground.mount(Driver::HaosfsUser, &[]);
    let paths = ["v", "w"].map(|name| union.path().join(name));
    user(|| {
        make_dir(&paths[0], 0o755);
        for path in &paths {
            chmod(path, 0o300);
            fs::write(path.join("2"), b"2").unwrap();
            assert_eq!(names(union.path()), ["v", "w"]);
        }
    });
    union.remount();
    user(|| {
        assert_eq!(names(union.path()), ["v", "w"]);
        for (path, expected) in paths.iter().zip([&["2", "3"][..], &["2", "3", "f"]]) {
            assert_eq!(fs::read(path.join("2")).unwrap(), b"2");
            fs::write(path.join("3"), b"3").unwrap();
            chmod(path, 0o700);
            assert_eq!(names(path), expected);
        }
    });
}

#[test]
fn a_read_only_directory_can_be_made_writable() {
    if !can_run("a_read_only_directory_can_be_made_writable", NEEDS) {
        return;
    }
    let ground = own(|tree| make_lower_dir(tree, "ro", 0o555));
    let union = ground.mount(Driver::HaosfsUser, &[]);
    user(|| {
        chmod(&union.path().join("ro"), 0o755);
        fs::write(union.path().join("ro/g"), b"g").unwrap();
        assert_eq!(names(union.path().join("ro")), ["f", "g"]);
    });
}

#[test]
fn files_in_a_read_only_directory_can_be_written() {
    if !can_run("files_in_a_read_only_directory_can_be_written", NEEDS) {
        return;
    }
    let ground = own(|tree| make_lower_dir(tree, "ro", 0o555));
    let mut union = ground.mount(Driver::HaosfsUser, &[]);
    let path = union.path().join("ro/f");
    user(|| OpenOptions::new().append(true).open(&path).unwrap().write_all(b"+").unwrap());
    for _ in 0..2 {
        user(|| {
            assert_eq!(fs::read(&path).unwrap(), b"f+");
            assert_eq!(mode(&union.path().join("ro")), "555");
            assert!(fs::write(union.path().join("ro/g"), b"g").is_err());
        });
        union.remount();
    }
    assert_eq!(mode(&union.upper().join("ro")), "555");
}

#[test]
fn directories_without_rights_can_be_removed_and_replaced() {
    if !can_run("directories_without_rights_can_be_removed_and_replaced", NEEDS) {
        return;
    }
    let ground = own(|tree| ["copied", "emptied"].iter().for_each(|name| make_lower_dir(tree, name, 0o755)));
    let union = ground.mount(Driver::HaosfsUser, &[]);
    let root = union.path();
    user(|| {
        for name in ["copied", "emptied"] {
            fs::remove_file(root.join(name).join("f")).unwrap();
            chmod(&root.join(name), 0o555);
            fs::remove_dir(root.join(name)).unwrap_or_else(|e| panic!("rmdir {name}: {e}"));
        }
        make_dir(&root.join("d"), 0);
        fs::remove_dir(root.join("d")).unwrap();
        make_dir(&root.join("copied"), 0o555);
        make_dir(&root.join("emptied"), 0);
        assert_eq!((mode(&root.join("copied")), mode(&root.join("emptied"))), ("555".to_owned(), "0".to_owned()));
        assert_eq!(names(root.join("copied")), Vec::<String>::new());
        assert_eq!(names(root), ["copied", "emptied"]);
    });
}

#[test]
fn a_read_only_directory_of_the_lower_can_be_removed() {
    if !can_run("a_read_only_directory_of_the_lower_can_be_removed", NEEDS) {
        return;
    }
    let ground = own(|tree| make_dir(&tree.join("ro"), 0o555));
    let union = ground.mount(Driver::HaosfsUser, &[]);
    let path = union.path().join("ro");
    let time = Timespec { tv_sec: 1000, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    user(|| {
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        fs::remove_dir(&path).unwrap();
        assert!(!exists(&path));
        make_dir(&path, 0o555);
        assert_eq!((mode(&path), names(&path)), ("555".to_owned(), vec![]));
    });
}

#[test]
fn leftovers_without_rights_do_not_stop_a_mount() {
    if !can_run("leftovers_without_rights_do_not_stop_a_mount", NEEDS) {
        return;
    }
    let ground = own(|tree| fs::write(tree.join("f"), b"f").unwrap());
    let mut union = ground.mount(Driver::HaosfsUser, &[]);
    union.unmount();
    let work = ground.home().join("work/work");
    for (name, mode) in [("left", 0o555), ("shut", 0)] {
        make_lower_dir(&work, name, mode);
        [work.join(name), work.join(name).join("f")].iter().for_each(|path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    }
    union.mount();
    assert_eq!(user(|| fs::read(union.path().join("f")).unwrap()), b"f");
    assert_eq!(names(&work), Vec::<String>::new());
}

/// An open descriptor keeps the rights of its opening, whatever the mode becomes.
fn keeps_its_rights(file: &File) {
    let chmod = |mode| file.set_permissions(Permissions::from_mode(mode)).unwrap();
    chmod(0o444);
    file.write_all_at(b"new", 0).unwrap();
    file.set_len(2 << 20).unwrap();
    file.write_all_at(b"end", (2 << 20) - 3).unwrap();
    chmod(0);
    file.sync_all().unwrap();
    fadvise(file, 0, None, Advice::DontNeed).unwrap();
    let mut bytes = [0; 3];
    for (offset, expected) in [(0, b"new"), ((2 << 20) - 3, b"end")] {
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert_eq!(&bytes, expected);
    }
    file.set_len(3).unwrap();
    assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().mode() & 0o7777), (3, 0));
}

#[test]
fn descriptors_of_upper_files_keep_their_rights() {
    if !can_run("descriptors_of_upper_files_keep_their_rights", NEEDS) {
        return;
    }
    let ground = own(|_| {});
    let mut union = ground.mount(Driver::HaosfsUser, &[]);
    let path = union.path().join("fresh");
    let mut both = OpenOptions::new();
    both.read(true).write(true);
    user(|| {
        keeps_its_rights(&both.clone().create_new(true).open(&path).unwrap());
        chmod(&path, 0o600);
    });
    union.remount();
    user(|| keeps_its_rights(&both.open(&path).unwrap()));
}

#[test]
fn descriptors_of_lower_files_keep_their_rights() {
    if !can_run("descriptors_of_lower_files_keep_their_rights", NEEDS) {
        return;
    }
    let ground = own(|tree| fs::write(tree.join("f"), vec![7; 1 << 20]).unwrap());
    let union = ground.mount(Driver::HaosfsUser, &[]);
    user(|| keeps_its_rights(&OpenOptions::new().read(true).write(true).open(union.path().join("f")).unwrap()));
}

/// What may be written alone is made durable all the same.
#[test]
fn files_that_cannot_be_read_are_synchronised() {
    if !can_run("files_that_cannot_be_read_are_synchronised", NEEDS) {
        return;
    }
    let ground = own(|tree| fs::write(tree.join("f"), b"f").unwrap());
    let mut union = ground.mount(Driver::HaosfsUser, &[]);
    let path = union.path().join("f");
    user(|| chmod(&path, 0o200));
    union.remount();
    user(|| {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"g").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
    });
}

/// What nobody can read has no names that anybody could see: it keeps no changed hard link from being removed.
#[test]
fn links_are_removed_beside_what_cannot_be_read() {
    if !can_run("links_are_removed_beside_what_cannot_be_read", NEEDS) {
        return;
    }
    let ground = Ground::directory(|tree| {
        fs::create_dir(tree.join("sub")).unwrap();
        fs::write(tree.join("a"), b"before").unwrap();
        fs::hard_link(tree.join("a"), tree.join("sub/b")).unwrap();
        [tree, &tree.join("a"), &tree.join("sub")].iter().for_each(|own| chown(own, Some(NOBODY), Some(NOBODY)).unwrap());
        make_lower_dir(tree, "secret", 0o700);
    });
    let union = ground.mount(Driver::HaosfsUser, &[]);
    let [a, b] = ["a", "sub/b"].map(|name| union.path().join(name));
    user(|| {
        OpenOptions::new().append(true).open(&a).unwrap().write_all(b" and after").unwrap();
        fs::remove_file(&a).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"before and after");
        assert_eq!(lstat(&b).nlink(), 1);
    });
}
