//! What work costs in requests: a round trip to the daemon is by far the largest part of the price of anything that the kernel
//! does not do by itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::union::{Driver, Union};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
const DIRS: usize = 12;
const FILES: usize = 30;
/// Asking costs these; and when the kernel forgets is its own affair.
const NOT_COUNTED: [&str; 3] = ["statfs", "ioctl", "forget"];
/// Somebody may make the kernel drop what it knows at any moment: what counts is the best of so many fresh mounts.
const TRIES: usize = 4;

type Counts = BTreeMap<String, u64>;

/// A tree of `DIRS` directories of `FILES` files each, and the root.
fn ground() -> Ground {
    Ground::image(&[], |tree| {
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

/// Does `work` on fresh mounts until each turn costs what is expected of it.
fn turns(expected: &[&[(&str, usize)]], work: impl Fn(&Path)) {
    let ground = ground();
    let expected: Vec<Counts> = expected.iter().map(|turn| costs(turn)).collect();
    let mut last = Vec::new();
    for attempt in 0..TRIES {
        let home = ground.home().join(attempt.to_string());
        fs::create_dir_all(&home).unwrap();
        let union = ground.mount_with(Driver::Haosfs, &home, &[]);
        // The root's attributes and the first opening of each kind are asked for once in the life of a mount.
        fs::symlink_metadata(union.path()).unwrap();
        fs::read_dir(union.path().join("dir-0")).unwrap();
        let mut made = File::create(union.path().join("made")).unwrap();
        made.write_all(b"x").unwrap();
        drop(made);
        drop(File::open(union.path().join("made")).unwrap());
        last = expected.iter().map(|_| cost(&union, &work)).collect();
        if last == expected {
            return;
        }
    }
    assert_eq!(last, expected);
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
    if !can_run("a_walk_asks_twice_for_each_directory", NEEDS) {
        return;
    }
    // A listing changes the access time of its directory, as far as the kernel knows; so that is asked for once more.
    turns(&[&[("readdirplus", 2 * (DIRS + 1))], &[("getattr", DIRS + 1)], &[]], walk);
}

#[test]
fn names_are_looked_up_once() {
    if !can_run("names_are_looked_up_once", NEEDS) {
        return;
    }
    let present = |union: &Path| {
        for name in files(union) {
            fs::symlink_metadata(name).unwrap();
        }
    };
    // One of the directories was looked up by the preparation.
    turns(&[&[("lookup", DIRS - 1 + DIRS * FILES)], &[]], present);
    let absent = |union: &Path| {
        for name in files(union) {
            fs::symlink_metadata(name.with_extension("absent")).unwrap_err();
        }
    };
    turns(&[&[("lookup", DIRS - 1 + DIRS * FILES)], &[]], absent);
}

#[test]
fn a_small_file_is_read_once() {
    if !can_run("a_small_file_is_read_once", NEEDS) {
        return;
    }
    let read = |union: &Path| {
        for name in files(union) {
            assert_eq!(File::open(name).unwrap().read(&mut [0; 1]).unwrap(), 1);
        }
    };
    turns(&[&[("lookup", DIRS - 1 + DIRS * FILES), ("read", DIRS * FILES)], &[]], read);
}

#[test]
fn a_new_file_takes_five() {
    if !can_run("a_new_file_takes_five", NEEDS) {
        return;
    }
    let next = std::cell::Cell::new(0);
    let create = |union: &Path| {
        next.set(next.get() + 1);
        File::create_new(union.join(format!("dir-0/new-{}", next.get()))).unwrap().write_all(&[7; 4096]).unwrap();
    };
    // Before the first write the kernel asks whether there are capabilities to be taken (security/commoncap.c), and after a change
    // of a directory for its mode (fs/fuse/dir.c, `fuse_dir_changed`). What was made by MKNOD need not be released.
    let next: &[(&str, usize)] = &[("getattr", 1), ("lookup", 1), ("mknod", 1), ("getxattr", 1), ("write", 1)];
    turns(&[&next[1..], next, next], create);
}
