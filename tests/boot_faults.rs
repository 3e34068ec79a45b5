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
use power::{Power, possible};
use serde_json::Value;
use support::Finished;
use tree::compare::{Tolerance, assert_same};

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// More steps than a boot has.
const MOST: usize = 200;

fn mode(finished: &Finished) -> String {
    let line = finished.stdout.lines().next().unwrap_or_else(|| panic!("{finished:?}"));
    serde_json::from_str::<Value>(line).unwrap()["mode"].as_str().unwrap().to_owned()
}

/// Stages, boots with a fault at one step, and hands that to `judge`, until a boot has no such step. Returns how many it has.
fn each_step(power: &Power, what: &str, judge: impl Fn(&Finished, usize)) -> usize {
    let journal = power.machine.scratch.path("journal");
    for at in 1..MOST {
        power.stage();
        fs::write(&journal, "").unwrap();
        let order = format!("{what}:{at}:{}", journal.display());
        let faulty = power.on(&format!("HAOSFS_FAULT={order} $BOOT"));
        let steps = fs::read_to_string(&journal).unwrap().lines().count();
        fs::remove_file(&journal).unwrap();
        judge(&faulty, at);
        // What the log's own process has written meanwhile counts as well.
        if steps < at {
            return at;
        }
    }
    panic!("a boot has more than {MOST} steps");
}

#[test]
fn a_boot_is_cut_off_anywhere() {
    if !possible("a_boot_is_cut_off_anywhere") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    let before = power.upper(1);
    let steps = each_step(&power, "die", |_, at| {
        let again = power.on("$BOOT && cat $MNT/etc/version $MNT/mine && $HAOSFS update fail --reason x --ini $INI 2>/dev/null");
        assert_eq!(mode(&again), "trial", "step {at}: {again:?}");
        assert!(again.stdout.contains(&format!("\n{NEW}one\n")), "step {at}: {again:?}");
        let back = power.on("$BOOT && cat $MNT/etc/version $MNT/mine && $HAOSFS update confirm --ini $INI");
        assert!(back.stdout.contains(&format!("\n{OLD}one\n")), "step {at}: {back:?}");
        assert!(matches!(power.state(), State::Stable { .. }));
        assert_same(&format!("step {at}"), &before, &power.upper(1), Tolerance::default());
        power.machine.on_data(|data| assert!(!data.join("haosfs/uppers/2/upper").exists(), "step {at}"));
    });
    assert!(steps > 20, "{steps} steps: was it built without debug assertions?");
}

/// Whatever cannot be written, there is a root.
#[test]
fn a_boot_cannot_write_anything() {
    if !possible("a_boot_cannot_write_anything") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    let before = power.upper(1);
    each_step(&power, "eio", |faulty, at| {
        assert_eq!(faulty.code, Some(0), "step {at}: {faulty:?}");
        assert!(["trial", "system"].contains(&mode(faulty).as_str()), "step {at}: {faulty:?}");
        assert_same(&format!("step {at}"), &before, &power.upper(1), Tolerance::default());
        // Whatever came of it, the next time starts like this one.
        power.on("$HAOSFS update fail --reason x --ini $INI; $BOOT && $HAOSFS update confirm --ini $INI");
        assert!(matches!(power.state(), State::Stable { .. }), "step {at}: {:?}", power.state());
    });
}
