//! The example units: that systemd takes them, and that what systemd then runs works (src/core/mount.c: mount(8) for the start,
//! `umount WHERE -c` for the stop), for machines whose first process is another one.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/sbin.rs"]
mod sbin;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sbin::{Helper, Sbin, possible};
use support::{Finished, can_run, has_tool};

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/units").join(name)
}

/// The value of a key of a unit.
fn value(text: &str, key: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap().to_owned()
}

#[test]
fn systemd_takes_the_example_units() {
    if !can_run("systemd_takes_the_example_units", has_tool("systemd-analyze"), "needs systemd-analyze") {
        return;
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]).args([unit("mnt.mount"), unit("mnt.automount")]);
    let verified = Finished::from(command.output().unwrap());
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{verified:?}");
}

#[test]
fn systemd_takes_the_guard() {
    if !can_run("systemd_takes_the_guard", has_tool("systemd-analyze"), "needs systemd-analyze") {
        return;
    }
    let scratch = support::Scratch::new();
    let text = fs::read_to_string(unit("haosfs-boot-guard.service")).unwrap();
    let ours = scratch.path("haosfs-boot-guard.service");
    fs::write(&ours, text.replace("/usr/bin/haosfs", support::HAOSFS)).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(ours);
    let verified = Finished::from(command.output().unwrap());
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{verified:?}");
}

#[test]
fn what_systemd_runs_for_a_unit_works() {
    if !possible("what_systemd_runs_for_a_unit_works") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let text = fs::read_to_string(unit("mnt.mount")).unwrap();
    let (source, place, kind, options) =
        (value(&text, "What"), value(&text, "Where"), value(&text, "Type"), value(&text, "Options"));
    let in_scratch =
        |text: &str| ["/haos/", "/data/", "/mnt"].iter().fold(text.to_owned(), |t, p| t.replace(p, &format!("$D{p}")));
    sbin.sh("mkdir -p haos data/upper data/work && ln image.sqfs haos/system.sqfs").succeeded();
    let start = format!("mount {source} {place} -t {kind} -o {options}");
    for _ in 0..2 {
        sbin.sh(&in_scratch(&start)).succeeded();
        assert_eq!(sbin.sh("cat $MNT/hello && touch $MNT/new && ls data/upper").succeeded().stdout, "hello\nnew\n");
        // Nothing of the unit is left in its cgroup.
        sbin.sh(&in_scratch(&format!("umount {place} -c"))).succeeded();
        sbin.is_clean();
    }
}
