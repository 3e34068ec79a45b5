//! `haosfs check`: every defect that is made by hand is named, what can be mended is, and the kernel's overlayfs then shows the
//! tree that was meant; sound uppers give notes at most.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "cli/checked.rs"]
mod checked;
mod mounted;
#[path = "interchange/scripts.rs"]
mod scripts;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use checked::{Checked, LOWER, Run};
use mounted::ground::Ground;
use mounted::mount::Mount;
use mounted::requirement::{Requirement, can_run};
use mounted::union::Driver;

/// The kernel's features, beyond those that the scripts use. nfs_export and metacopy exclude each other.
const FEATURES: [&[&str]; 4] = [&[], &["index=on"], &["index=on", "xino=on"], &["volatile"]];

const ROOT: &[Requirement] = &[Requirement::Root];

/// Marks of fuse-overlayfs and aufs become the format's own.
#[test]
fn foreign_marks_are_made_real() {
    if !can_run("foreign_marks_are_made_real", ROOT) {
        return;
    }
    let checked = Checked::new();
    checked.dirs(&["etc", "var", "home", "usr", "tmp/new"]);
    checked.files(&["etc/.wh.motd", "etc/hosts", "etc/.wh.hosts", "var/.wh..wh..opq", "var/mine", "tmp/new/.wh.x", ".wh.top"]);
    fs::write(checked.upper("etc/hosts"), "new hosts").unwrap();
    checked.mark("home", "user.fuseoverlayfs.opaque", b"y");
    checked.mark("usr", "user.overlay.opaque", b"y");
    fs::write(checked.upper("home/.wh.note"), "not empty").unwrap();
    let before = fs::metadata(checked.upper("etc")).unwrap().modified().unwrap();
    let dry = checked.check(&[]);
    assert_eq!(dry.code, 4, "{dry:?}");
    for (path, severity, id) in [
        ("upper/.wh.top", "error", "foreign-whiteout"),
        ("upper/etc/.wh.motd", "error", "foreign-whiteout"),
        ("upper/etc/.wh.hosts", "error", "foreign-whiteout"),
        ("upper/var/.wh..wh..opq", "error", "foreign-opaque"),
        ("upper/tmp/new/.wh.x", "error", "foreign-whiteout"),
        ("upper/home", "error", "unseen-opaque"),
        ("upper/home/.wh.note", "warning", "foreign-with-data"),
        ("upper/usr", "error", "unseen-opaque"),
    ] {
        dry.found(path, severity, id, "left");
    }
    assert_eq!(dry.findings.len(), 8, "{dry:?}");
    assert!(checked.upper("etc/.wh.motd").exists(), "a dry run changes nothing");
    let repaired = checked.check(&["--repair", "--lower", "lower"]);
    assert_eq!((repaired.code, repaired.repaired()), (5, 7), "{repaired:?}");
    assert_eq!(fs::metadata(checked.upper("etc")).unwrap().modified().unwrap(), before);
    assert!(repaired.findings.iter().any(|f| f["done"] == "made a whiteout of \"motd\" and removed this"), "{repaired:?}");
    let again = checked.check(&["--lower", "lower"]);
    assert_eq!((again.code, again.findings.len()), (4, 1), "{again:?}");
    let shown = checked.kernel_shows(&[]);
    let expected =
        ["etc", "etc/hosts", "home", "home/.wh.note", "tmp", "tmp/keep", "tmp/new", "usr", "var", "var/mine"].map(String::from);
    assert_eq!(shown, expected);
}

/// A whiteout and a directory of one name contradict each other: which is meant can only be guessed.
#[test]
fn what_would_be_a_guess_is_left() {
    if !can_run("what_would_be_a_guess_is_left", ROOT) {
        return;
    }
    let checked = Checked::new();
    checked.dirs(&["etc", "var", "usr"]);
    checked.files(&[".wh.etc", ".wh..wh..opq", ".wh..wh.aufs"]);
    checked.mark("var", "trusted.overlay.opaque", b"x");
    checked.mark("usr", "trusted.overlay.opaque", b"z");
    let repaired = checked.check(&["--repair", "--lower", "lower"]);
    assert_eq!((repaired.code, repaired.repaired()), (4, 0), "{repaired:?}");
    repaired.found("upper/.wh.etc", "error", "foreign-whiteout", "left");
    repaired.found("upper/.wh..wh..opq", "error", "foreign-opaque", "left");
    repaired.found("upper/.wh..wh.aufs", "warning", "aufs", "left");
    repaired.found("upper/var", "warning", "opaque-value", "left");
    repaired.found("upper/usr", "error", "opaque-value", "left");
}

