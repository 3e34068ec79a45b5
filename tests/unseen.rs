//! Directories that are listed without a look at their inodes, as each of those stands in a block of metadata of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use mounted::ground::Ground;
use mounted::mount::Mount;
use mounted::requirement::{Requirement, can_run};
use mounted::union::{Driver, Union};
use mounted::user::{NOBODY, as_user};
use rustix::fs::{AtFlags, StatxFlags, statx};
use tempfile::NamedTempFile;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
/// More than one page of a listing.
const DIRS: u32 = 300;
/// That of nobody.
const MINE: u32 = DIRS - 5;
/// Neither among the first of a page, of whatever size, nor among those that a walk has read last.
const AMID: u32 = 60;
/// The inodes of so many links take more than a block of metadata, of 8,192 bytes.
const LINKS: usize = 40;
const LONG: usize = 240;
/// Kept are so few of those that each walk drives out what the one before has read.
const SMALL: &str = "metadata_cache=256K";

fn name(n: u32) -> String {
    format!("dir-{n:03}")
}

/// Each directory has a mode and owners of its own; the last ones are for their owners alone, and one of them is nobody's.
fn mode(n: u32) -> u32 {
    0o700 | if n < MINE { n % 0o100 } else { 0 }
}

const fn owner(n: u32) -> u32 {
    if n == MINE { NOBODY } else { n }
}

/// Made by mksquashfs from a description, as so many names take long on a disk. Everybody may write to the root, where each has only his
/// own removed.
fn ground(args: &[&str], links: usize) -> Ground {
    let mut description = NamedTempFile::new().unwrap();
    for n in 0..DIRS {
        writeln!(description, "{} d {:o} {} {}", name(n), mode(n), owner(n), 1000 + n).unwrap();
        (0..links).for_each(|link| writeln!(description, "{}/{link} s 777 0 0 {link:0LONG$}", name(n)).unwrap());
    }
    let described = ["-pf", description.path().to_str().unwrap()];
    Ground::image(&[args, &described].concat(), |tree| fs::set_permissions(tree, Permissions::from_mode(0o1777)).unwrap())
}

fn status(union: &Union) -> serde_json::Value {
    let mut status = Command::new(env!("CARGO_BIN_EXE_haosfs"));
    let output = status.args(["status", "--json"]).arg(union.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn decompressed(union: &Union) -> u64 {
    status(union)["blocks"]["decompressed"].as_u64().unwrap()
}

/// Names and numbers as the listing tells them.
fn list(dir: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.ino())).collect();
    all.sort();
    all
}

/// Each directory is listed.
fn walk(root: &Path) {
    (0..DIRS).for_each(|n| assert_eq!(list(&root.join(name(n))).len(), LINKS, "{n}"));
}

/// A fresh mount whose root is listed; most of its directories have not been looked at.
fn listed(ground: &Ground) -> (Union, Vec<(String, u64)>) {
    let union = ground.mount(Driver::Haosfs, &[SMALL]);
    let names = list(union.path());
    let took = decompressed(&union);
    assert!(took < u64::from(DIRS) / 2, "{took} blocks were decompressed for {DIRS} names");
    (union, names)
}

#[test]
fn whoever_asks_is_told_the_truth() {
    if !can_run("whoever_asks_is_told_the_truth", NEEDS) {
        return;
    }
    let ground = ground(&[], LINKS);
    let (union, names) = listed(&ground);
    assert_eq!(names.len(), DIRS as usize);
    for (n, (name, number)) in (0..).zip(&names) {
        let shown = fs::symlink_metadata(union.path().join(name)).unwrap();
        let told = (shown.mode(), shown.uid(), shown.gid(), shown.nlink(), shown.ino());
        assert_eq!(told, (0o040_000 | mode(n), owner(n), 1000 + n, 2, *number), "{name}");
    }
    walk(union.path());
    assert!(decompressed(&union) > u64::from(DIRS));
    assert_eq!(list(union.path()), names);
}

/// Where several share a block no more than one of them is left out.
#[test]
fn one_of_each_block_is_unseen_at_most() {
    if !can_run("one_of_each_block_is_unseen_at_most", NEEDS) {
        return;
    }
    let in_block = 6;
    let ground = ground(&[], LINKS / in_block);
    let union = ground.mount(Driver::Haosfs, &[]);
    for (name, _) in list(union.path()) {
        assert!(fs::symlink_metadata(union.path().join(name)).unwrap().is_dir());
    }
    let asked = status(&union)["requests"]["lookup"].as_u64().unwrap();
    assert!(asked <= u64::from(DIRS) / 4, "{asked} of {DIRS} were looked up");
}

