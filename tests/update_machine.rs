//! An update on a real disk, from the stage to the confirmation and back: what a mount by haos.ini shows after each step.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[path = "appliance/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs;
use std::path::Path;

use haosfs::mount::trial;
use haosfs::update::state::{Effect, Event, step};
use haosfs::update::store::{Standing, Store};
use machine::Machine;
use support::{Finished, can_run, has_tool, is_root};
use tree::compare::{Tolerance, assert_same};
use tree::snapshot::Snapshot;

fn possible(test: &str, fs: &str) -> bool {
    let mkfs = format!("mkfs.{fs}");
    let tools = [&mkfs, "mkfs.ext4", "losetup", "partx", "mksquashfs"];
    let found = tools.into_iter().all(|tool| has_tool(tool) || Path::new("/usr/sbin").join(tool).exists());
    can_run(test, is_root() && found, &format!("needs root, losetup, partx, mksquashfs and {mkfs}"))
}

fn update(machine: &Machine, arguments: &[&str]) -> Finished {
    let ini = machine.ini().into_os_string().into_string().unwrap();
    let finished = machine.scratch.haosfs(&[&["update"], arguments, &["--ini", &ini]].concat());
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished
}

/// What a boot does up to the mount; returns the image that it would mount.
fn boot(machine: &Machine) -> String {
    let store = Store::take(&machine.ini()).unwrap();
    let Standing { state, stored, .. } = store.read().unwrap();
    let (state, effects) = step(state, Event::BootBegins);
    store.save(&state).unwrap();
    let mut booted = None;
    for effect in effects {
        match effect {
            Effect::Prepare { image, anew } => drop(trial::prepare(&stored, &store.directory(), &image, anew).unwrap()),
            Effect::Use { image } => drop(trial::take_into_use(&stored, &store.directory(), &image).unwrap()),
            Effect::Drop { image } => trial::discard(&stored, &store.directory(), &image).unwrap(),
            Effect::Boot { image } => booted = Some(image.as_str().to_owned()),
            other => panic!("{other:?}"),
        }
    }
    booted.unwrap()
}

/// Mounts by haos.ini, and says which version of the image is below which upper.
fn mounted(machine: &Machine, act: impl FnOnce(&Path)) -> (String, Option<String>) {
    machine.mount("backend=kernel").succeeded();
    let root = machine.scratch.path("mnt");
    let seen = (fs::read_to_string(root.join("etc/version")).unwrap(), fs::read_to_string(root.join("mine")).ok());
    act(&root);
    machine.umount();
    seen
}

fn seen(version: &str, mine: &str) -> (String, Option<String>) {
    (version.to_owned(), Some(mine.to_owned()))
}

fn name(machine: &Machine, version: &str) -> String {
    machine.image(version).file_name().unwrap().to_str().unwrap().to_owned()
}

fn upper(machine: &Machine, generation: u64) -> Snapshot {
    machine.on_data(|data| Snapshot::read(&data.join(format!("haosfs/uppers/{generation}/upper"))).unwrap())
}

fn goes_through_an_update(test: &str, fs_name: &str) {
    if !possible(test, fs_name) {
        return;
    }
    let machine = Machine::with(fs_name);
    let [old, new] = ["7.1.0.0", "7.1.1.0"].map(|version| name(&machine, version));
    mounted(&machine, |root| fs::write(root.join("mine"), "one").unwrap());
    let image = machine.image("7.1.1.0").into_os_string().into_string().unwrap();
    update(&machine, &["stage", &image]);
    assert_eq!(mounted(&machine, |root| fs::write(root.join("mine"), "two").unwrap()), seen("7.1.0.0", "one"));
    // It fails once, and leaves nothing.
    assert_eq!(boot(&machine), new);
    let before = upper(&machine, 1);
    update(&machine, &["fail", "--reason", "x"]);
    assert_eq!(boot(&machine), old);
    assert!(!machine.on_data(|data| data.join("haosfs/uppers/2").exists()));
    assert_same("rolled back", &before, &upper(&machine, 1), Tolerance::default());
    update(&machine, &["confirm", "--unrecorded"]);
    assert_eq!(mounted(&machine, |root| fs::write(root.join("mine"), "three").unwrap()), seen("7.1.0.0", "two"));
    // It is confirmed, with what was changed up to the trial.
    update(&machine, &["stage", &image, "--again"]);
    assert_eq!((boot(&machine), boot(&machine)), (new.clone(), new.clone()));
    update(&machine, &["confirm", "--unrecorded"]);
    assert_eq!(machine.meta("parent"), "1");
    assert_eq!(mounted(&machine, |root| fs::write(root.join("mine"), "four").unwrap()), seen("7.1.1.0", "three"));
    let before = upper(&machine, 1);
    update(&machine, &["rollback"]);
    assert_eq!(mounted(&machine, |_| {}), seen("7.1.0.0", "three"));
    assert_same("left again", &before, &upper(&machine, 1), Tolerance::default());
    let gone = update(&machine, &["gc"]).stdout;
    assert!(gone.contains("upper generation 3") && gone.contains(&new), "{gone}");
    assert_eq!(machine.on_data(|data| fs::read_dir(data.join("haosfs/uppers")).unwrap().count()), 3, "1, current, .last");
}

#[test]
fn an_update_on_ext4() {
    goes_through_an_update("an_update_on_ext4", "ext4");
}

#[test]
fn an_update_on_btrfs() {
    goes_through_an_update("an_update_on_btrfs", "btrfs");
}

