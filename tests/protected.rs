//! Immutable and append-only files and directories: `protattr` of an upper, and the flags of a lower or of the upper itself, keep out
//! the same changes by both drivers, whoever set them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[path = "posix/raw.rs"]
#[allow(dead_code, reason = "one of its calls is used here")]
mod raw;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions, create_dir, create_dir_all};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::{Driver, Lower, Union};
use rustix::fs::{CWD, RenameFlags, XattrFlags};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("chattr"), Requirement::Tool("lsattr"), Requirement::Fuse];

/// What is protected, and how: the names stand for it.
const FILES: [&str; 4] = ["i", "a", "ia", "plain"];
const PROTECTED: [&str; 3] = ["i", "a", "ia"];

fn grow(tree: &Path) {
    for kind in FILES {
        let dir = tree.join("dirs").join(kind);
        create_dir_all(dir.join("inner")).unwrap();
        fs::write(dir.join("file"), b"in a directory").unwrap();
        fs::write(dir.join("inner/file"), b"further in").unwrap();
        fs::write(tree.join(kind), b"a file").unwrap();
    }
    fs::write(tree.join("other"), b"something else").unwrap();
}

fn flag(tree: &Path, sign: char) {
    for kind in PROTECTED {
        for path in [tree.join(kind), tree.join("dirs").join(kind)] {
            run(Command::new("chattr").arg(format!("{sign}{kind}")).arg(path));
        }
    }
}

/// Flags as lsattr(1) shows them, without those of the file system.
fn flags(root: &Path) -> Vec<String> {
    let paths = PROTECTED.iter().flat_map(|kind| [root.join(kind), root.join("dirs").join(kind)]);
    let shown = paths.map(|path| String::from_utf8(run(Command::new("lsattr").arg("-d").arg(path))).unwrap());
    shown.map(|line| line.split(' ').next().unwrap().chars().filter(|flag| "ia".contains(*flag)).collect()).collect()
}

/// Changes of a file. What they leave when they succeed does not disturb the next.
type Change = (&'static str, fn(&Path) -> io::Result<()>);

const OF_FILES: &[Change] = &[
    ("open", |path| OpenOptions::new().write(true).open(path).map(drop)),
    ("append", |path| OpenOptions::new().append(true).open(path)?.write_all(b"x")),
    ("truncate", |path| File::create(path).map(drop)),
    ("chmod", |path| fs::set_permissions(path, Permissions::from_mode(0o600))),
    ("chown", |path| chown(path, Some(1), None)),
    ("touch", |path| Ok(rustix::fs::utimensat(CWD, path, &now(), rustix::fs::AtFlags::empty())?)),
    ("set times", |path| OpenOptions::new().read(true).open(path)?.set_modified(SystemTime::UNIX_EPOCH)),
    ("set xattr", |path| Ok(rustix::fs::setxattr(path, "user.x", b"1", XattrFlags::empty())?)),
    ("remove xattr", |path| Ok(rustix::fs::removexattr(path, "user.x")?)),
    ("link", |path| fs::hard_link(path, path.with_extension("link")).and_then(|()| fs::remove_file(path.with_extension("link")))),
    ("rename", |path| there_and_back(path, &path.with_extension("moved"))),
    ("exchange", |path| {
        let other = path.with_file_name("other");
        rustix::fs::renameat_with(CWD, path, CWD, &other, RenameFlags::EXCHANGE)?;
        Ok(rustix::fs::renameat_with(CWD, path, CWD, &other, RenameFlags::EXCHANGE)?)
    }),
    ("replace", |path| {
        let new = path.with_extension("new");
        fs::write(&new, b"new")?;
        fs::rename(&new, path).or_else(|e| fs::remove_file(&new).and(Err(e)))
    }),
    ("unlink", |path| fs::remove_file(path)),
];

const OF_DIRECTORIES: &[Change] = &[
    ("create", |path| File::create_new(path.join("new")).map(drop)),
    ("mkdir", |path| create_dir(path.join("newdir"))),
    ("link into", |path| fs::hard_link(path.with_file_name("some"), path.join("linked"))),
    ("rename into", |path| fs::rename(path.with_file_name("mover"), path.join("moved"))),
    ("rename over in", |path| fs::rename(path.with_file_name("another"), path.join("file"))),
    ("write in", |path| OpenOptions::new().append(true).open(path.join("file"))?.write_all(b"x")),
    ("write further in", |path| OpenOptions::new().append(true).open(path.join("inner/file"))?.write_all(b"x")),
    ("create further in", |path| File::create_new(path.join("inner/new")).map(drop)),
    ("rename in", |path| fs::rename(path.join("file"), path.join("file2"))),
    ("unlink in", |path| fs::remove_file(path.join("file"))),
    ("rmdir in", |path| fs::remove_dir(path.join("newdir"))),
    ("rename out of", |path| fs::rename(path.join("inner/file"), path.join("up"))),
    ("chmod", |path| fs::set_permissions(path, Permissions::from_mode(0o700))),
    ("set xattr", |path| Ok(rustix::fs::setxattr(path, "user.x", b"1", XattrFlags::empty())?)),
];

fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
}