#[test]
fn nobody_enters_what_is_not_for_him() {
    if !can_run("nobody_enters_what_is_not_for_him", NEEDS) {
        return;
    }
    let ground = ground(&[], LINKS);
    let (union, _) = listed(&ground);
    let last = union.path().join(name(DIRS - 1));
    let root = union.path();
    as_user(NOBODY, NOBODY, &[], || {
        let denied = [
            fs::read_dir(&last).map(drop),
            fs::read_link(last.join("0")).map(drop),
            File::create(last.join("new")).map(drop),
            // The root is sticky.
            fs::rename(root.join(name(DIRS - 2)), root.join("mine")),
            fs::remove_dir(root.join(name(DIRS - 3))),
        ];
        for (n, answer) in denied.into_iter().enumerate() {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::PermissionDenied, "{n}");
        }
        let mine = root.join(name(MINE));
        assert_eq!(list(&mine).len(), LINKS);
        fs::write(mine.join("new"), "new").unwrap();
        fs::set_permissions(&mine, Permissions::from_mode(0o711)).unwrap();
        fs::remove_file(mine.join("new")).unwrap();
    });
    assert_eq!(list(root).len(), DIRS as usize);
}

#[test]
fn they_change_as_others_do() {
    if !can_run("they_change_as_others_do", NEEDS) {
        return;
    }
    let ground = ground(&[], LINKS);
    let (mut union, _) = listed(&ground);
    let root = union.path().to_owned();
    let dir = |n: u32| root.join(name(DIRS - n));
    fs::set_permissions(dir(1), Permissions::from_mode(0o750)).unwrap();
    fs::write(dir(2).join("new"), "new").unwrap();
    fs::remove_dir_all(dir(3)).unwrap();
    let shown = fs::metadata(dir(1)).unwrap();
    assert_eq!((shown.mode() & 0o7777, shown.uid(), shown.gid()), (0o750, DIRS - 1, 1000 + DIRS - 1));
    assert_eq!(list(&dir(2)).len(), LINKS + 1);
    assert_eq!(list(&root).len(), DIRS as usize - 1);
    union.remount();
    assert_eq!(list(&root).len(), DIRS as usize - 1);
    assert_eq!(fs::read(dir(2).join("new")).unwrap(), b"new");
}

/// Has the root listed anew, when of what was read before a walk nothing is kept.
fn list_again(union: &Union) {
    walk(union.path());
    fs::write(union.path().join("new"), "new").unwrap();
    assert_eq!(list(union.path()).len(), DIRS as usize + 1);
}

#[test]
fn what_is_known_of_one_is_not_taken_back() {
    if !can_run("what_is_known_of_one_is_not_taken_back", NEEDS) {
        return;
    }
    let ground = ground(&[], LINKS);
    let (union, _) = listed(&ground);
    let known = File::open(union.path().join(name(AMID))).unwrap();
    let before = known.metadata().unwrap();
    list_again(&union);
    let cached = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let after = statx(&known, "", cached, StatxFlags::BASIC_STATS).unwrap();
    assert_eq!((u32::from(after.stx_mode), after.stx_uid), (before.mode(), before.uid()));
    assert!(list(&union.path().join(name(AMID))).len() == LINKS);
}

/// Stands in `tests/image_crafted.rs` for all else: a number in a listing is another one than the inode has.
fn lie_about(image: &Path, name: &str) {
    let mut bytes = fs::read(image).unwrap();
    let at = bytes.windows(name.len()).rposition(|window| window == name.as_bytes()).unwrap();
    // Before the name its length, the type, and what its number is more than that of the header.
    let more = i16::from_le_bytes([bytes[at - 6], bytes[at - 5]]);
    bytes[at - 6..at - 4].copy_from_slice(&(more + 7).to_le_bytes());
    fs::write(image, bytes).unwrap();
}

fn what_is_mounted_stays(ground: &Ground, at: u32) {
    let (union, _) = listed(ground);
    let at = union.path().join(name(at));
    let mounted = Mount::new(&["-t", "tmpfs"], Path::new("tmpfs"), &at);
    fs::write(at.join("over"), "over").unwrap();
    fs::write(union.path().join("new"), "new").unwrap();
    (0..DIRS).map(|n| union.path().join(name(n))).filter(|dir| *dir != at).for_each(|dir| assert_eq!(list(&dir).len(), LINKS));
    assert_eq!(list(union.path()).len(), DIRS as usize + 1);
    assert_eq!(fs::read(at.join("over")).unwrap(), b"over");
    drop(mounted);
    assert_eq!(list(&at).len(), LINKS);
}

#[test]
fn what_is_mounted_there_stays() {
    if can_run("what_is_mounted_there_stays", NEEDS) {
        what_is_mounted_stays(&ground(&[], LINKS), AMID);
    }
}

#[test]
fn what_is_mounted_stays_where_a_listing_lies() {
    if !can_run("what_is_mounted_stays_where_a_listing_lies", NEEDS) {
        return;
    }
    let ground = ground(&["-noI"], LINKS);
    lie_about(ground.lower().path(), &name(AMID));
    what_is_mounted_stays(&ground, AMID);
}
