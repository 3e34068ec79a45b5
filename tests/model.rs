//! Random histories on a lower, compared with a tree in memory after every operation; on bare file systems and the kernel's
//! overlayfs, which show that the model is right, on haosfs, and on its core without a mount. `HAOSFS_MODEL_CASES` and `HAOSFS_MODEL_SEED` run others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "model/mod.rs"]
mod history;
mod mounted;

use std::fs::create_dir;
use std::sync::atomic::{AtomicU32, Ordering};

use history::lower::{STAMP, make_lower};
use history::on_core::OnCore;
use history::on_path::OnPath;
use history::op::{Op, Place};
use history::run::{Expectation, for_histories, run};
use history::tree::{LowerLinks, Tree};
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};

const NEEDS: &[Requirement] =
    &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Tool("mkfs.xfs"), Requirement::Fuse];

/// Histories of the core without a mount in the gate.
const CORE_CASES: u32 = 150;
/// Histories of a target in the gate, and of one that differs from it by the upper's file system only.
const CASES: u32 = 40;
const FEW: u32 = 15;

fn bare(fs: Fs, cases: u32) {
    if !can_run("model on a bare file system", NEEDS) {
        return;
    }
    let (scratch, counter) = (Scratch::new(fs), AtomicU32::new(0));
    for_histories(cases, false, |below, above| {
        let home = scratch.dir(&counter.fetch_add(1, Ordering::Relaxed).to_string());
        let expectation = Expectation { stable_inodes: true, remounts: false, stale_links: false };
        run(&[below, above].concat(), &mut Tree::new(), &mut OnPath::bare(&home), expectation)
    });
}

/// With hard links in the lower, their fate over a remount is each driver's own, so those histories have none.
fn union(driver: Driver, fs: Fs, linked_lower: bool, cases: u32) {
    if !can_run("model on a union", NEEDS) {
        return;
    }
    let (scratch, counter) = (Scratch::new(fs), AtomicU32::new(0));
    let links = if driver == Driver::Kernel { LowerLinks::Broken } else { LowerLinks::Whole };
    let is_kernel = driver == Driver::Kernel;
    let expectation = Expectation { stable_inodes: !is_kernel, remounts: !linked_lower, stale_links: is_kernel };
    for_histories(cases, expectation.remounts, |below, above| {
        let home = scratch.dir(&counter.fetch_add(1, Ordering::Relaxed).to_string());
        let (lower, image) = (home.join("lower"), home.join("image.sqfs"));
        create_dir(&lower).unwrap();
        let tree = make_lower(below, &lower, |op| linked_lower || !matches!(op, Op::Link(..)));
        squashfs::pack(&lower, &image, &["-comp", "lz4"]);
        let mut target = OnPath::union(Union::new(driver, &[Lower::Image(image)], &home));
        run(above, &mut tree.into_lower(links, STAMP), &mut target, expectation)
    });
}

/// One upper under the kernel's overlayfs and under haosfs, changing at every remount: each goes on where the other left.
#[test]
fn alternating_ext4() {
    if !can_run("alternating_ext4", NEEDS) {
        return;
    }
    let (scratch, counter) = (Scratch::new(Fs::Ext4), AtomicU32::new(0));
    let expectation = Expectation { stable_inodes: false, remounts: true, stale_links: true };
    for_histories(CASES, true, |below, above| {
        let home = scratch.dir(&counter.fetch_add(1, Ordering::Relaxed).to_string());
        let (lower, image) = (home.join("lower"), home.join("image.sqfs"));
        create_dir(&lower).unwrap();
        let tree = make_lower(below, &lower, |op| !matches!(op, Op::Link(..)));
        squashfs::pack(&lower, &image, &["-comp", "zstd"]);
        let mut target = OnPath::alternating(Union::new(Driver::Haosfs, &[Lower::Image(image)], &home));
        // At least one change of drivers at the end of each history.
        let above = [above, &[Op::Remount, Op::Remount]].concat();
        run(&above, &mut tree.into_lower(LowerLinks::Whole, STAMP), &mut target, expectation)
    });
}

/// The union in this process, over a directory, without a mount.
fn core(linked_lower: bool) {
    if !can_run("model on the core", &[Requirement::Root]) {
        return;
    }
    let expectation = Expectation { stable_inodes: true, remounts: !linked_lower, stale_links: false };
    for_histories(CORE_CASES, expectation.remounts, |below, above| {
        let home = open_temp_dir();
        create_dir(home.path().join("lower")).unwrap();
        let tree = make_lower(below, &home.path().join("lower"), |op| linked_lower || !matches!(op, Op::Link(..)));
        let mut core = OnCore::new(home.path());
        run(above, &mut tree.into_lower(LowerLinks::Whole, STAMP), &mut core, expectation)?;
        // Copied-up hard links of the lower stay known on purpose.
        match core.nodes() {
            left if left > 1 && !linked_lower => Err(format!("{left} nodes stay in memory with nothing referring to them")),
            _ => Ok(()),
        }
    });
}

/// The histories are no string of refusals: every operation succeeds often, and is refused now and then.
#[test]
fn histories_reach_everything() {
    let counts = std::cell::RefCell::new(std::collections::BTreeMap::<String, (u32, u32)>::new());
    for_histories(200, true, |below, above| {
        let mut tree = make_model(below).into_lower(LowerLinks::Whole, STAMP);
        for op in above {
            let op = op.place(&tree);
            let done = op.apply(&mut tree).is_ok();
            let mut counts = counts.borrow_mut();
            let count = counts.entry(op.name()).or_default();
            *(if done { &mut count.0 } else { &mut count.1 }) += 1;
        }
        Ok(())
    });
    let counts = counts.into_inner();
    println!("{counts:?}");
    assert_eq!(counts.len(), 16);
    for (name, (done, refused)) in counts {
        assert!(done >= 30, "{name} succeeds {done} times");
        assert!(refused >= 5 || name == "Remount", "{name} is refused {refused} times");
    }
}

fn make_model(ops: &[Op<Place>]) -> Tree {
    let mut tree = Tree::new();
    for op in ops {
        // A refusal is part of a history.
        let _ = op.place(&tree).apply(&mut tree);
    }
    tree
}

macro_rules! targets {
    ($($name:ident: $run:ident($($arg:expr),*);)*) => { $(#[test] fn $name() { $run($($arg),*); })* };
}

targets! {
    core_alone: core(false);
    core_alone_linked: core(true);
    bare_ext4: bare(Fs::Ext4, CASES);
    bare_xfs: bare(Fs::Xfs, CASES);
    overlay_ext4: union(Driver::Kernel, Fs::Ext4, false, CASES);
    overlay_linked_ext4: union(Driver::Kernel, Fs::Ext4, true, CASES);
    overlay_btrfs: union(Driver::Kernel, Fs::Btrfs, false, FEW);
    haosfs_ext4: union(Driver::Haosfs, Fs::Ext4, false, CASES);
    haosfs_linked_ext4: union(Driver::Haosfs, Fs::Ext4, true, CASES);
    haosfs_btrfs: union(Driver::Haosfs, Fs::Btrfs, false, FEW);
    haosfs_xfs: union(Driver::Haosfs, Fs::Xfs, false, FEW);
    haosfs_tmpfs: union(Driver::Haosfs, Fs::Tmpfs, false, FEW);
}
