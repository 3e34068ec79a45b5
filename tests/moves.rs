//! Moves between directories of an upper on btrfs: they are whole after a power cut once the directory where something went was
//! synchronised.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use mounted::ground::Ground;
use mounted::mount::{Mount, run};
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::union::{Driver, Union};
use rustix::fs::{CWD, RenameFlags, renameat_with};

const NEEDS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Tool("mksquashfs"),
    Requirement::Tool("mkfs.btrfs"),
    Requirement::Tool("btrfs"),
    Requirement::Fuse,
];

/// btrfs wants some room.
const SIZE: u64 = 256 << 20;

/// One or more renames, and the directory that is synchronised then.
struct Case {
    name: &'static str,
    renames: &'static [(&'static str, &'static str)],
    flags: RenameFlags,
    removed: &'static [&'static str],
    synchronised: &'static str,
    /// Where something is afterwards, and what.
    there: &'static [(&'static str, &'static str)],
    not_there: &'static [&'static str],
}

const MOVE: Case =
    Case { name: "", renames: &[], flags: RenameFlags::empty(), removed: &[], synchronised: "to", there: &[], not_there: &[] };

const CASES: &[Case] = &[
    Case {
        name: "a file of the lower, which leaves a whiteout",
        renames: &[("from/lower1", "to/1")],
        there: &[("to/1", "lower")],
        not_there: &["from/lower1"],
        ..MOVE
    },
    Case {
        name: "a file of the lower, onto a whiteout",
        renames: &[("from/lower2", "to/hidden")],
        there: &[("to/hidden", "lower")],
        not_there: &["from/lower2"],
        ..MOVE
    },
    Case {
        name: "a file of the upper",
        renames: &[("from/own", "to/own")],
        there: &[("to/own", "own")],
        not_there: &["from/own"],
        ..MOVE
    },
    Case {
        name: "a symbolic link",
        renames: &[("from/link", "to/link")],
        there: &[("to/link", "linked")],
        not_there: &["from/link"],
        ..MOVE
    },
    Case {
        name: "a directory",
        renames: &[("from/dir", "to/dir")],
        there: &[("to/dir/inside", "inside")],
        not_there: &["from/dir"],
        ..MOVE
    },
    Case {
        name: "in two steps",
        renames: &[("from/far", "over/far"), ("over/far", "to/far")],
        there: &[("to/far", "far")],
        not_there: &["from/far", "over/far"],
        ..MOVE
    },
    Case {
        name: "out of a directory that is removed",
        renames: &[("gone/last", "to/last")],
        removed: &["gone"],
        there: &[("to/last", "last")],
        not_there: &["gone"],
        ..MOVE
    },
    Case {
        name: "two change places",
        renames: &[("from/one", "to/two")],
        flags: RenameFlags::EXCHANGE,
        there: &[("from/one", "two"), ("to/two", "one")],
        ..MOVE
    },
];

fn grow(tree: &Path) {
    for dir in ["from", "to", "over"] {
        fs::create_dir(tree.join(dir)).unwrap();
    }
    for file in ["from/lower1", "from/lower2", "to/hidden"] {
        fs::write(tree.join(file), "lower").unwrap();
    }
}

/// What the upper has, durable.
fn begin(union: &Union, scratch: &Scratch) {
    let at = |path: &str| union.path().join(path);
    fs::remove_file(at("to/hidden")).unwrap();
    ["from/dir", "gone"].iter().for_each(|dir| fs::create_dir(at(dir)).unwrap());
    let files = [("from/own", "own"), ("from/dir/inside", "inside"), ("from/far", "far"), ("gone/last", "last")];
    let swapped = [("from/one", "one"), ("to/two", "two")];
    files.iter().chain(&swapped).for_each(|(path, text)| fs::write(at(path), text).unwrap());
    symlink("linked", at("from/link")).unwrap();
    commit(scratch);
}

fn commit(scratch: &Scratch) {
    run(Command::new("sync").arg("-f").arg(scratch.path()));
}

/// Carries a case out; the file that is returned is what a power cut leaves then.
fn carry_out(case: &Case, union: &Union, scratch: &Scratch, into: &Path) -> PathBuf {
    let at = |path: &str| union.path().join(path);
    for (from, to) in case.renames {
        renameat_with(CWD, at(from), CWD, at(to), case.flags).unwrap();
    }
    case.removed.iter().for_each(|dir| fs::remove_dir(at(dir)).unwrap());
    File::open(at(case.synchronised)).unwrap().sync_all().unwrap();
    let cut = into.join(case.name);
    scratch.copy(&cut);
    commit(scratch);
    cut
}

fn look(case: &Case, ground: &Ground, cut: &Path, at: &Path) {
    let mount = Mount::new(&["-t", "btrfs", "-o", "loop"], cut, at);
    let union = ground.mount_with(Driver::Haosfs, &at.join("home"), &[]);
    let found = |path: &str| {
        let path = union.path().join(path);
        fs::read_link(&path).map_or_else(|_| fs::read_to_string(&path), |target| Ok(target.to_str().unwrap().to_owned()))
    };
    for (path, text) in case.there {
        assert_eq!(found(path).ok().as_deref(), Some(*text), "{}: {path}", case.name);
    }
    for path in case.not_there {
        let is_there = fs::symlink_metadata(union.path().join(path)).is_ok();
        assert!(!is_there, "{}: {path} is still there", case.name);
    }
    drop(union);
    drop(mount);
    forget_devices();
}

/// btrfs remembers a file system that it has seen by the device that it was on.
fn forget_devices() {
    run(Command::new("btrfs").args(["device", "scan", "--forget"]));
}

#[test]
fn moves_on_btrfs_are_whole_once_where_they_went_is_durable() {
    if !can_run("moves_on_btrfs_are_whole_once_where_they_went_is_durable", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], grow);
    let dir = open_temp_dir();
    let cuts: Vec<PathBuf> = {
        let scratch = Scratch::with_size(Fs::Btrfs, SIZE);
        let union = ground.mount_with(Driver::Haosfs, &scratch.dir("home"), &[]);
        begin(&union, &scratch);
        CASES.iter().map(|case| carry_out(case, &union, &scratch, dir.path())).collect()
    };
    forget_devices();
    let at = dir.path().join("mnt");
    fs::create_dir(&at).unwrap();
    CASES.iter().zip(&cuts).for_each(|(case, cut)| look(case, &ground, cut, &at));
}