fn there_and_back(path: &Path, other: &Path) -> io::Result<()> {
    fs::rename(path, other).and_then(|()| fs::rename(other, path))
}

/// How each change is answered.
fn answers(root: &Path) -> BTreeMap<String, Option<i32>> {
    let mut answers = BTreeMap::new();
    let mut take = |path: PathBuf, changes: &[Change]| {
        for (n, (name, change)) in changes.iter().enumerate() {
            let answer = change(&path).err().map(|e| e.raw_os_error().unwrap_or(-1));
            answers.insert(format!("{} {n:2} {name}", path.strip_prefix(root).unwrap().display()), answer);
        }
    };
    for kind in FILES {
        take(root.join(kind), OF_FILES);
        fs::write(root.join("dirs/some"), b"linked").unwrap();
        ["mover", "another"].into_iter().for_each(|name| fs::write(root.join("dirs").join(name), b"moved").unwrap());
        take(root.join("dirs").join(kind), OF_DIRECTORIES);
    }
    answers
}

fn same(what: &str, kernel: &BTreeMap<String, Option<i32>>, haosfs: &BTreeMap<String, Option<i32>>) {
    for (change, answer) in kernel {
        assert_eq!(haosfs.get(change), Some(answer), "{what}: {change}");
    }
    assert!(kernel.values().filter(|answer| **answer == Some(libc::EPERM)).count() > 30, "{kernel:?}");
}

/// A lower is not flagged when its file system is to be removed.
struct Flagged<'a>(&'a Path);

impl Drop for Flagged<'_> {
    fn drop(&mut self) {
        flag(self.0, '-');
    }
}

#[test]
fn flags_of_a_lower_keep_changes_out() {
    if !can_run("flags_of_a_lower_keep_changes_out", NEEDS) {
        return;
    }
    let scratch = Scratch::new(Fs::Ext4);
    let tree = scratch.dir("tree");
    grow(&tree);
    flag(&tree, '+');
    let _flagged = Flagged(&tree);
    let lower = [Lower::Dir(tree.clone())];
    let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| {
        let mut union = Union::new(driver, &lower, &scratch.dir(driver.name()));
        let before = flags(union.path());
        let answers = answers(union.path());
        // What was copied up keeps its flags, by either driver.
        for next in [driver, Driver::Kernel, Driver::Haosfs] {
            union.remount_by(next);
            let after = flags(union.path());
            assert_eq!(before, after, "{driver:?}, then {next:?}");
        }
        (before, answers)
    });
    assert_eq!(kernel.0, haosfs.0);
    same("over a lower", &kernel.1, &haosfs.1);
}

