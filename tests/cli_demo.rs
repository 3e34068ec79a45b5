//! `haosfs demo` succeeds for root and for ordinary users, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::fs;

use support::{Finished, Scratch, can_run, has_tool, has_user_namespaces, is_root};

#[track_caller]
fn check(scratch: &Scratch, finished: Finished) {
    let finished = finished.succeeded();
    for words in ["whiteout: hides the image's file", "living-room", "checks passed; nothing is left behind."] {
        assert!(finished.stdout.contains(words), "{words:?} not in {}", finished.stdout);
    }
    let left: Vec<_> = fs::read_dir(scratch.path("tmp")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(scratch.path("tmp").to_str().unwrap()));
}

/// Runs the demo under `prefix`, with the scratch directory's `tmp` for temporary files.
fn demo(prefix: &str) -> (Scratch, Finished) {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    scratch.mkdir("tmp");
    fs::set_permissions(scratch.path("tmp"), PermissionsExt::from_mode(0o777)).unwrap();
    let tmp = scratch.path("tmp");
    let script = format!("export HOME={0} TMPDIR={0}; exec {prefix} {1} demo", tmp.display(), scratch.public_haosfs());
    let finished = scratch.run("sh", &["-c", &script]);
    (scratch, finished)
}

#[test]
fn the_demo_runs_as_whoever_runs_the_tests() {
    let (scratch, finished) = demo("");
    check(&scratch, finished);
}

const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

#[test]
fn the_demo_runs_as_an_ordinary_user() {
    let possible = is_root() && has_tool("setpriv") && has_tool("fusermount3");
    if !can_run("the_demo_runs_as_an_ordinary_user", possible, "needs root, setpriv and fusermount3") {
        return;
    }
    let (scratch, finished) = demo(AS_NOBODY);
    check(&scratch, finished);
}

#[test]
fn the_demo_makes_do_without_fusermount3() {
    let possible = has_user_namespaces() && has_tool("fusermount3");
    if !can_run("the_demo_makes_do_without_fusermount3", possible, "needs root, user namespaces and fusermount3") {
        return;
    }
    let hide = "mount --bind /dev/null \"$(readlink -f \"$(command -v fusermount3)\")\"";
    let (scratch, finished) = demo(&format!("unshare -m sh -ec '{hide}; exec {AS_NOBODY} \"$@\"' -"));
    assert!(finished.stdout.contains("user namespace of its own"), "{finished:?}");
    check(&scratch, finished);
}

#[test]
fn a_demo_that_nobody_reads_to_its_end_has_failed() {
    let scratch = Scratch::new();
    let script = format!("{} demo 2>/dev/null | true; echo ${{PIPESTATUS[0]}}", support::HAOSFS);
    assert_eq!(scratch.run("bash", &["-c", &script]).succeeded().stdout, "1\n");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(scratch.path("").to_str().unwrap()));
}
