//! What work costs in requests: a round trip to the daemon is by far the largest part of the price of anything that the kernel
//! does not do by itself.
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::SystemTime;

use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::union::{Driver, Union};
use mounted::user::{NOBODY, as_user};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
const NEEDS_USER: &[Requirement] = &[
    Requirement::Root,
    Requirement::Tool("mksquashfs"),
    Requirement::Fuse,
    Requirement::Tool("fusermount3"),
    Requirement::Tool("setpriv"),
];
const DIRS: usize = 12;
const FILES: usize = 30;
/// Bytes of the long file.
const LONG: usize = 8 << 20;
/// What the kernel asks for at a time, at most.
const PIECE: usize = 128 << 10;
/// Asking costs these; and when the kernel forgets is its own affair.
const NOT_COUNTED: [&str; 3] = ["statfs", "ioctl", "forget"];
/// Somebody may make the kernel drop what it knows at any moment: what counts is the best of so many fresh mounts.
const TRIES: usize = 4;

type Counts = BTreeMap<String, u64>;

/// A tree of `DIRS` directories of `FILES` files each, and the root with one long file.
fn ground() -> Ground {
    Ground::image(&[], |tree| {
        let lines: String = (0..LONG / 8).map(|n| format!("{n:07}\n")).collect();
        fs::write(tree.join("long"), lines).unwrap();
        for d in 0..DIRS {
            let dir = tree.join(format!("dir-{d}"));
            fs::create_dir(&dir).unwrap();
            (0..FILES).for_each(|f| fs::write(dir.join(format!("file-{f}")), format!("{d} {f}\n")).unwrap());
        }
    })
}