#[test]
fn flags_of_an_upper_change_hands() {
    if !can_run("flags_of_an_upper_change_hands", NEEDS) {
        return;
    }
    let scratch = Scratch::new(Fs::Ext4);
    grow(&scratch.dir("tree"));
    let lower = [Lower::Dir(scratch.path().join("tree"))];
    let with = |first: Driver, second: Driver| {
        let home = scratch.dir(&format!("{}-{}", first.name(), second.name()));
        let mut union = Union::new(first, &lower, &home);
        flag(union.path(), '+');
        let set = flags(union.path());
        union.remount_by(second);
        assert_eq!(flags(union.path()), set, "{first:?}, {second:?}");
        let answers = answers(union.path());
        union.remount_by(first);
        assert_eq!(flags(union.path()), set, "{first:?}, {second:?}");
        flag(union.path(), '-');
        union.remount_by(second);
        OpenOptions::new().append(true).open(union.path().join("i")).unwrap().write_all(b"free").unwrap();
        answers
    };
    let kernel = with(Driver::Kernel, Driver::Kernel);
    for (first, second) in [(Driver::Kernel, Driver::Haosfs), (Driver::Haosfs, Driver::Kernel), (Driver::Haosfs, Driver::Haosfs)]
    {
        same(&format!("{first:?}, {second:?}"), &kernel, &with(first, second));
    }
}

#[test]
fn flags_of_the_upper_itself_keep_changes_out() {
    if !can_run("flags_of_the_upper_itself_keep_changes_out", NEEDS) {
        return;
    }
    let scratch = Scratch::new(Fs::Ext4);
    let lower = [Lower::Dir(scratch.dir("tree"))];
    let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| {
        let upper = scratch.dir(driver.name()).join("upper");
        create_dir(&upper).unwrap();
        grow(&upper);
        flag(&upper, '+');
        let _flagged = Flagged(&upper);
        let union = Union::new(driver, &lower, upper.parent().unwrap());
        let contents = |root: &Path| FILES.map(|kind| fs::read(root.join(kind)).unwrap_or_default());
        let found = (flags(union.path()), answers(union.path()), flags(union.path()), contents(union.path()), contents(&upper));
        // Nor can they be taken off through a union.
        let chattr = |kind: &str| Command::new("chattr").arg(format!("-{kind}")).arg(union.path().join(kind)).output().unwrap();
        assert!(PROTECTED.iter().all(|kind| !chattr(kind).status.success()), "{driver:?}");
        found
    });
    assert_eq!((&kernel.0, &kernel.2), (&haosfs.0, &haosfs.2));
    same("in an upper", &kernel.1, &haosfs.1);
    assert_eq!((&kernel.3, &kernel.4), (&haosfs.3, &haosfs.4));
    assert_eq!(kernel.3, [&b"a file"[..], b"a filex", b"a file", b""]);
}

/// Stores into the first byte of a mapping of a file that is opened for `append`; an error is the mapping's or msync(2)'s.
fn store(path: &Path, append: bool) -> io::Result<()> {
    let mut map = raw::try_map_shared(&OpenOptions::new().read(true).write(true).append(append).open(path)?)?;
    map[0] = b'X';
    map.flush()
}

/// What every reader is shown again, once the kernel was told.
fn shows(path: &Path, content: &[u8]) {
    let begun = Instant::now();
    while fs::read(path).unwrap() != content {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}: {:?}", path.display(), fs::read(path));
        std::thread::yield_now();
    }
}

/// The kernel refuses the mapping itself, haosfs the page.
#[test]
fn what_only_grows_is_not_written_through_a_mapping() {
    if !can_run("what_only_grows_is_not_written_through_a_mapping", NEEDS) {
        return;
    }
    let scratch = Scratch::new(Fs::Ext4);
    let tree = scratch.dir("tree");
    grow(&tree);
    flag(&tree, '+');
    let _flagged = Flagged(&tree);
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let union = Union::new(driver, &[Lower::Dir(tree.clone())], &scratch.dir(driver.name()));
        let mut content = b"a file".to_vec();
        for _ in 0..2 {
            assert!(store(&union.path().join("a"), true).is_err(), "{driver:?}");
            shows(&union.path().join("a"), &content);
            // By what appends it is copied up, and keeps its flag.
            OpenOptions::new().append(true).open(union.path().join("a")).unwrap().write_all(b"x").unwrap();
            content.push(b'x');
            shows(&union.path().join("a"), &content);
        }
    }
}

