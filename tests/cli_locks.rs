//! Locks of strangers: flock(2) asks for no more than a descriptor that reads, and ordinary users can have that of much.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

#[path = "backends/kernel.rs"]
mod kernel;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kernel::Lacking;
use support::{Finished, HAOSFS, Scratch, can_run, has_tool, is_root, pack};

const OLD: &str = "haos-x86_64_7.1.0.0.squashfs";
const NEW: &str = "haos-x86_64_7.1.1.0.squashfs";
const NEEDS: &str = "needs root, setpriv and flock";

fn can_lock(test: &str) -> bool {
    can_run(test, is_root() && has_tool("setpriv") && has_tool("flock"), NEEDS)
}

/// An ordinary user, with a lock on all of some places that he may open. He ends with the test, which has the other end of his pipe.
struct Stranger {
    shell: Child,
    locked: Vec<PathBuf>,
}

impl Stranger {
    fn locks(how: &str, places: &[PathBuf]) -> Self {
        let script = "how=$1; shift
            for at; do test -r \"$at\" && exec {fd}<\"$at\" && flock $how -n $fd && echo \"$at\"; done
            echo; exec cat";
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", script, "bash", how]).args(places);
        let mut shell = setpriv.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines().map(Result::unwrap);
        let locked = lines.take_while(|line| !line.is_empty()).map(PathBuf::from).collect();
        Self { shell, locked }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// What stands below a directory, and itself.
fn all_of(place: &Path, found: &mut Vec<PathBuf>) {
    found.push(place.to_owned());
    if fs::symlink_metadata(place).is_ok_and(|found| found.is_dir()) {
        fs::read_dir(place).unwrap().for_each(|entry| all_of(&entry.unwrap().path(), found));
    }
}

/// With a limit: what waits for a lock for ever is killed, and has failed.
fn soon(lacking: Lacking, scratch: &Scratch, arguments: &[&str]) -> Finished {
    let mut timeout = Command::new("timeout");
    lacking.run(timeout.args(["20", HAOSFS]).args(arguments).current_dir(scratch.path("")).stdin(Stdio::null()))
}

/// An appliance on whose first attempt NEW runs, with a `trial/` of an earlier program, which everybody might open.
fn tried() -> Scratch {
    let scratch = Scratch::new();
    scratch.mkdir("haos/data");
    scratch.mkdir("haos/trial");
    fs::set_permissions(scratch.path("haos/trial"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(scratch.path("haos/haos.ini"), format!("[haos]\ndata_partition = ./data\nsystem_image = {OLD}\n")).unwrap();
    pack(&scratch.path("haos").join(OLD));
    pack(&scratch.path(NEW));
    scratch.haosfs(&["update", "stage", NEW, "--ini", "haos/haos.ini"]).succeeded();
    let count = |how: &str| scratch.path("haos/trial").join(format!("{NEW}+{how}"));
    fs::rename(count("3-0"), count("2-1")).unwrap();
    scratch
}

#[test]
fn no_stranger_keeps_a_trial_from_being_confirmed() {
    if !can_lock("no_stranger_keeps_a_trial_from_being_confirmed") {
        return;
    }
    for how in ["-s", "-x"] {
        let scratch = tried();
        let mut places = Vec::new();
        all_of(&scratch.path("haos"), &mut places);
        let stranger = Stranger::locks(how, &places);
        assert!(["haos", "haos/haos.ini"].iter().all(|at| stranger.locked.contains(&scratch.path(at))), "{:?}", stranger.locked);
        soon(Lacking::Nothing, &scratch, &["config", "set", "haos/haos.ini", "note.by=hand"]).succeeded();
        soon(Lacking::Nothing, &scratch, &["update", "confirm", "--unrecorded", "--ini", "haos/haos.ini"]).succeeded();
        let ini = fs::read_to_string(scratch.path("haos/haos.ini")).unwrap();
        assert!(ini.contains(&format!("system_image = {NEW}\n")) && ini.contains("by = hand"), "{ini}");
        let mode = fs::metadata(scratch.path("haos/trial")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        let status = [&scratch.public_haosfs(), "update", "status", "--ini", "haos/haos.ini"];
        scratch.as_nobody(&status).failed(1, "trial: Permission denied");
    }
}

/// A link in the place of `trial/` may lead anywhere.
#[test]
fn what_a_link_leads_to_keeps_its_mode() {
    let scratch = Scratch::new();
    scratch.mkdir("else");
    fs::write(scratch.path("haos.ini"), "[haos]\ndata_partition = ./data\nsystem_image = a\n").unwrap();
    std::os::unix::fs::symlink("else", scratch.path("trial")).unwrap();
    let mode = || fs::metadata(scratch.path("else")).unwrap().permissions().mode();
    let before = mode();
    scratch.haosfs(&["config", "set", "haos.ini", "system_image=b"]).succeeded();
    assert_eq!(mode(), before);
}

#[test]
fn no_stranger_keeps_a_mount_waiting() {
    if !can_lock("no_stranger_keeps_a_mount_waiting") {
        return;
    }
    for how in ["-s", "-x"] {
        let scratch = Scratch::with_image();
        // The first makes what is locked.
        for is_locked in [false, true] {
            let places = ["/run/haosfs", "/run/haosfs/locks"].map(PathBuf::from);
            let stranger = is_locked.then(|| Stranger::locks(how, &places));
            assert!(stranger.as_ref().is_none_or(|stranger| stranger.locked == places[..1]));
            let mount = ["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work", "--backend", "kernel"];
            soon(Lacking::Descriptors, &scratch, &mount).succeeded();
            scratch.umount("mnt");
        }
    }
}
