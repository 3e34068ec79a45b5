//! One fault at every step of every operation that changes an upper: the daemon dies, or the upper's file system answers an
//! error. The tree is then the old one or the new one, for haosfs and for the kernel's overlayfs alike, and nothing else is left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "faults/case.rs"]
mod case;
#[path = "faults/changes.rs"]
mod changes;
#[path = "faults/copies.rs"]
mod copies;
#[path = "faults/ground.rs"]
mod ground;
#[path = "faults/indexed.rs"]
mod indexed;
#[path = "faults/lent.rs"]
mod lent;
mod mounted;
#[path = "faults/moves.rs"]
mod moves;
#[path = "faults/room.rs"]
mod room;
#[path = "faults/start.rs"]
mod start;
mod tree;
#[path = "faults/trial.rs"]
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};

use case::Case;
use mounted::requirement::{Requirement, can_run};
use trial::Trial;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mkfs.ext4"), Requirement::Fuse];

fn every_fault(test: &str, cases: &[Case]) {
    if !can_run(test, NEEDS) {
        return;
    }
    let trial = Trial::new();
    let survives = |case: &&Case| catch_unwind(AssertUnwindSafe(|| trial.every_fault(case))).is_ok();
    let failed: Vec<&str> = cases.iter().filter(|case| !survives(case)).map(|case| case.name).collect();
    trial.end();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn copies_of_files() {
    every_fault("copies_of_files", copies::FILES);
}

#[test]
fn copies_of_other_things() {
    every_fault("copies_of_other_things", copies::OTHERS);
}

#[test]
fn synchronised() {
    every_fault("synchronised", copies::SYNCHRONISED);
}

/// Data are durable before their name is there; with fsync=strict the name is, too, before anything else happens.
#[test]
fn order_of_synchronising() {
    if !can_run("order_of_synchronising", NEEDS) {
        return;
    }
    let trial = Trial::new();
    let moments = |options: &'static [&'static str]| {
        let case = Case::new("write", |root| copies::append(&root.join("full/one"))).with(options);
        let steps = trial.steps(&case).into_iter().filter(|step| ["fsync", "rename", "pwrite"].contains(&&**step));
        steps.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(moments(&[]), "rename pwrite fsync rename pwrite");
    assert_eq!(moments(&["fsync=strict"]), "fsync rename fsync pwrite fsync rename fsync pwrite");
    assert_eq!(moments(&["fsync=volatile"]), "rename pwrite rename pwrite");
}

#[test]
fn starts() {
    if can_run("starts", NEEDS) {
        start::every_death();
    }
}

/// An ordinary user's daemon gives itself the right to fill a directory; dead at that instant, it leaves it to the owner.
#[test]
fn a_lent_right_outlives_a_crash() {
    if can_run("a_lent_right_outlives_a_crash", &[Requirement::Root, Requirement::Tool("fusermount3"), Requirement::Fuse]) {
        lent::every_death();
    }
}

#[test]
fn a_full_upper() {
    if can_run("a_full_upper", NEEDS) {
        room::fill_and_free();
    }
}

#[test]
fn attributes_apart() {
    every_fault("attributes_apart", copies::APART);
}

#[test]
fn hard_links_of_an_index() {
    every_fault("hard_links_of_an_index", indexed::INDEXED);
}

#[test]
fn removals() {
    every_fault("removals", changes::REMOVALS);
}

#[test]
fn new_names() {
    every_fault("new_names", changes::NEW);
}

#[test]
fn renames_of_files() {
    every_fault("renames_of_files", moves::FILES);
}

#[test]
fn renames_of_directories() {
    every_fault("renames_of_directories", moves::DIRECTORIES);
}

#[test]
fn redirects() {
    every_fault("redirects", moves::REDIRECTS);
}
