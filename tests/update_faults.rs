//! One fault at every step of what `haosfs update`, and a boot, write: whoever comes afterwards finds the old state or the new one,
//! an image that is good, and the upper that belongs to it; and the same command, given again, leads to the new state.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/every_fault.rs"]
mod every_fault;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use every_fault::every_fault;
use haosfs::image::{Image, Options};
use haosfs::mount::generation;
use haosfs::mount::image_choice::{base_of, find};
use haosfs::sys::replace::Rights;
use haosfs::types::Stale;
use haosfs::update::base::Base;
use haosfs::update::meta::{Backend, Meta};
use haosfs::update::state::{Event, State, step};
use haosfs::update::store::Store;
use haosfs::update::uppers::Uppers;
use support::{HAOSFS, Scratch, pack};

const OLD: &str = "haos-x86_64_7.1.0.0.squashfs";
const NEW: &str = "haos-x86_64_7.1.1.0.squashfs";
const RIGHTS: Rights = Rights { perm: 0o755, owner: None };

fn base(image: &Path) -> Base {
    base_of(&Image::open(image, &Options::default()).unwrap(), image).unwrap()
}

/// An appliance whose upper was written to, and a newer image.
fn appliance() -> Scratch {
    let scratch = Scratch::new();
    scratch.mkdir("haos/data");
    let ini = format!("# by hand\n[haos]\ndata_partition = ./data\nsystem_image = {OLD}\n");
    fs::write(scratch.path("haos/haos.ini"), ini).unwrap();
    pack(&scratch.path("haos").join(OLD));
    pack(&scratch.path(NEW));
    let base = base(&scratch.path("haos").join(OLD));
    let meta = Meta { base, backend: Some(Backend::Kernel), parent: None, mounts: 0, parent_mounts: 0, clean: true, used: true };
    Uppers::create(&scratch.path("haos/data"), &meta, RIGHTS).unwrap();
    scratch
}

fn update(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(HAOSFS);
    command.arg("update").args(arguments).arg("--ini").arg(scratch.path("haos/haos.ini")).current_dir(scratch.path(""));
    command
}

fn done(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

/// Names the haos.ini that [`boots`] lets boot.
const BOOT: &str = "HAOSFS_TEST_BOOT";

fn boot(scratch: &Scratch) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "boots"]).env(BOOT, scratch.path("haos/haos.ini"));
    command
}

/// Begins a boot where [`BOOT`] asks for it, in a process of its own: faults are counted per process.
#[test]
fn boots() {
    if let Some(ini) = std::env::var_os(BOOT) {
        let store = Store::take(Path::new(&ini)).unwrap();
        let (state, _) = step(store.read().unwrap().state, Event::BootBegins);
        store.save(&state).unwrap();
    }
}

/// What a trial makes of the upper.
fn add_generation(scratch: &Scratch) {
    let uppers = Uppers::open(&scratch.path("haos/data")).unwrap().unwrap();
    let base = base(&scratch.path("haos").join(NEW));
    let meta =
        Meta { base, backend: Some(Backend::Kernel), parent: Some(1), mounts: 0, parent_mounts: 0, clean: true, used: false };
    assert_eq!(uppers.add(&meta, RIGHTS).unwrap(), 2);
}

fn state(scratch: &Scratch) -> State {
    Store::look(&scratch.path("haos/haos.ini")).unwrap().read().unwrap().state
}

/// In short: the word for a state, and the system image.
fn seen(scratch: &Scratch) -> String {
    let state = state(scratch);
    let word = match &state {
        State::Stable { .. } => "stable".to_owned(),
        State::Staged { left, .. } => format!("staged {left}"),
        State::Trying { left, tried, .. } => format!("trying {left}-{tried}"),
        State::RolledBack { .. } => "rolled back".to_owned(),
        State::Safe { .. } => panic!("nothing keeps {state:?}"),
    };
    format!("{word} on {}", if state.proven().good.as_str() == OLD { "old" } else { "new" })
}

/// The system image is sound, and a mount finds the upper that was made on it.
fn is_sound(scratch: &Scratch, when: &str) {
    let image = find(&state(scratch).proven().good, &scratch.path("haos")).unwrap();
    Image::open(&image, &Options::default()).unwrap().verify(|_| {}).unwrap();
    let opened = generation::look(&scratch.path("haos/data"), &base(&image), Stale::Refuse);
    let number = opened.unwrap_or_else(|e| panic!("{when}: {e}")).unwrap().generation.number;
    assert_eq!(number, if image.ends_with(OLD) { 1 } else { 2 }, "{when}");
    assert!(fs::read_to_string(scratch.path("haos/haos.ini")).unwrap().starts_with("# by hand\n"), "{when}");
}

/// A command from one state to another.
struct Case {
    before: fn(&Scratch),
    command: fn(&Scratch) -> Command,
    old: &'static str,
    new: &'static str,
    /// What stands in `trial/` then.
    trials: &'static [&'static str],
}

fn staged(scratch: &Scratch) {
    done(update(scratch, &["stage", NEW]));
}

fn tried(scratch: &Scratch) {
    staged(scratch);
    done(boot(scratch));
    add_generation(scratch);
}

fn tried_often(scratch: &Scratch) {
    tried(scratch);
    done(boot(scratch));
    done(boot(scratch));
}