fn counts(union: &Union) -> Counts {
    let mut status = Command::new(env!("CARGO_BIN_EXE_haosfs"));
    let output = status.args(["status", "--json"]).arg(union.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = status["requests"].as_object().unwrap().iter();
    all.filter(|(name, _)| !NOT_COUNTED.contains(&name.as_str())).map(|(name, n)| (name.clone(), n.as_u64().unwrap())).collect()
}

/// The requests of some work.
fn cost(union: &Union, work: impl FnOnce(&Path)) -> Counts {
    let before = counts(union);
    work(union.path());
    let mut after = counts(union);
    for (name, n) in before {
        *after.get_mut(&name).unwrap() -= n;
    }
    after.retain(|_, n| *n > 0);
    after
}

fn costs(expected: &[(&str, usize)]) -> Counts {
    expected.iter().map(|(name, n)| ((*name).to_owned(), *n as u64)).collect()
}

/// The root's attributes and the first opening of each kind are asked for once in the life of a mount. Only root may make a file.
fn prepare(driver: Driver, union: &Path) {
    fs::symlink_metadata(union).unwrap();
    fs::read_dir(union.join("dir-0")).unwrap();
    if driver == Driver::HaosfsUser {
        drop(File::open(union.join("long")).unwrap());
        return;
    }
    let mut made = File::create(union.join("made")).unwrap();
    made.write_all(b"x").unwrap();
    drop(made);
    drop(File::open(union.join("made")).unwrap());
}

/// Does `work` on fresh mounts until each turn is judged well.
fn tries<T: std::fmt::Debug + Sync>(
    driver: Driver,
    turns: &[T],
    is_well: impl Fn(&Counts, &T) -> bool,
    work: impl Fn(&Path) + Sync,
) {
    let (ground, mut last) = (ground(), Vec::new());
    for attempt in 0..TRIES {
        let home = ground.home().join(attempt.to_string());
        fs::create_dir_all(&home).unwrap();
        let union = ground.mount_with(driver, &home, &[]);
        let all = || {
            prepare(driver, union.path());
            (0..turns.len()).map(|_| cost(&union, &work)).collect()
        };
        last = if driver == Driver::HaosfsUser { as_user(NOBODY, NOBODY, &[], all) } else { all() };
        if last.iter().zip(turns).all(|(found, turn)| is_well(found, turn)) {
            return;
        }
    }
    panic!("{driver:?}: {last:?}, not {turns:?}");
}

/// Each turn costs just this.
fn turns(expected: &[&[(&str, usize)]], work: impl Fn(&Path) + Sync) {
    let expected: Vec<Counts> = expected.iter().map(|turn| costs(turn)).collect();
    tries(Driver::Haosfs, &expected, |found, expected| found == expected, work);
}

/// The same by an ordinary user. What belongs to somebody else may have an ACL, for which the kernel asks once of each inode
/// (fs/namei.c, `check_acl`).
fn turns_of_user(expected: &[&[(&str, usize)]], work: impl Fn(&Path) + Sync) {
    let expected: Vec<Counts> = expected.iter().map(|turn| costs(turn)).collect();
    tries(Driver::HaosfsUser, &expected, |found, expected| found == expected, work);
}

fn walk(dir: &Path) {
    let names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    for name in names {
        if fs::symlink_metadata(&name).unwrap().is_dir() {
            walk(&name);
        }
    }
}

fn files(union: &Path) -> impl Iterator<Item = PathBuf> {
    (0..DIRS * FILES).map(move |n| union.join(format!("dir-{}/file-{}", n % DIRS, n / DIRS)))
}

#[test]
fn a_walk_asks_twice_for_each_directory() {
    if !can_run("a_walk_asks_twice_for_each_directory", NEEDS_USER) {
        return;
    }
    // A listing changes the access time of its directory, as far as the kernel knows; so that is asked for once more.
    let lists = ("readdirplus", 2 * (DIRS + 1));
    turns(&[&[lists], &[("getattr", DIRS + 1)], &[]], walk);
    // Attributes that are asked for anew may have another ACL beside them.
    let acls = ("getxattr", DIRS);
    turns_of_user(&[&[acls, lists], &[acls, ("getattr", DIRS + 1)], &[]], walk);
}

#[test]
fn names_are_looked_up_once() {
    if !can_run("names_are_looked_up_once", NEEDS_USER) {
        return;
    }
    let present = |union: &Path| {
        for name in files(union) {
            fs::symlink_metadata(name).unwrap();
        }
    };
    // One of the directories was looked up by the preparation.
    let lookups = ("lookup", DIRS - 1 + DIRS * FILES);
    let acls = ("getxattr", DIRS - 1);
    turns(&[&[lookups], &[]], present);
    turns_of_user(&[&[acls, lookups], &[]], present);
    let absent = |union: &Path| {
        for name in files(union) {
            fs::symlink_metadata(name.with_extension("absent")).unwrap_err();
        }
    };
    turns(&[&[lookups], &[]], absent);
    turns_of_user(&[&[acls, lookups], &[]], absent);
}

#[test]
fn a_small_file_is_read_once() {
    if !can_run("a_small_file_is_read_once", NEEDS_USER) {
        return;
    }
    let read = |union: &Path| {
        for name in files(union) {
            assert_eq!(File::open(name).unwrap().read(&mut [0; 1]).unwrap(), 1);
        }
    };
    let (lookups, reads) = (("lookup", DIRS - 1 + DIRS * FILES), ("read", DIRS * FILES));
    turns(&[&[lookups, reads], &[]], read);
    turns_of_user(&[&[("getxattr", DIRS - 1 + DIRS * FILES), lookups, reads], &[]], read);
}

/// Images have no ACLs, and without an upper nobody can make one: so nobody is asked for any.
#[test]
fn images_alone_are_asked_for_no_acls() {
    if !can_run("images_alone_are_asked_for_no_acls", NEEDS_USER) {
        return;
    }
    let ground = ground();
    for driver in [Driver::Haosfs, Driver::HaosfsUser] {
        let union = Union::without_upper(driver, &[ground.lower().clone()], &[]);
        let read = |union: &Path| files(union).for_each(|name| assert!(!fs::read(name).unwrap().is_empty()));
        let acl = || rustix::fs::getxattr(union.path().join("long"), "system.posix_acl_access", &mut [0; 64]);
        let found = as_user(NOBODY, NOBODY, &[], || {
            assert_eq!(acl(), Err(rustix::io::Errno::NODATA));
            [cost(&union, read), cost(&union, read)]
        });
        // The first opening, and the first end of one, are asked for once in the life of a mount.
        let first = costs(&[("flush", 1), ("lookup", DIRS * (FILES + 1)), ("open", 1), ("read", DIRS * FILES)]);
        assert_eq!(found, [first, Counts::new()], "{driver:?}");
    }
}

#[test]
fn a_new_file_takes_five() {
    if !can_run("a_new_file_takes_five", NEEDS) {
        return;
    }
    let next = AtomicUsize::new(0);
    let create = |union: &Path| {
        let n = next.fetch_add(1, Relaxed);
        File::create_new(union.join(format!("dir-0/new-{n}"))).unwrap().write_all(&[7; 4096]).unwrap();
    };
    // Before the first write the kernel asks whether there are capabilities to be taken (security/commoncap.c), and after a change
    // of a directory for its mode (fs/fuse/dir.c, `fuse_dir_changed`). What was made by MKNOD need not be released.
    let next: &[(&str, usize)] = &[("getattr", 1), ("lookup", 1), ("mknod", 1), ("getxattr", 1), ("write", 1)];
    turns(&[&next[1..], next, next], create);
}

/// Names of a directory that the preparation has looked up.
fn siblings(union: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let dir = union.join("dir-0");
    (0..FILES).map(move |n| dir.join(format!("file-{n}")))
}

#[test]
fn an_empty_file_takes_three() {
    if !can_run("an_empty_file_takes_three", NEEDS) {
        return;
    }
    let turn = AtomicUsize::new(0);
    let create = |union: &Path| {
        let extension = turn.fetch_add(1, Relaxed).to_string();
        for name in siblings(union) {
            File::create_new(name.with_extension(&extension)).unwrap();
        }
    };
    // The directory's attributes are forgotten with each change in it (fs/fuse/dir.c, `fuse_dir_changed`).
    let first: &[(&str, usize)] = &[("getattr", FILES - 1), ("lookup", FILES), ("mknod", FILES)];
    let next: &[(&str, usize)] = &[("getattr", FILES), ("lookup", FILES), ("mknod", FILES)];
    turns(&[first, next], create);
}

#[test]
fn a_lower_file_is_changed_by_one_beside_its_name() {
    if !can_run("a_lower_file_is_changed_by_one_beside_its_name", NEEDS) {
        return;
    }
    turns(&[&[("lookup", FILES), ("setattr", FILES)]], |union| {
        for name in siblings(union) {
            fs::set_permissions(name, Permissions::from_mode(0o640)).unwrap();
        }
    });
    // Before it is written to it is asked for capabilities.
    turns(&[&[("getxattr", FILES), ("lookup", FILES), ("write", FILES)]], |union| {
        for name in siblings(union) {
            OpenOptions::new().append(true).open(name).unwrap().write_all(b"1").unwrap();
        }
    });
    turns(&[&[("getxattr", 1), ("lookup", 1), ("write", 1)]], |union| {
        OpenOptions::new().read(true).write(true).open(union.join("long")).unwrap().write_all_at(b"1", 1 << 20).unwrap();
    });
    turns(&[&[("getattr", FILES - 1), ("lookup", FILES), ("unlink", FILES)]], |union| {
        for name in siblings(union) {
            fs::remove_file(name).unwrap();
        }
    });
}

#[test]
fn long_writes_and_scattered_ones_take_one_each() {
    if !can_run("long_writes_and_scattered_ones_take_one_each", NEEDS) {
        return;
    }
    let write = |union: &Path| {
        let mut file = File::create(union.join("made")).unwrap();
        (0..8).for_each(|_| file.write_all(&[7; 1 << 20]).unwrap());
        (0..100).for_each(|n| file.write_all_at(&[8; 4096], (n * 37 % 2048) * 4096).unwrap());
        file.sync_all().unwrap();
    };
    // To truncate it is one more.
    turns(&[&[("fsync", 1), ("getxattr", 1), ("setattr", 1), ("write", 108)]], write);
}

/// What tar(1) does as root for a file with less than a page.
fn unpack(name: &Path) {
    let mut file = File::create_new(name).unwrap();
    file.write_all(&[7; 1000]).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    fchown(&file, Some(1), Some(1)).unwrap();
    file.set_permissions(Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_file_is_unpacked_by_nine() {
    if !can_run("a_file_is_unpacked_by_nine", NEEDS) {
        return;
    }
    turns(
        &[&[
            ("getattr", FILES - 1),
            ("getxattr", 2 * FILES),
            ("lookup", FILES),
            ("mknod", FILES),
            ("setattr", 3 * FILES),
            ("write", FILES),
        ]],
        |union| siblings(union).for_each(|name| unpack(&name.with_extension("new"))),
    );
}

/// At most so many requests in each turn, and no others; where some may be, there are some.
fn at_most(driver: Driver, bounds: &[&[(&str, usize)]], work: impl Fn(&Path) + Sync) {
    let bounds: Vec<Counts> = bounds.iter().map(|turn| costs(turn)).collect();
    let is_well = |found: &Counts, bounds: &Counts| {
        found.is_empty() == bounds.is_empty() && found.iter().all(|(name, n)| bounds.get(name).is_some_and(|bound| n <= bound))
    };
    tries(driver, &bounds, is_well, work);
}

#[test]
fn a_long_file_is_read_in_long_pieces_and_once() {
    if !can_run("a_long_file_is_read_in_long_pieces_and_once", NEEDS_USER) {
        return;
    }
    for driver in [Driver::Haosfs, Driver::HaosfsUser] {
        // Its size is asked for, with which comes the time of access, of which the kernel knows that it has changed.
        let acl = ("getxattr", usize::from(driver == Driver::HaosfsUser));
        let once: &[(&str, usize)] = &[acl, ("lookup", 1), ("read", LONG / PIECE)];
        let whole = [once, &[("getattr", 1)], &[]];
        let whole = if driver == Driver::Haosfs { &whole[..] } else { &whole[..1] };
        at_most(driver, whole, |union| assert_eq!(fs::read(union.join("long")).unwrap().len(), LONG));
        // What is anywhere is not followed by what nobody asks for.
        at_most(driver, &[&[acl, ("lookup", 1), ("read", 100)], &[]], |union| {
            let file = File::open(union.join("long")).unwrap();
            (0..100).for_each(|n| file.read_exact_at(&mut [0; 4096], (n * 37 % 2048) * 4096).unwrap());
        });
        at_most(driver, whole, |union| {
            // SAFETY: nobody changes the file.
            let map = unsafe { memmap2::Mmap::map(&File::open(union.join("long")).unwrap()).unwrap() };
            assert_eq!(map.chunks(4096).map(|page| usize::from(page[7] == b'\n')).sum::<usize>(), LONG / 4096);
        });
    }
}

#[test]
fn a_tree_is_read_by_one_for_each_file() {
    if !can_run("a_tree_is_read_by_one_for_each_file", NEEDS) {
        return;
    }
    // Made by the preparation: one more file. Where reading ahead begins, pieces are smaller.
    let reads = DIRS * FILES + LONG / PIECE + 1 + 8;
    let lists = 2 * (DIRS + 1);
    // tar(1) looks once more at what it has read, whose time of access is stale then (fs/fuse/file.c, `fuse_readpages_end`).
    let first: &[(&str, usize)] = &[("getattr", DIRS + 1 + DIRS * FILES + 2), ("readdirplus", lists), ("read", reads)];
    at_most(Driver::Haosfs, &[first, &[]], |union| {
        let mut tar = Command::new("tar").arg("-C").arg(union).args(["-cf", "-", "."]).stdout(Stdio::piped()).spawn().unwrap();
        std::io::copy(&mut tar.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        assert!(tar.wait().unwrap().success());
    });
    // Each of four who do it at the same time may have to list a directory, as a listing is kept when somebody has come to its end; and
    // who finds a page of a piece that another one reads may read a part of it.
    let four: &[(&str, usize)] = &[("getattr", 4 * (DIRS + 1)), ("readdirplus", 4 * lists), ("read", reads + reads / 8)];
    at_most(Driver::Haosfs, &[four], |union| {
        thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| read_all(union))));
        });
    });
    // Each in an order of its own: a name is looked up and a file read by who comes first.
    let apart: &[(&str, usize)] = &[("lookup", DIRS - 1 + DIRS * FILES), ("read", DIRS * FILES)];
    at_most(Driver::Haosfs, &[apart, &[]], |union| {
        thread::scope(|scope| {
            for step in [1, 7, 11, 13] {
                scope.spawn(move || {
                    let names: Vec<PathBuf> = files(union).collect();
                    (0..names.len()).for_each(|n| read_whole(&names[n * step % names.len()]));
                });
            }
        });
    });
}

/// Reads a tree as cat(1) would.
fn read_all(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            read_all(&entry.path());
        } else {
            read_whole(&entry.path());
        }
    }
}

/// Without a look at its size.
fn read_whole(file: &Path) {
    let mut file = File::open(file).unwrap();
    while file.read(&mut [0; 64 << 10]).unwrap() > 0 {}
}
