//! Mounting as an ordinary user: through fusermount3, and in a user namespace.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::fs;

use support::{Scratch, can_run, has_tool, has_user_namespaces, is_root, wait_until};

/// Whether root has given everyone /dev/fuse, as distributions do.
fn device_is_open() -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata("/dev/fuse").is_ok_and(|m| m.permissions().mode() & 0o666 == 0o666)
}

#[test]
fn fusermount3_mounts_for_an_ordinary_user() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open();
    if !can_run("fusermount3_mounts_for_an_ordinary_user", possible, "needs root, fusermount3, setpriv and /dev/fuse 0666") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.give_to_nobody();
    for _ in 0..5 {
        scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work"]).succeeded();
        let line = scratch.mountinfo("mnt").unwrap();
        for part in ["nosuid,nodev", " - fuse.haosfs ", "user_id=65534", "default_permissions"] {
            assert!(line.contains(part), "{part:?} not in {line:?}");
        }
        assert!(!line.contains("allow_other"), "{line:?}");
        assert_eq!(scratch.as_nobody(&["cat", "mnt/hello"]).succeeded().stdout, "hello\n");
        scratch.haosfs_as_nobody(&["umount", "mnt"]).succeeded();
        assert_eq!(scratch.mountinfo("mnt"), None);
    }
}

#[test]
fn a_user_s_mount_in_use_is_busy_unless_detached() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open();
    if !can_run("a_user_s_mount_in_use_is_busy_unless_detached", possible, "needs root, fusermount3, setpriv and /dev/fuse 0666")
    {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.give_to_nobody();
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt"]).succeeded();
    let haosfs = scratch.public_haosfs();
    let script = format!("exec 5<mnt/hello; {haosfs} umount mnt; echo $?; {haosfs} umount -l mnt; echo $?; cat <&5");
    let finished = scratch.as_nobody(&["sh", "-c", &script]);
    assert_eq!(finished.stdout, "32\n0\nhello\n", "{finished:?}");
    assert!(finished.stderr.contains("mnt is busy: sh (pid "), "{finished:?}");
    assert_eq!(scratch.mountinfo("mnt"), None);
}

#[test]
fn a_signal_unmounts_through_fusermount3() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open();
    if !can_run("a_signal_unmounts_through_fusermount3", possible, "needs root, fusermount3, setpriv and /dev/fuse 0666") {
        return;
    }
    let scratch = Scratch::with_image();
    let mnt = scratch.path("mnt").into_os_string().into_string().unwrap();
    scratch.give_to_nobody();
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", &mnt]).succeeded();
    let pid = rustix::process::Pid::from_raw(scratch.daemons()[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_until("the daemon ends", || scratch.daemons().is_empty());
    assert_eq!(scratch.mountinfo("mnt"), None);
}

#[test]
fn a_user_namespace_needs_no_helper() {
    let possible = has_user_namespaces() && device_is_open();
    if !can_run("a_user_namespace_needs_no_helper", possible, "needs root, user namespaces and /dev/fuse 0666") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.give_to_nobody();
    let haosfs = scratch.public_haosfs();
    let script = format!(
        "set -e\n{haosfs} mount image.sqfs mnt --upper upper --work work\ncat mnt/hello\n\
         grep -c \" $PWD/mnt .* - fuse.haosfs \" /proc/self/mountinfo\n{haosfs} umount mnt\n! grep \" $PWD/mnt \" /proc/self/mountinfo"
    );
    let finished = scratch.as_nobody(&["unshare", "-Urm", "sh", "-c", &script]).succeeded();
    assert_eq!(finished.stdout, "hello\n1\n");
}