/// A rollback that would lead to safe mode is no success.
#[test]
fn who_has_no_upper_to_go_back_to_stays() {
    if !possible("who_has_no_upper_to_go_back_to_stays", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    let (old, ini) = (name(&machine, "7.1.0.0"), machine.ini().into_os_string().into_string().unwrap());
    mounted(&machine, |root| fs::write(root.join("mine"), "one").unwrap());
    update(&machine, &["stage", machine.image("7.1.1.0").to_str().unwrap()]);
    boot(&machine);
    update(&machine, &["confirm", "--unrecorded"]);
    mounted(&machine, |root| fs::write(root.join("mine"), "two").unwrap());
    machine.on_data(|data| fs::remove_dir_all(data.join("haosfs/uppers/1")).unwrap());
    let before = fs::read(machine.ini()).unwrap();
    let refused = machine.scratch.haosfs(&["update", "rollback", "--ini", &ini]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains(&format!("no upper that was made on {old}")), "{refused:?}");
    assert!(fs::read(machine.ini()).unwrap() == before, "{refused:?}");
    assert_eq!(mounted(&machine, |_| {}), seen("7.1.1.0", "two"));
    // What it says to do instead.
    assert_eq!(machine.scratch.haosfs(&["config", "set", &ini, &format!("update_image={old}")]).code, Some(0));
    assert_eq!(boot(&machine), old);
    update(&machine, &["confirm", "--unrecorded"]);
    assert_eq!(mounted(&machine, |_| {}), seen("7.1.0.0", "two"));
}

/// Who goes back from an image that was in use, and tries it again, may want to have what was written meanwhile.
#[test]
fn what_was_in_use_is_no_trial_s_to_take_away() {
    if !possible("what_was_in_use_is_no_trial_s_to_take_away", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    mounted(&machine, |root| fs::write(root.join("mine"), "one").unwrap());
    let image = machine.image("7.1.1.0").into_os_string().into_string().unwrap();
    update(&machine, &["stage", &image]);
    boot(&machine);
    update(&machine, &["confirm", "--unrecorded"]);
    mounted(&machine, |root| fs::write(root.join("mine"), "two").unwrap());
    let left = upper(&machine, 2);
    update(&machine, &["rollback"]);
    assert_eq!(mounted(&machine, |_| {}), seen("7.1.0.0", "one"));
    for (event, generations) in [(&["fail", "--reason", "x"][..], 3), (&["confirm", "--unrecorded"], 4)] {
        update(&machine, &["stage", &image, "--again"]);
        boot(&machine);
        assert!(machine.on_data(|data| data.join(format!("haosfs/uppers/{generations}")).exists()), "one of its own");
        update(&machine, event);
        boot(&machine);
        assert_same("left by the rollback", &left, &upper(&machine, 2), Tolerance::default());
    }
    assert!(!machine.on_data(|data| data.join("haosfs/uppers/3").exists()), "what was a trial's is gone");
    assert_eq!(mounted(&machine, |_| {}), seen("7.1.1.0", "one"));
}

/// Power fails after haos.ini was written, and before the link was.
fn confirm_in_part(machine: &Machine) {
    let store = Store::take(&machine.ini()).unwrap();
    let (state, _not_carried_out) = step(store.read().unwrap().state, Event::Confirm);
    store.save(&state).unwrap();
}

#[test]
fn a_mount_finishes_what_a_confirmation_began() {
    if !possible("a_mount_finishes_what_a_confirmation_began", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    mounted(&machine, |root| fs::write(root.join("mine"), "one").unwrap());
    let image = machine.image("7.1.1.0").into_os_string().into_string().unwrap();
    update(&machine, &["stage", &image]);
    boot(&machine);
    confirm_in_part(&machine);
    machine.mount("ro").succeeded();
    assert_eq!(fs::read_to_string(machine.scratch.path("mnt/mine")).unwrap(), "one");
    machine.umount();
    assert_eq!(machine.meta("parent"), "none", "who only looks changes nothing");
    assert_eq!(mounted(&machine, |_| {}), seen("7.1.1.0", "one"));
    assert_eq!(machine.meta("parent"), "1");
    update(&machine, &["confirm", "--unrecorded"]);
}

/// The next update comes before the next mount.
#[test]
fn an_update_grows_on_what_was_confirmed() {
    if !possible("an_update_grows_on_what_was_confirmed", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    mounted(&machine, |root| fs::write(root.join("mine"), "one").unwrap());
    let image = |version| machine.image(version).into_os_string().into_string().unwrap();
    update(&machine, &["stage", &image("7.1.1.0")]);
    boot(&machine);
    confirm_in_part(&machine);
    machine.pack("7.1.2.0");
    update(&machine, &["stage", &image("7.1.2.0")]);
    assert_eq!(boot(&machine), name(&machine, "7.1.2.0"));
    update(&machine, &["confirm", "--unrecorded"]);
    assert_eq!(machine.meta("parent"), "2", "not the one before the image that was confirmed");
}

/// A boot that cannot be counted runs on the old upper while a trial has attempts left.
#[test]
fn what_is_written_between_attempts_is_kept() {
    if !possible("what_is_written_between_attempts_is_kept", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    mounted(&machine, |root| fs::write(root.join("mine"), "one").unwrap());
    let image = machine.image("7.1.1.0").into_os_string().into_string().unwrap();
    update(&machine, &["stage", &image]);
    let new = name(&machine, "7.1.1.0");
    assert_eq!((boot(&machine), boot(&machine)), (new.clone(), new.clone()));
    assert!(machine.on_data(|data| data.join("haosfs/uppers/2").exists()), "the second attempt goes on with what the first made");
    assert_eq!(mounted(&machine, |root| fs::write(root.join("mine"), "two").unwrap()), seen("7.1.0.0", "one"));
    assert_eq!(boot(&machine), new);
    update(&machine, &["confirm", "--unrecorded"]);
    assert_eq!(mounted(&machine, |_| {}), seen("7.1.1.0", "two"));
}
