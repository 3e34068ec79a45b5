//! A boot that is cut off, or cannot write, at any of its steps: the next boot has an image with what the user had, and the old upper is
//! as it was.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[path = "appliance/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "boot/power.rs"]
#[allow(dead_code)]
mod power;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs;

use haosfs::update::state::State;
use haosfs::update::uppers::Uppers;
use power::{Power, possible};
use serde_json::Value;
use support::Finished;
use tree::compare::{Tolerance, assert_same};
use tree::snapshot::Snapshot;

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// More steps than a boot has.
const MOST: usize = 200;

/// So many machines share the steps: a boot waits for disks and for the kernel most of the time.
const MACHINES: usize = 2;

/// So often it is looked what a boot after a failure finds; elsewhere the next update is staged over it.
const BACK: usize = 3;

fn mode(finished: &Finished) -> String {
    let line = finished.stdout.lines().next().unwrap_or_else(|| panic!("{finished:?}"));
    serde_json::from_str::<Value>(line).unwrap()["mode"].as_str().unwrap().to_owned()
}

/// Machines of which each has booted once, and then, with an update staged, boots with a fault at every so many-th step; `judge` gets
/// each machine after that boot, until a boot has no such step. Returns how many it has.
fn each_step(what: &str, options: &str, judge: impl Fn(&Power, &Snapshot, &Finished, usize) + Sync) -> usize {
    let from = |first: usize| {
        let power = Power::with("ext4");
        power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
        let before = power.upper(1);
        (first..MOST).step_by(MACHINES).find(|at| {
            let (faulty, steps) = boot_with_a_fault(&power, what, options, *at);
            judge(&power, &before, &faulty, *at);
            // What the log's own process has written meanwhile counts as well.
            steps < *at
        })
    };
    std::thread::scope(|scope| {
        let machines: Vec<_> = (1..=MACHINES).map(|first| scope.spawn(move || from(first))).collect();
        let ends = machines.into_iter().map(|machine| machine.join().unwrap());
        ends.map(|end| end.unwrap_or_else(|| panic!("a boot has more than {MOST} steps"))).min().unwrap()
    })
}

/// Returns what the boot has said, and how many steps it had.
fn boot_with_a_fault(power: &Power, what: &str, options: &str, at: usize) -> (Finished, usize) {
    let journal = power.machine.scratch.path("journal");
    power.stage();
    fs::write(&journal, "").unwrap();
    let order = format!("{what}:{at}:{}", journal.display());
    let faulty = power.on(&format!("HAOSFS_FAULT={order} $BOOT {options}; ended=$?; pgrep -c -f 'haosfs[ ]boot'; exit $ended"));
    let steps = fs::read_to_string(&journal).unwrap().lines().count();
    fs::remove_file(&journal).unwrap();
    (faulty, steps)
}

#[test]
fn a_boot_is_cut_off_anywhere() {
    if !possible("a_boot_is_cut_off_anywhere") {
        return;
    }
    let steps = each_step("die", "", |power, before, _, at| {
        let again = power.on("$BOOT && cat $MNT/etc/version $MNT/mine && $HAOSFS update fail --reason x --ini $INI 2>/dev/null");
        assert_eq!(mode(&again), "trial", "step {at}: {again:?}");
        assert!(again.stdout.contains(&format!("\n{NEW}one\n")), "step {at}: {again:?}");
        assert_same(&format!("step {at}"), before, &power.upper(1), Tolerance::default());
        if !(at / MACHINES).is_multiple_of(BACK) {
            return;
        }
        let back = power.on("$BOOT && cat $MNT/etc/version $MNT/mine && $HAOSFS update confirm --ini $INI");
        assert!(back.stdout.contains(&format!("\n{OLD}one\n")), "step {at}: {back:?}");
        assert!(matches!(power.state(), State::Stable { .. }));
        assert_same(&format!("step {at}"), before, &power.upper(1), Tolerance::default());
        power.machine.on_data(|data| assert!(!data.join("haosfs/uppers/2/upper").exists(), "step {at}"));
    });
    assert!(steps > 20, "{steps} steps: was it built without debug assertions?");
}

/// What a trial has left goes when the good image is there, or with the next boot that has one.
#[test]
fn a_boot_is_cut_off_while_it_takes_an_upper_away() {
    if !possible("a_boot_is_cut_off_while_it_takes_an_upper_away") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    let before = power.upper(1);
    let trials = || power.machine.on_data(|data| Uppers::open(data).unwrap().unwrap().numbers().unwrap().len() - 1);
    let journal = power.machine.scratch.path("journal");
    let cut_off_at = |at: usize| {
        power.stage();
        power.on("$BOOT && $HAOSFS update fail --reason x --ini $INI 2>$CONSOLE").succeeded();
        assert_eq!(trials(), 1, "step {at}");
        fs::write(&journal, "").unwrap();
        power.on(&format!("HAOSFS_FAULT=die:{at}:{} $BOOT", journal.display()));
        let back = power.on("$BOOT && cat $MNT/etc/version $MNT/mine && $HAOSFS update confirm --ini $INI");
        assert!(mode(&back) == "system" && back.stdout.contains(&format!("\n{OLD}one\n")), "step {at}: {back:?}");
        assert_eq!(trials(), 0, "step {at}: {back:?}");
        assert_same(&format!("step {at}"), &before, &power.upper(1), Tolerance::default());
        fs::read_to_string(&journal).unwrap()
    };
    let steps = cut_off_at(0);
    // From the last one of the mount to the first one that keeps room for the next boot.
    let steps: Vec<&str> = steps.lines().collect();
    let last = |step: &str| steps.iter().rposition(|line| *line == step).unwrap();
    let away = last("symlink")..=last("mkdir");
    assert!(away.clone().count() > 10, "{steps:?}");
    away.for_each(|at| drop(cut_off_at(at)));
}

