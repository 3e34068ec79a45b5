//! pjdfstest on the kernel's overlayfs and on haosfs, both over ext4: what passes on the one passes on the other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use mounted::requirement::{Requirement, can_run, tool};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};

const NEEDS: &[Requirement] =
    &[Requirement::Root, Requirement::Tool("pjdfstest"), Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// The suite's settings, but for whether it may remount. The users exist on every Debian; a nap is longer than the ticks that file
/// times move by.
const SETTINGS: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = REMOUNT
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// `case: reason`, one a line: what passes on the kernel's overlayfs and not on haosfs.
const EXCEPTIONS: &str = include_str!("pjdfstest.exceptions");

/// Cases that the suite has for these settings.
const CASES: usize = 398;

/// In the names of the cases that remount read-only, and of no others.
const REMOUNTING: &str = "::erofs_";

/// The suite asks pathconf(3) for the greatest number of links, which glibc knows of ext4, and not of overlayfs or FUSE.
const UNKNOWN_LIMIT: &str = "link::link_count_max";

/// What mount(8) does with a remount when haosfs is installed, whose helper it looks for in /sbin alone.
const MOUNT: &str = r#"#!/bin/sh
if [ "$(findmnt -n -o FSTYPE --mountpoint "$3")" = fuse.haosfs ]; then
    exec "${0%/*}/mount.fuse.haosfs" "$(findmnt -n -o SOURCE --mountpoint "$3")" "$3" "$1" "$2"
fi
exec /bin/mount "$@"
"#;

/// What became of one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Reads the suite's report: a line for each case ends in its outcome.
fn parse(report: &str) -> BTreeMap<String, Outcome> {
    let outcomes = report.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (case, outcome, rest) = (words.next()?, words.next()?, words.next());
        let outcome = match outcome {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            "skipped" => Outcome::Skipped,
            _ => return None,
        };
        (case.contains("::") && rest.is_none()).then(|| (case.to_owned(), outcome))
    });
    outcomes.collect()
}

/// Everything, in two runs: `open::open_trunc` leaves a file open for writing, so after it nothing can be remounted read-only.
fn run_in(dir: &Path, other_file_system: &Path) -> BTreeMap<String, Outcome> {
    let mut outcomes = run_once(dir, other_file_system, None);
    outcomes.extend(run_once(dir, other_file_system, Some(REMOUNTING)));
    assert_eq!(outcomes.len(), CASES, "{outcomes:#?}");
    outcomes
}

/// The cases with `pattern` in their names, which may remount, or all, none of which may.
fn run_once(dir: &Path, other_file_system: &Path, pattern: Option<&str>) -> BTreeMap<String, Outcome> {
    let temp = open_temp_dir();
    let settings = temp.path().join("pjdfstest.toml");
    fs::write(&settings, SETTINGS.replace("REMOUNT", &pattern.is_some().to_string())).unwrap();
    let mount = temp.path().join("mount");
    fs::write(&mount, MOUNT).unwrap();
    fs::set_permissions(&mount, fs::Permissions::from_mode(0o755)).unwrap();
    symlink(env!("CARGO_BIN_EXE_haosfs"), temp.path().join("mount.fuse.haosfs")).unwrap();
    let mut path = OsString::from(temp.path());
    path.extend([":".into(), std::env::var_os("PATH").unwrap_or_default()]);
    let mut command = Command::new(tool("pjdfstest").unwrap());
    command.env("PATH", path).env("NO_COLOR", "1");
    command.arg("-c").arg(&settings).arg("-p").arg(dir).arg("-s").arg(other_file_system).args(pattern);
    let output = command.output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let outcomes = parse(&report);
    assert!(!outcomes.is_empty(), "no cases: {report}{}", String::from_utf8_lossy(&output.stderr));
    outcomes
}

/// The suite within a directory that comes from the lower: a directory for the kernel, because its overlayfs takes the length
/// of names from the layers and its squashfs says 256.
fn run_on(driver: Driver) -> BTreeMap<String, Outcome> {
    let (scratch, other, dir) = (Scratch::new(Fs::Ext4), Scratch::new(Fs::Tmpfs), open_temp_dir());
    let (tree, image) = (scratch.dir("tree"), dir.path().join("image.sqfs"));
    fs::create_dir(tree.join("below")).unwrap();
    squashfs::pack(&tree, &image, &[]);
    let lower = if driver == Driver::Kernel { Lower::Dir(tree) } else { Lower::Image(image) };
    let union = Union::new(driver, &[lower], &scratch.dir("home"));
    run_in(&union.path().join("below"), other.path())
}

fn cases(outcomes: &BTreeMap<String, Outcome>, wanted: Outcome) -> Vec<&str> {
    outcomes.iter().filter(|&(_, outcome)| *outcome == wanted).map(|(case, _)| case.as_str()).collect()
}

fn exceptions() -> BTreeMap<&'static str, &'static str> {
    let lines = EXCEPTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}"))).collect()
}

#[test]
fn bare_ext4_passes_everything() {
    if can_run("bare_ext4_passes_everything", NEEDS) {
        let (scratch, other) = (Scratch::new(Fs::Ext4), Scratch::new(Fs::Tmpfs));
        let outcomes = run_in(&scratch.dir("home"), other.path());
        assert_eq!(cases(&outcomes, Outcome::Passed).len(), CASES, "{outcomes:#?}");
    }
}

/// The kernel's overlayfs refuses character devices 0:0, which it takes for whiteouts, and the suite makes no others.
#[test]
fn haosfs_passes_what_overlayfs_passes() {
    if !can_run("haosfs_passes_what_overlayfs_passes", NEEDS) {
        return;
    }
    let kernel = run_on(Driver::Kernel);
    let unexpected: Vec<_> = cases(&kernel, Outcome::Failed).into_iter().filter(|case| !case.ends_with("::char")).collect();
    assert_eq!(unexpected, [""; 0], "failures of the kernel's overlayfs other than of devices 0:0");
    let (haosfs, exceptions) = (run_on(Driver::Haosfs), exceptions());
    for outcomes in [&kernel, &haosfs] {
        assert_eq!(cases(outcomes, Outcome::Skipped), [UNKNOWN_LIMIT]);
    }
    let passed = cases(&kernel, Outcome::Passed);
    let worse: Vec<_> = passed.iter().filter(|case| haosfs.get(**case) != Some(&Outcome::Passed)).collect();
    let unexcused: Vec<_> = worse.iter().filter(|case| !exceptions.contains_key(**case)).collect();
    assert!(unexcused.is_empty(), "pass on overlayfs, not on haosfs: {unexcused:#?}");
    let outdated: Vec<_> = exceptions.keys().filter(|case| haosfs.get(**case) == Some(&Outcome::Passed)).collect();
    assert!(outdated.is_empty(), "listed as exceptions, but pass: {outdated:#?}");
    println!("overlayfs passes {}, haosfs {}", passed.len(), cases(&haosfs, Outcome::Passed).len());
}

#[test]
fn reports_are_read() {
    let report = "chown::eloop_comp       ok\nunlink::x::char   FAILED\n\tcalled `Result::unwrap()`\na::b  skipped\nSummary: 1 failed, 3 total\n";
    let outcomes = parse(report);
    assert_eq!(outcomes.len(), 3);
    assert_eq!(
        (outcomes["chown::eloop_comp"], outcomes["unlink::x::char"], outcomes["a::b"]),
        (Outcome::Passed, Outcome::Failed, Outcome::Skipped)
    );
}