#[test]
fn whiteouts_that_hide_nothing_go() {
    if !can_run("whiteouts_that_hide_nothing_go", ROOT) {
        return;
    }
    let checked = Checked::new();
    checked.dirs(&["etc", "var", "fresh"]);
    checked.mark("var", "trusted.overlay.opaque", b"y");
    for name in ["etc/motd", "etc/orphan", "var/log", "fresh/gone"] {
        checked.whiteout(name);
    }
    checked.files(&["top", "etc/by_mark"]);
    checked.mark("top", "trusted.overlay.whiteout", b"y");
    checked.mark("etc/by_mark", "trusted.overlay.whiteout", b"");
    let without = checked.check(&[]);
    assert_eq!(without.code, 4, "{without:?}");
    without.found("upper/var/log", "warning", "pure-whiteout", "left");
    without.found("upper/top", "error", "xattr-whiteout", "left");
    assert_eq!(without.findings.len(), 3, "{without:?}");
    let repaired = checked.check(&["--repair", "--lower", "lower"]);
    assert_eq!(repaired.code, 1, "{repaired:?}");
    for (path, severity, id) in [
        ("upper/etc/orphan", "note", "orphan-whiteout"),
        ("upper/var/log", "warning", "pure-whiteout"),
        ("upper/fresh/gone", "warning", "pure-whiteout"),
        ("upper/top", "error", "xattr-whiteout"),
        ("upper/etc/by_mark", "error", "xattr-whiteout"),
    ] {
        repaired.found(path, severity, id, "repaired");
    }
    let shown = checked.kernel_shows(&[]);
    let expected = ["etc", "etc/hosts", "fresh", "home", "home/user", "tmp", "tmp/keep", "usr", "usr/bin", "var"];
    assert_eq!(shown, expected.map(String::from));
}

#[test]
fn ways_to_the_lowers_are_followed() {
    if !can_run("ways_to_the_lowers_are_followed", ROOT) {
        return;
    }
    let checked = Checked::new();
    checked.dirs(&["format", "gone", "good", "good/deeper"]);
    checked.files(&["etc_motd", "data", "size", "broken", "whole", "lost"]);
    for (name, attribute, value) in [
        ("format", "trusted.overlay.redirect", &b"a//\x1bb"[..]),
        ("gone", "trusted.overlay.redirect", b"/etc/none"),
        ("good", "trusted.overlay.redirect", b"/usr"),
        ("good/deeper", "trusted.overlay.redirect", b"bin"),
        ("whole", "trusted.overlay.redirect", b"/etc/motd"),
        ("data", "trusted.overlay.redirect", b"/etc/motd"),
        ("data", "trusted.overlay.metacopy", b""),
        ("size", "trusted.overlay.redirect", b"/etc/motd"),
        ("size", "trusted.overlay.metacopy", b""),
        ("broken", "trusted.overlay.metacopy", b"?"),
        ("lost", "trusted.overlay.metacopy", b""),
        ("etc_motd", "trusted.overlay.origin", b"\0\xfb\x40short"),
    ] {
        checked.mark(name, attribute, value);
    }
    File::options().write(true).open(checked.upper("data")).unwrap().set_len(LOWER.len() as u64).unwrap();
    let found = checked.check(&["--lower", "lower"]);
    assert_eq!(found.code, 4, "{found:?}");
    for (path, severity, id) in [
        ("upper/format", "error", "redirect-format"),
        ("upper/gone", "error", "redirect-missing"),
        ("upper/whole", "note", "redirect-unused"),
        ("upper/size", "error", "metacopy-size"),
        ("upper/broken", "error", "metacopy-format"),
        ("upper/lost", "error", "metacopy-missing"),
        ("upper/etc_motd", "warning", "origin"),
    ] {
        found.found(path, severity, id, "left");
    }
    assert_eq!(found.findings.iter().filter(|f| f["finding"] == "needs-metacopy").count(), 1, "{found:?}");
    assert_eq!(found.findings.len(), 8, "{found:?}");
    let repaired = checked.check(&["--repair"]);
    assert_eq!((repaired.code, repaired.repaired()), (5, 1), "{repaired:?}");
    let origin = rustix::fs::lgetxattr(checked.upper("etc_motd"), "trusted.overlay.origin", &mut [0_u8; 64][..]);
    assert_eq!(origin, Err(rustix::io::Errno::NODATA));
}

