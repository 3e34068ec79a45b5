//! `haosfs doctor` says what would be used, and that is what is used.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "backends/kernel.rs"]
mod kernel;
#[path = "cli/support.rs"]
mod support;

use std::process::Command;

use kernel::Lacking;
use serde_json::Value;
use support::{Scratch, can_run, has_tool, has_user_namespaces, is_root};

/// A user, by the words that make one of root.
const NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// What `doctor` announces for a haos.ini and what `mount -v` takes, each with its reason.
fn announced_and_taken(scratch: &Scratch, lacking: Lacking, user: &[&str]) -> [(String, String); 2] {
    let haosfs = scratch.public_haosfs();
    let script = format!(
        "{haosfs} doctor --json && {haosfs} mount -v -o backend=auto image.sqfs mnt && {haosfs} status --json mnt && \
         {haosfs} umount mnt"
    );
    let words: Vec<&str> = user.iter().copied().chain(["sh", "-c", &script]).collect();
    let command = &mut Command::new(words[0]);
    command.args(&words[1..]).current_dir(scratch.path("")).env("XDG_RUNTIME_DIR", scratch.path("run"));
    let finished = lacking.run(command).succeeded();
    let [told, chosen, status] = finished.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{finished:?}") };
    let told: Value = serde_json::from_str(told).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let announced = (text(&told["haos_ini"]["backend"]), text(&told["haos_ini"]["reason"]));
    let status: Value = serde_json::from_str(status).unwrap();
    let taken = (text(&status["backend"]), text(&status["reason"]));
    assert_eq!(chosen, format!("haosfs: backend {}: {}", taken.0, taken.1));
    [announced, taken]
}

fn announces(scratch: &Scratch, lacking: Lacking, user: &[&str], backend: &str) {
    let [announced, taken] = announced_and_taken(scratch, lacking, user);
    assert_eq!((announced.0.as_str(), taken.0.as_str()), (backend, backend), "{announced:?} {taken:?}");
    if lacking == Lacking::Nothing {
        assert_eq!(announced, taken);
    }
}

#[test]
fn root_is_told_what_is_used() {
    if !can_run("root_is_told_what_is_used", is_root(), "needs root") {
        return;
    }
    let scratch = Scratch::with_image();
    for lacking in [Lacking::Nothing, Lacking::Descriptors, Lacking::MountApi] {
        announces(&scratch, lacking, &["env"], "kernel");
    }
    // A kernel with mount(2) only, of which nobody says that it has overlayfs.
    let listed = std::fs::read_to_string("/proc/filesystems").unwrap().replace("\toverlay\n", "\tnothing\n");
    std::fs::write(scratch.path("filesystems"), listed).unwrap();
    let hidden = "mount --bind filesystems /proc/filesystems && exec \"$@\"";
    announces(&scratch, Lacking::MountApi, &["unshare", "--mount", "sh", "-c", hidden, "sh"], "fuse");
}

#[test]
fn an_ordinary_user_is_told_what_is_used() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv");
    if !can_run("an_ordinary_user_is_told_what_is_used", possible, "needs root, fusermount3 and setpriv") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("run");
    scratch.give_to_nobody();
    announces(&scratch, Lacking::Nothing, &NOBODY, "fuse");
}

#[test]
fn root_of_a_user_namespace_is_told_what_is_used() {
    if !can_run("root_of_a_user_namespace_is_told_what_is_used", has_user_namespaces(), "needs root and user namespaces") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("run");
    scratch.give_to_nobody();
    let words: Vec<&str> = NOBODY.into_iter().chain(["unshare", "-Urm"]).collect();
    announces(&scratch, Lacking::Nothing, &words, "fuse");
}

#[test]
fn a_source_that_cannot_be_mounted_is_a_failure() {
    let scratch = Scratch::with_image();
    let finished = scratch.haosfs(&["doctor", "nothing.sqfs"]);
    assert!(finished.stdout.contains("haos.ini      "), "{finished:?}");
    finished.failed(1, "nothing.sqfs does not exist");
    let finished = scratch.haosfs(&["doctor", "image.sqfs", "-o", "upperdir=upper,workdir=work"]).succeeded();
    assert!(finished.stdout.contains("  backend     fuse: this is the default"), "{finished:?}");
    assert!(finished.stdout.contains("RENAME_EXCHANGE yes"), "{finished:?}");
    assert_eq!(std::fs::read_dir(scratch.path("work")).unwrap().count(), 0);
}