/// Whatever cannot be written, there is a root.
#[test]
fn a_boot_cannot_write_anything() {
    if !possible("a_boot_cannot_write_anything") {
        return;
    }
    each_step("eio", "", |power, before, faulty, at| {
        assert_eq!(faulty.code, Some(0), "step {at}: {faulty:?}");
        // Who stands by a trial is there without a log as well, and goes with the trial.
        let standing_by = faulty.stdout.lines().last().unwrap();
        assert!([("trial", "1"), ("system", "0")].contains(&(&mode(faulty), standing_by)), "step {at}: {faulty:?}");
        assert_same(&format!("step {at}"), before, &power.upper(1), Tolerance::default());
        // Whatever came of it, the next time starts like this one.
        power.on("$HAOSFS update fail --reason x --ini $INI; $BOOT && $HAOSFS update confirm --ini $INI");
        assert!(matches!(power.state(), State::Stable { .. }), "step {at}: {:?}", power.state());
    });
}

/// A disk that is full for a moment, for the boot or for its daemon, is no fault of the image that is tried.
#[test]
fn a_full_disk_condemns_no_image() {
    if possible("a_full_disk_condemns_no_image") {
        each_full_disk("-o backend=kernel", &["trial", "system"]);
    }
}

/// Each daemon counts for itself: where that of the trial meets the fault, that of the good image does so as well.
#[test]
fn a_full_disk_of_daemons_condemns_no_image() {
    if possible("a_full_disk_of_daemons_condemns_no_image") {
        each_full_disk("-o backend=fuse", &["trial", "system", "safe"]);
    }
}

fn each_full_disk(options: &str, modes: &[&str]) {
    each_step("enospc", options, |power, before, faulty, at| {
        let case = format!("{options}, step {at}");
        assert_eq!(faulty.code, Some(0), "{case}: {faulty:?}");
        let state = power.state();
        let waits = matches!(state, State::Trying { .. } | State::Staged { .. });
        assert!(waits && modes.contains(&&*mode(faulty)), "{case}: {state:?} {faulty:?}");
        // What was not begun was no attempt; a daemon's steps are counted twice.
        let untried = options == "-o backend=kernel" && faulty.stdout.contains("is not tried at this boot");
        let all = matches!(state, State::Staged { left: 3, .. } | State::Trying { left: 3, .. });
        assert!(!untried || all, "{case}: {state:?} {faulty:?}");
        let met = faulty.stdout.matches("No space left on device").count();
        assert!(mode(faulty) != "safe" || met == 2, "{case}: both have met it: {faulty:?}");
        assert_same(&case, before, &power.upper(1), Tolerance::default());
        power.on("$HAOSFS update fail --reason x --ini $INI; $BOOT && $HAOSFS update confirm --ini $INI");
        assert!(matches!(power.state(), State::Stable { .. }), "{case}: {:?}", power.state());
    });
}

/// What a daemon meets when its union is unmounted comes too late for the boot that it is a process of.
#[test]
fn a_daemon_that_ends_badly_decides_nothing() {
    if !possible("a_daemon_that_ends_badly_decides_nothing") {
        return;
    }
    for what in ["enospc", "eio"] {
        let power = Power::with("ext4");
        power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
        power.stage();
        let journal = power.machine.scratch.path("journal").display().to_string();
        let ends = "for n in $(seq 300); do pgrep -f ^@haosfs >/dev/null || break; sleep 0.1; done";
        let boot = format!("export HAOSFS_FAULT={what}:1:{journal} && $BOOT -o backend=fuse && echo x >$MNT/tried");
        let ended = power.on(&format!("{boot} && : >{journal} && umount $MNT && {ends}; ls $MNT"));
        assert!(ended.stdout.contains("\"mode\":\"trial\"") && !ended.stdout.contains("\nsbin"), "{what}: {ended:?}");
        let met = fs::read_to_string(&journal).unwrap();
        // Whoever records the trial may write meanwhile.
        assert!(met.lines().any(|step| step == "syncfs"), "{what}: {met}");
        assert!(matches!(power.state(), State::Trying { left: 2, .. }), "{what}: {:?}", power.state());
        power.machine.on_data(|data| assert!(data.join("haosfs/uppers/2/upper/tried").exists(), "{what}"));
    }
}
