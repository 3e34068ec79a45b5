//! Uppers change hands: what the kernel's overlayfs wrote with its features on is shown by haosfs as the kernel shows it, and
//! the reverse.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[path = "interchange/scripts.rs"]
mod scripts;
mod tree;

use std::path::Path;

use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::union::{Driver, Lower, Union};
use scripts::{SCRIPTS, Script, grow};
use tree::compare::{Tolerance, assert_same, printable};
use tree::snapshot::Snapshot;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// The kernel counts a merged directory's links as 1, and the root is the upper's.
const TOLERANCE: Tolerance =
    Tolerance { nanoseconds: false, times: false, directory_links: true, xattrs: false, acls: true, hard_links: false };

fn show(union: &Union) -> Snapshot {
    Snapshot::read(union.path()).unwrap().without_root()
}

/// One driver writes by the script, the other shows the same tree, and goes on; then the first again.
fn hand_over(script: &Script, lowers: &[Lower], home: &Path, writer: Driver, reader: Driver) {
    let mut union = Union::with_options(writer, lowers, home, script.options);
    for (round, step) in script.steps.iter().enumerate() {
        step(union.path());
        let written = show(&union);
        let next = if union.driver() == writer { reader } else { writer };
        union.remount_by(next);
        assert_same(&format!("{} after step {round}, shown by {}", script.name, next.name()), &written, &show(&union), TOLERANCE);
    }
}

fn in_both_directions(test: &str, name: &str) {
    if !can_run(test, NEEDS) {
        return;
    }
    let script = SCRIPTS.iter().find(|script| script.name == name).unwrap();
    for (writer, reader) in [(Driver::Kernel, Driver::Haosfs), (Driver::Haosfs, Driver::Kernel)] {
        for ground in [Ground::image(&[], grow), Ground::directory(grow)] {
            hand_over(script, std::slice::from_ref(ground.lower()), &ground.home(), writer, reader);
        }
    }
}

#[test]
fn renamed_directories() {
    in_both_directions("renamed_directories", "renamed directories");
}

#[test]
fn renamed_twice() {
    in_both_directions("renamed_twice", "renamed twice");
}

#[test]
fn attributes_apart() {
    in_both_directions("attributes_apart", "attributes apart");
}

#[test]
fn attributes_apart_below_renamed_directories() {
    in_both_directions("attributes_apart_below_renamed_directories", "attributes apart below renamed directories");
}

/// An upper becomes the middle of three layers.
#[test]
fn uppers_become_lowers() {
    if !can_run("uppers_become_lowers", NEEDS) {
        return;
    }
    for script in SCRIPTS {
        let ground = Ground::directory(grow);
        let mut written =
            Union::with_options(Driver::Kernel, std::slice::from_ref(ground.lower()), &ground.home(), script.options);
        script.steps.iter().for_each(|step| step(written.path()));
        let upper = written.upper().to_path_buf();
        written.unmount();
        let (home, lowers) = (ground.home().join("second"), [Lower::Dir(upper), Lower::Dir(ground.tree())]);
        std::fs::create_dir(&home).unwrap();
        let mut union = Union::with_options(Driver::Kernel, &lowers, &home, script.options);
        let expected = show(&union);
        union.remount_by(Driver::Haosfs);
        assert_same(script.name, &expected, &show(&union), TOLERANCE);
    }
}

/// The marks of an upper, by path: all but those by which the kernel finds inode numbers again.
fn marks(upper: &Path) -> Vec<(String, String)> {
    let marked = Snapshot::read(upper).unwrap().names;
    let private = |(path, seen): (Vec<u8>, tree::snapshot::Seen)| {
        let names = seen.xattrs.into_iter().filter(|(name, _)| {
            ["redirect", "metacopy", "opaque"].iter().any(|mark| name.ends_with(format!("overlay.{mark}").as_bytes()))
        });
        names.map(|(name, value)| (format!("{} {}", printable(&path), printable(&name)), printable(&value))).collect::<Vec<_>>()
    };
    marked.into_iter().flat_map(private).collect()
}

/// What stands in the upper is the same, too, where haosfs has no reason to do otherwise: it copies data up before a file moves.
#[test]
fn marks_are_the_kernels() {
    if !can_run("marks_are_the_kernels", NEEDS) {
        return;
    }
    for (name, steps) in [("renamed directories", 4), ("renamed twice", 4), ("attributes apart", 1)] {
        let script = SCRIPTS.iter().find(|script| script.name == name).unwrap();
        let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| {
            let ground = Ground::image(&[], grow);
            let mut union = ground.mount(driver, script.options);
            script.steps.iter().take(steps).for_each(|step| step(union.path()));
            union.unmount();
            marks(union.upper())
        });
        assert!(!kernel.is_empty());
        assert_eq!(kernel, haosfs, "{name}");
    }
}