fn failed(scratch: &Scratch) {
    tried(scratch);
    done(update(scratch, &["fail", "--reason", "x"]));
}

fn confirmed(scratch: &Scratch) {
    tried(scratch);
    done(update(scratch, &["confirm", "--unrecorded"]));
}

const CASES: [Case; 9] = [
    Case {
        before: |_| {},
        command: |scratch| update(scratch, &["stage", NEW]),
        old: "stable on old",
        new: "staged 3 on old",
        trials: &["+3-0"],
    },
    Case { before: staged, command: boot, old: "staged 3 on old", new: "trying 2-1 on old", trials: &["+2-1"] },
    Case { before: tried, command: boot, old: "trying 2-1 on old", new: "trying 1-2 on old", trials: &["+1-2"] },
    Case { before: tried_often, command: boot, old: "trying 0-3 on old", new: "rolled back on old", trials: &["+0-3"] },
    Case {
        before: tried,
        command: |scratch| update(scratch, &["confirm", "--unrecorded"]),
        old: "trying 2-1 on old",
        new: "stable on new",
        trials: &[],
    },
    Case {
        before: tried,
        command: |scratch| update(scratch, &["fail", "--reason", "x", "--log", NEW]),
        old: "trying 2-1 on old",
        new: "rolled back on old",
        trials: &["+0-1"],
    },
    Case {
        before: failed,
        command: |scratch| update(scratch, &["confirm", "--unrecorded"]),
        old: "rolled back on old",
        new: "stable on old",
        trials: &[],
    },
    Case {
        before: failed,
        command: |scratch| update(scratch, &["stage", NEW, "--again"]),
        old: "rolled back on old",
        new: "staged 3 on old",
        trials: &["+3-0"],
    },
    Case {
        before: confirmed,
        command: |scratch| update(scratch, &["rollback"]),
        old: "stable on new",
        new: "stable on old",
        trials: &[],
    },
];

fn each_step(case: &Case, what: &str) {
    let prepared = || {
        let scratch = appliance();
        (case.before)(&scratch);
        assert_eq!(seen(&scratch), case.old);
        let command = (case.command)(&scratch);
        (scratch, command)
    };
    let steps = every_fault(what, prepared, |scratch, when, output| {
        let when = format!("from {} to {}, {when}", case.old, case.new);
        let found = seen(scratch);
        assert!(found == case.new || found == case.old && !output.status.success(), "{when}: {found}");
        is_sound(scratch, &when);
        // A boot that was counted is one attempt less, as it should be; of a rollback that was saved nothing is left to be done.
        if found == case.old || !case.new.starts_with("trying") && !case.old.ends_with("on new") {
            done((case.command)(scratch));
        }
        assert_eq!(seen(scratch), case.new, "{when}, once more");
        is_sound(scratch, &when);
        let mut trials: Vec<_> = fs::read_dir(scratch.path("haos/trial"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        trials.sort();
        let expected: Vec<String> = case.trials.iter().map(|end| format!("{NEW}{end}")).collect();
        assert_eq!(trials, expected, "{when}");
        let left = fs::read_dir(scratch.path("haos")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| name.starts_with('.')).count(), 0, "{when}");
    });
    println!("from {} to {}: {}", case.old, case.new, steps.join(" "));
}

/// What goes is gone, or is found whole: whoever comes next removes what is left.
#[test]
fn what_gc_removes_is_gone_or_whole() {
    let prepared = || {
        let scratch = appliance();
        fs::copy(scratch.path(NEW), scratch.path("haos").join(NEW)).unwrap();
        add_generation(&scratch);
        fs::remove_file(scratch.path("haos").join(NEW)).unwrap();
        fs::create_dir_all(scratch.path("haos/data/haosfs/uppers/2/upper/a/b")).unwrap();
        fs::write(scratch.path("haos/haos-x86_64_6.0.squashfs"), "x").unwrap();
        let command = update(&scratch, &["gc"]);
        (scratch, command)
    };
    for what in ["die", "eio"] {
        let steps = every_fault(what, prepared, |scratch, when, output| {
            is_sound(scratch, when);
            let uppers = Uppers::open(&scratch.path("haos/data")).unwrap().unwrap();
            let numbers = uppers.numbers().unwrap();
            assert!(numbers == [1] || numbers == [1, 2] && !output.status.success(), "{when}: {numbers:?}");
            if numbers == [1, 2] {
                assert!(uppers.generation(2).unwrap().upper.join("a/b").is_dir(), "{when}: it is not whole");
            }
            drop(uppers);
            done(update(scratch, &["gc"]));
            let mut left: Vec<_> = ["haos", "haos/data/haosfs/uppers"]
                .into_iter()
                .flat_map(|at| fs::read_dir(scratch.path(at)).unwrap())
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            assert_eq!(left, [".last", "1", "current", "data", OLD, "haos.ini", "trial"], "{when}");
        });
        println!("{what}: {}", steps.join(" "));
    }
}

#[test]
fn a_power_cut_leaves_the_old_state_or_the_new_one() {
    CASES.iter().for_each(|case| each_step(case, "die"));
}

#[test]
fn an_error_leaves_the_old_state_or_the_new_one() {
    CASES.iter().for_each(|case| each_step(case, "eio"));
}