/// A descriptor that may write anywhere once its `O_APPEND` has gone must not add to the end what belongs elsewhere.
#[test]
fn what_only_grows_is_not_written_elsewhere() {
    if !can_run("what_only_grows_is_not_written_elsewhere", NEEDS) {
        return;
    }
    let scratch = Scratch::new(Fs::Ext4);
    let (lower, upper) = ([Lower::Dir(scratch.dir("tree"))], scratch.dir("home").join("upper"));
    create_dir(&upper).unwrap();
    grow(&upper);
    flag(&upper, '+');
    let _flagged = Flagged(&upper);
    let union = Union::new(Driver::Haosfs, &lower, upper.parent().unwrap());
    let mut file = OpenOptions::new().append(true).open(union.path().join("a")).unwrap();
    file.write_all(b", longer").unwrap();
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::empty()).unwrap();
    assert_eq!(file.write_at(b"A", 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(file.write_at(b"!", 14).unwrap(), 1);
    assert_eq!(fs::read(upper.join("a")).unwrap(), b"a file, longer!");
}

/// Over images alone the kernel opens files without asking.
#[test]
fn over_an_image_writing_is_refused_not_opening() {
    if !can_run("over_an_image_writing_is_refused_not_opening", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], grow);
    let mut union = ground.mount(Driver::Haosfs, &[]);
    flag(union.path(), '+');
    let refused = |answer: io::Result<()>| assert_eq!(answer.unwrap_err().raw_os_error(), Some(libc::EPERM));
    for _ in 0..2 {
        for kind in PROTECTED {
            let path = union.path().join(kind);
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            refused(file.write_at(b"x", 0).map(drop));
            refused(file.set_len(0));
            refused(File::create(&path).map(drop));
            refused(fs::remove_file(&path));
            let appended = OpenOptions::new().append(true).open(&path).unwrap().write_all(b"");
            assert!(appended.is_ok());
            if kind != "a" {
                refused(OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x"));
            }
            assert_eq!(fs::read(&path).unwrap(), b"a file");
            for append in [false, true] {
                refused(store(&path, append));
                shows(&path, b"a file");
            }
        }
        union.remount();
    }
    OpenOptions::new().append(true).open(union.path().join("a")).unwrap().write_all(b", longer").unwrap();
    assert_eq!(fs::read(union.path().join("a")).unwrap(), b"a file, longer");
    let room = |kind: &str, mode| {
        let file = OpenOptions::new().write(true).open(union.path().join(kind)).unwrap();
        rustix::fs::fallocate(&file, mode, 0, 4096).map_err(io::Error::from)
    };
    room("a", rustix::fs::FallocateFlags::KEEP_SIZE).unwrap();
    refused(room("a", rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE));
    refused(room("i", rustix::fs::FallocateFlags::KEEP_SIZE));
    flag(union.path(), '-');
}

/// xfs_io(8) sets flags by `FS_IOC_FSSETXATTR`.
#[test]
fn flags_are_set_by_either_ioctl() {
    if !can_run("flags_are_set_by_either_ioctl", NEEDS)
        || !can_run("flags_are_set_by_either_ioctl", &[Requirement::Tool("xfs_io")])
    {
        return;
    }
    let scratch = Scratch::new(Fs::Ext4);
    let tree = scratch.dir("tree");
    grow(&tree);
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let union = Union::new(driver, &[Lower::Dir(tree.clone())], &scratch.dir(driver.name()));
        let ask = |change: &str, path: &Path| {
            let output = Command::new("xfs_io").args(["-r", "-c", &format!("chattr {change}")]).arg(path).output().unwrap();
            String::from_utf8(output.stderr).unwrap()
        };
        for kind in PROTECTED {
            for path in [union.path().join(kind), union.path().join("dirs").join(kind)] {
                assert_eq!(ask(&format!("+{kind}"), &path), "", "{driver:?}");
            }
        }
        assert_eq!(flags(union.path()), ["i", "i", "a", "a", "ia", "ia"], "{driver:?}");
        let other = union.path().join("other");
        if driver == Driver::Haosfs {
            assert!(ask("+d", &other).contains("Operation not supported"));
        }
        assert_eq!(ask("+i", &other), "", "{driver:?}");
        assert_eq!(fs::remove_file(&other).unwrap_err().raw_os_error(), Some(libc::EPERM), "{driver:?}");
        assert_eq!(ask("-i", &other), "", "{driver:?}");
        fs::remove_file(&other).unwrap();
        flag(union.path(), '-');
        assert_eq!(flags(union.path()), [""; 6], "{driver:?}");
    }
}
