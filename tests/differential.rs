//! haosfs against the kernel's overlayfs: random steps on two unions of the same lowers. Every answer, both merged trees and both
//! uppers must be the same, but for what SEMANTICS.md lists (`differential/listed.rs`); and each upper is handed to the other
//! driver now and then. `HAOSFS_DIFF_SECONDS` and `HAOSFS_DIFF_SEED` run longer and other histories.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "a test's failure is a panic; parts of the model are not used")]

#[path = "differential/mod.rs"]
mod differential;
#[path = "model/mod.rs"]
mod history;
mod mounted;
#[path = "posix/raw.rs"]
mod raw;
mod tree;

use std::fs::create_dir;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use differential::layers::{Rights, make_bottom, make_top};
use differential::pair::Setup;
use differential::run::run;
use mounted::namespace::{give_away, run_again};
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::squashfs;
use mounted::union::Lower;

const NEEDS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Tool("mksquashfs"),
    Requirement::Tool("unshare"),
    Requirement::Tool("setpriv"),
    Requirement::Fuse,
];

/// Held by each test: a user namespace that begins while a union is mounted keeps that union alive, and its upper in use.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the run inside a user namespace where its file system is.
const INSIDE: &str = "HAOSFS_TEST_INSIDE";

/// Two directories in a scratch file system, the top one first.
fn directories(scratch: &Path, rights: Rights) -> [PathBuf; 2] {
    let trees = ["top", "bottom"].map(|name| scratch.join(name));
    trees.iter().for_each(|tree| create_dir(tree).unwrap());
    make_top(&trees[0], rights);
    make_bottom(&trees[1], rights);
    trees
}

/// Two images, the top one first.
fn images(scratch: &Path) -> Vec<Lower> {
    let pack = |tree: &PathBuf| {
        let image = tree.with_extension("sqfs");
        squashfs::pack(tree, &image, &["-comp", "zstd", "-Xcompression-level", "1"]);
        Lower::Image(image)
    };
    directories(scratch, Rights::Root).iter().map(pack).collect()
}

fn over_images(test: &str, options: &'static [&'static str]) {
    if can_run(test, NEEDS) {
        let (_alone, scratch) = (alone(), Scratch::new(Fs::Ext4));
        run(&Setup { lowers: images(scratch.path()), options, rights: Rights::Root }, scratch.path());
    }
}

#[test]
fn defaults() {
    over_images("defaults", &[]);
}

#[test]
fn redirect_dir() {
    over_images("redirect_dir", &["redirect_dir=on"]);
}

#[test]
fn metacopy() {
    over_images("metacopy", &["metacopy=on"]);
}

fn over_two_directories(test: &str, options: &'static [&'static str]) {
    if can_run(test, NEEDS) {
        let (_alone, scratch) = (alone(), Scratch::new(Fs::Ext4));
        let lowers = directories(scratch.path(), Rights::Root).map(Lower::Dir).to_vec();
        run(&Setup { lowers, options, rights: Rights::Root }, scratch.path());
    }
}

#[test]
fn over_directories() {
    over_two_directories("over_directories", &[]);
}

/// Images have no UUIDs by which the kernel's could tell two of them.
#[test]
fn index() {
    over_two_directories("index", &["index=on"]);
}

#[test]
fn index_and_metacopy() {
    over_two_directories("index_and_metacopy", &["index=on", "metacopy=on"]);
}

/// Where an ordinary user mounts: squashfs has no place in a user namespace, so both get directories.
#[test]
fn in_a_namespace() {
    if let Some(at) = std::env::var_os(INSIDE).map(PathBuf::from) {
        let lowers = ["top", "bottom"].map(|name| Lower::Dir(at.join(name))).to_vec();
        run(&Setup { lowers, options: &["userxattr"], rights: Rights::Namespace }, &at);
    } else if can_run("in_a_namespace", NEEDS) {
        let (_alone, scratch) = (alone(), Scratch::new(Fs::Ext4));
        directories(scratch.path(), Rights::Namespace);
        give_away(scratch.path());
        run_again("in_a_namespace", INSIDE, scratch.path());
    }
}
