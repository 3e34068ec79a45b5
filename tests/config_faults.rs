//! One fault at every step of every write of haos.ini and of the uppers' generations: whoever reads afterwards finds the old state
//! or the new one, whole, and the next write succeeds.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/every_fault.rs"]
mod every_fault;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use every_fault::every_fault;
use haosfs::config::store;
use haosfs::sys::replace::Rights;
use haosfs::update::base::Base;
use haosfs::update::meta::{Backend, Meta};
use haosfs::update::uppers::Uppers;
use support::{HAOSFS, Scratch};

const OLD: &str = "# kept\n[haos]\ndata_partition = ./data\nsystem_image = old.squashfs\n\n[network]\naddress = 192.0.2.7\n";
const OLDER: &str = "[haos]\ndata_partition = ./data\nsystem_image = older.squashfs\n";

fn set(scratch: &Scratch, image: &str) -> Command {
    let mut command = Command::new(HAOSFS);
    command.args(["config", "set"]).arg(scratch.path("haos.ini")).arg(format!("system_image={image}"));
    command
}

fn with_files(ini: &str, backup: Option<&str>) -> (Scratch, Command) {
    let scratch = Scratch::new();
    fs::write(scratch.path("haos.ini"), ini).unwrap();
    backup.into_iter().for_each(|backup| fs::write(scratch.path("haos.ini.bak"), backup).unwrap());
    let command = set(&scratch, "new.squashfs");
    (scratch, command)
}

#[test]
fn a_configuration_is_the_old_or_the_new_one() {
    let new = OLD.replace("old.squashfs", "new.squashfs");
    for (what, backup) in [("die", Some(OLDER)), ("die", None), ("enospc", Some(OLDER))] {
        let steps = every_fault(
            what,
            || with_files(OLD, backup),
            |scratch, when, output| {
                let found = store::read(&scratch.path("haos.ini")).unwrap().unwrap().text;
                assert!(found == OLD || found == new, "{when}: {found}");
                assert!(found == new || !output.status.success(), "{when}");
                let kept = fs::read_to_string(scratch.path("haos.ini.bak")).ok();
                assert!(kept.as_deref() == backup || kept.as_deref() == Some(OLD), "{when}: {kept:?}");
                assert!(found == OLD || kept.as_deref() == Some(OLD), "{when}: the new one, and not the old one behind it");
                assert!(set(scratch, "new.squashfs").status().unwrap().success(), "{when}");
                assert!(set(scratch, "other.squashfs").status().unwrap().success(), "{when}");
                let names: Vec<_> = fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                assert_eq!(names.len(), 2, "{when}: {names:?}");
                assert_eq!(store::read(&scratch.path("haos.ini")).unwrap().unwrap().text, OLD.replace("old.", "other."));
            },
        );
        let written = "creat pwrite chmod fsync rename fsync fsync";
        assert_eq!(steps.join(" "), format!("{written} {written}"));
    }
}

/// The backup is not overwritten by what is not sound.
#[test]
fn an_unsound_configuration_is_mended_without_a_backup_of_it() {
    let unsound = OLD.replace("system_image = old.squashfs\n", "");
    for what in ["die", "eio"] {
        every_fault(
            what,
            || with_files(&unsound, Some(OLDER)),
            |scratch, when, _| {
                assert_eq!(fs::read_to_string(scratch.path("haos.ini.bak")).unwrap(), OLDER, "{when}");
                let found = fs::read_to_string(scratch.path("haos.ini")).unwrap();
                assert!(found == unsound || store::read(&scratch.path("haos.ini")).is_ok(), "{when}: {found}");
            },
        );
    }
}

#[test]
fn a_first_configuration_is_there_or_not() {
    let first = || {
        let scratch = Scratch::new();
        let mut command = set(&scratch, "new.squashfs");
        command.arg("data_partition=./data");
        (scratch, command)
    };
    for what in ["die", "eio"] {
        every_fault(what, first, |scratch, when, _| {
            let found = store::read(&scratch.path("haos.ini")).unwrap_or_else(|e| panic!("{when}: {e}"));
            if let Some(found) = found {
                assert_eq!(found.config.system_image.as_str(), "new.squashfs", "{when}");
            }
        });
    }
}

/// Names the step of a generation's life that this process shall take, and the data partition: for [`taken`].
const TAKE: &str = "HAOSFS_TEST_TAKE";

fn meta(name: &str) -> Meta {
    let base = Base { name: name.into(), version: None, size: 1, digest: [1; 32] };
    Meta { base, backend: None, parent: None, mounts: 0, parent_mounts: 0, clean: true, used: true }
}

const RIGHTS: Rights = Rights { perm: 0o750, owner: None };

fn take(step: &str, data: &Path) {
    let uppers = || Uppers::open(data).unwrap().unwrap();
    match step {
        "create" => drop(Uppers::create(data, &meta("first"), RIGHTS).unwrap()),
        "add" => drop(uppers().add(&meta("second"), RIGHTS).unwrap()),
        "flip" => uppers().set_current(2).unwrap(),
        "save" => uppers().save(1, &Meta { backend: Some(Backend::Fuse), clean: false, ..meta("first") }).unwrap(),
        other => panic!("{other}"),
    }
}

/// Takes one step where [`TAKE`] asks for it, in a process of its own: faults are counted per process.
#[test]
fn taken() {
    if let Ok(order) = std::env::var(TAKE) {
        let (step, data) = order.split_once(':').unwrap();
        take(step, Path::new(data));
    }
}

fn taking(step: &str, before: &[&str]) -> (Scratch, Command) {
    let scratch = Scratch::new();
    scratch.mkdir("data");
    before.iter().for_each(|step| take(step, &scratch.path("data")));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "taken"]).env(TAKE, format!("{step}:{}", scratch.path("data").display()));
    (scratch, command)
}

/// The generation in use, and of all their number, base and cleanness.
type Seen = (u64, Vec<(u64, PathBuf, bool)>);

/// What there is of generations; all of it must be whole.
fn seen(data: &Path) -> Option<Seen> {
    let uppers = Uppers::open(data).unwrap()?;
    let told = |number: u64| {
        let generation = uppers.generation(number).unwrap();
        assert_eq!(fs::read_dir(&generation.upper).unwrap().count() + fs::read_dir(&generation.work).unwrap().count(), 0);
        (number, PathBuf::from(generation.meta.base.name), generation.meta.clean)
    };
    Some((uppers.current().unwrap().number, uppers.numbers().unwrap().into_iter().map(told).collect()))
}

#[test]
fn generations_are_as_before_or_as_meant() {
    let first = |clean| (1, PathBuf::from("first"), clean);
    let second = (2, PathBuf::from("second"), true);
    let both = vec![first(true), second.clone()];
    for (step, before, old, new) in [
        ("create", &[][..], None, Some((1, vec![first(true)]))),
        ("add", &["create"], Some((1, vec![first(true)])), Some((1, both.clone()))),
        ("flip", &["create", "add"], Some((1, both.clone())), Some((2, both))),
        ("save", &["create"], Some((1, vec![first(true)])), Some((1, vec![first(false)]))),
    ] {
        for what in ["die", "eio"] {
            let steps = every_fault(
                what,
                || taking(step, before),
                |scratch, when, output| {
                    let data = scratch.path("data");
                    let found = seen(&data);
                    assert!(found == new || found == old && !output.status.success(), "{step}, {when}: {found:?}");
                    if found == old {
                        take(step, &data);
                        assert_eq!(seen(&data), new, "{step}, {when}, once more");
                    }
                },
            );
            if what == "die" {
                println!("{step}: {}", steps.join(" "));
            }
        }
    }
}