#[test]
fn work_directories_are_looked_at() {
    if !can_run("work_directories_are_looked_at", ROOT) {
        return;
    }
    let checked = Checked::new();
    checked.dirs(&["usr"]);
    checked.mark("usr", "user.overlay.opaque", b"y");
    for dir in ["work/work/#1/deep", "work/work/incompat/volatile", "work/index"] {
        fs::create_dir_all(checked.path(dir)).unwrap();
    }
    for file in ["work/work/#1/deep/f", "work/work/incompat/volatile/dirty", "work/index/strange", "work/haosfs.trustedxattr"] {
        fs::write(checked.path(file), "x").unwrap();
    }
    let found = checked.check(&["--repair"]);
    assert_eq!(found.code, 5, "{found:?}");
    for (path, severity, id, outcome) in [
        ("work/work/#1", "note", "leftover", "repaired"),
        ("work/work/incompat/volatile", "error", "incompat", "left"),
        ("work/index", "note", "index", "left"),
        ("work/index/strange", "warning", "index-name", "left"),
        ("upper/usr", "error", "unseen-opaque", "repaired"),
        ("work/haosfs.trustedxattr", "warning", "marker", "left"),
    ] {
        found.found(path, severity, id, outcome);
    }
    assert!(checked.path("work/work/incompat/volatile/dirty").exists());
    let user = checked.check(&["-o", "userxattr"]);
    user.found("work/haosfs.trustedxattr", "error", "marker-refuses", "left");
}

#[test]
fn hostile_uppers_lead_nowhere() {
    if !can_run("hostile_uppers_lead_nowhere", ROOT) {
        return;
    }
    let checked = Checked::new();
    let outside = checked.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join(".wh.x"), "").unwrap();
    symlink(&outside, checked.upper("link")).unwrap();
    fs::create_dir(checked.upper("mount")).unwrap();
    let mount = Mount::new(&["--bind"], &outside, &checked.upper("mount"));
    fs::write(checked.upper(".wh.\u{1b}[31m\n"), "").unwrap();
    checked.chain(3000);
    let found = checked.check(&["--repair", "--lower", "lower"]);
    assert_eq!(
        (found.code, found.findings.len()),
        (5, 3),
        "{:?}",
        found.findings.iter().map(|f| &f["finding"]).collect::<Vec<_>>()
    );
    found.found("upper/mount", "error", "mounted-inside", "left");
    assert!(found.findings.iter().any(|f| f["finding"] == "foreign-opaque" && f["outcome"] == "repaired"), "at the chain's end");
    drop(mount);
    assert!(outside.join(".wh.x").exists());
    fs::write(checked.upper(".wh.\u{1b}[31m\n"), "").unwrap();
    let text = checked.run(&["check", "upper", "work"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("error: upper/.wh.\\x1b[31m\\x0a: ") && text.lines().count() == 2, "{text}");
}

#[test]
fn uppers_in_use_are_refused() {
    if !can_run("uppers_in_use_are_refused", &[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let checked = Checked::new();
    let refused = |words: &str| {
        let output = checked.run(&["check", "upper", "work"]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(8), "{text}");
        assert!(text.contains(words) && text.lines().count() == 1, "{words:?} not in {text:?}");
    };
    let kernel = checked.mount_kernel(&[]);
    refused("in use by the kernel's overlayfs mounted at ");
    drop(kernel);
    assert!(checked.run(&["mount", "lower", "mnt", "--upper", "upper", "--work", "work"]).status.success());
    refused("in use by another mount");
    assert!(checked.run(&["umount", "mnt"]).status.success());
    assert_eq!(checked.check(&[]).code, 0);
    fs::remove_dir_all(checked.path("work")).unwrap();
    refused("the work directory does not exist");
    fs::create_dir(checked.path("work")).unwrap();
    let other = Mount::new(&["-t", "tmpfs"], "none".as_ref(), &checked.path("work"));
    refused("must be on the same mounted file system");
    drop(other);
    assert_eq!(checked.run(&["check", "upper"]).status.code(), Some(16));
    assert_eq!(checked.run(&["check", "upper", "work", "-o", "ro"]).status.code(), Some(16));
}

/// What an ordinary user's daemon writes is marked in the other name space, and found to be.
#[test]
fn the_marker_tells_which_marks_count() {
    if !can_run("the_marker_tells_which_marks_count", &[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let checked = Checked::new();
    let mount = ["mount", "lower", "mnt", "--upper", "upper", "--work", "work", "-o", "userxattr"];
    assert!(checked.run(&mount).status.success());
    fs::remove_dir_all(checked.path("mnt/usr")).unwrap();
    fs::create_dir(checked.path("mnt/usr")).unwrap();
    assert!(checked.run(&["umount", "mnt"]).status.success());
    let found = checked.check(&["--lower", "lower"]);
    assert_eq!((found.code, found.above_notes().len()), (0, 0), "{found:?}");
    found.found("work/haosfs.userxattr", "note", "written-by-user", "left");
    fs::remove_file(checked.path("work/haosfs.userxattr")).unwrap();
    let found = checked.check(&["--lower", "lower", "--repair"]);
    found.found("upper/usr", "error", "unseen-opaque", "repaired");
    assert!(!checked.kernel_shows(&[]).contains(&"usr/bin".to_owned()));
}

#[test]
fn unreadable_directories_are_an_operational_error() {
    if !can_run("unreadable_directories_are_an_operational_error", &[Requirement::Root, Requirement::Tool("setpriv")]) {
        return;
    }
    let checked = Checked::new();
    checked.dirs(&["closed"]);
    fs::set_permissions(checked.upper("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let found = Run::from(checked.as_nobody(&["check", "--json", "upper", "work"]));
    assert_eq!(found.code, 8, "{found:?}");
    found.found("upper/closed", "error", "unchecked", "left");
    assert_eq!(fs::metadata(checked.upper("closed")).unwrap().mode() & 0o7777, 0);
}

/// Whatever features wrote it.
#[test]
fn sound_uppers_give_notes_at_most() {
    let needs = &[Requirement::Root, Requirement::Fuse, Requirement::Tool("mksquashfs")];
    if !can_run("sound_uppers_give_notes_at_most", needs) {
        return;
    }
    for (script, more) in scripts::SCRIPTS.iter().zip(FEATURES) {
        let kernel = [script.options, more].concat();
        sound(Driver::Kernel, script, &kernel, more.contains(&"volatile"));
        sound(Driver::Haosfs, script, script.options, false);
    }
    sound(Driver::Kernel, &scripts::SCRIPTS[0], &["redirect_dir=on", "index=on", "nfs_export=on"], false);
}

fn sound(driver: Driver, script: &scripts::Script, options: &[&str], dirty: bool) {
    for ground in [Ground::image(&[], scripts::grow), Ground::directory(scripts::grow)] {
        let mut union = ground.mount(driver, options);
        for step in script.steps {
            step(union.path());
        }
        union.unmount();
        let home = ground.home();
        let mut command = Command::new(env!("CARGO_BIN_EXE_haosfs"));
        command.arg("check").args(["upper", "work", "--json", "--lower"]).arg(ground.lower().path()).current_dir(&home);
        let found = Run::from(command.output().unwrap());
        let bad: Vec<_> = found.above_notes().into_iter().filter(|f| !(dirty && f["finding"] == "incompat")).collect();
        assert!(bad.is_empty(), "{} by {} with {options:?}: {bad:#?}", script.name, driver.name());
        assert_eq!(found.code, if dirty { 4 } else { 0 }, "{found:?}");
    }
}
