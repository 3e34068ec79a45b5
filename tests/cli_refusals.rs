//! What stands in the way of a mount is named, with the remedy: exit 32 and one line.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use support::{Scratch, can_run, has_tool, is_root};

#[test]
fn what_must_exist_is_missed_by_name() {
    let scratch = Scratch::with_image();
    fs::write(scratch.path("file"), "no image").unwrap();
    for (arguments, words) in [
        (&["mount", "image.sqfs", "nowhere"][..], "mountpoint nowhere does not exist; create it with `mkdir nowhere`"),
        (&["mount", "image.sqfs", "file"], "mountpoint file is not a directory"),
        (&["mount", "nothing.sqfs", "mnt"], "lower layer nothing.sqfs does not exist"),
        (&["mount", "/dev/null", "mnt"], "lower layer /dev/null is neither an image nor a directory"),
        (&["mount", "image.sqfs", "mnt", "--lower", "gone"], "lower layer gone does not exist"),
        (&["mount", "image.sqfs", "mnt", "--upper", "gone", "--work", "work"], "upper directory gone does not exist"),
        (&["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "gone"], "work directory gone does not exist"),
        (&["mount", "image.sqfs", "mnt", "--upper", "file", "--work", "work"], "upper directory file is not a directory"),
        (&["mount", "upper", "mnt", "--offset", "4096"], "is a directory"),
        (&["mount", "image.sqfs", "mnt", "--log", "gone/log"], "gone/log: No such file or directory"),
    ] {
        scratch.haosfs(arguments).failed(32, words);
    }
}

#[test]
fn directories_must_lie_apart() {
    let scratch = Scratch::with_image();
    ["upper/work", "work/upper", "mnt/upper", "upper/mnt", "lower/mnt", "lower/upper"].into_iter().for_each(|d| scratch.mkdir(d));
    for (arguments, words) in [
        (["image.sqfs", "mnt", "upper", "upper/work"], "lies inside the upper directory"),
        (["image.sqfs", "mnt", "work/upper", "work"], "lies inside the work directory"),
        (["image.sqfs", "mnt", "upper", "upper"], "is also the work directory"),
        (["image.sqfs", "mnt", "mnt/upper", "work"], "lies inside the mountpoint"),
        (["image.sqfs", "upper/mnt", "upper", "work"], "lies inside the upper directory"),
        (["lower", "lower/mnt", "upper", "work"], "lies inside the lower directory"),
        (["lower", "mnt", "lower/upper", "work"], "lies inside the lower directory"),
    ] {
        let [image, mnt, upper, work] = arguments;
        scratch.haosfs(&["mount", image, mnt, "--upper", upper, "--work", work]).failed(32, words);
    }
}

#[test]
fn work_must_be_on_the_upper_s_file_system() {
    let scratch = Scratch::with_image();
    let other = Path::new("/dev/shm");
    let differs = other.metadata().is_ok_and(|m| m.dev() != scratch.path("upper").metadata().unwrap().dev());
    if !can_run("work_must_be_on_the_upper_s_file_system", differs, "needs /dev/shm apart from the temporary directory") {
        return;
    }
    let work = tempfile::tempdir_in(other).unwrap();
    let arguments = ["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", work.path().to_str().unwrap()];
    scratch.haosfs(&arguments).failed(32, "is on another file system than upper directory upper");
}

#[test]
fn what_is_no_image_is_refused() {
    if !can_run("what_is_no_image_is_refused", is_root(), "needs root") {
        return;
    }
    let scratch = Scratch::with_image();
    fs::write(scratch.path("text"), "not an image at all\n".repeat(100)).unwrap();
    scratch.haosfs(&["mount", "text", "mnt"]).failed(32, "/text: ");
    scratch.haosfs(&["mount", "--foreground", "text", "mnt"]).failed(32, "/text: ");
    assert_eq!(scratch.mountinfo("mnt"), None);
}

#[test]
fn what_is_in_use_is_not_used_twice() {
    if !can_run("what_is_in_use_is_not_used_twice", is_root(), "needs root") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("mnt2");
    scratch.haosfs(&["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work"]).succeeded();
    scratch.haosfs(&["mount", "image.sqfs", "mnt"]).failed(32, "mountpoint mnt is busy: it is already a haosfs mount of /");
    scratch.haosfs(&["mount", "image.sqfs", "mnt2", "--upper", "upper", "--work", "work"]).failed(32, "in use by another mount");
    assert_eq!(scratch.mountinfo("mnt2"), None);
    scratch.umount("mnt");
    scratch.haosfs(&["umount", "mnt"]).failed(32, "mnt is not a haosfs mount");
    scratch.haosfs(&["umount", "nowhere"]).failed(32, "umount nowhere: ");
}

/// Not for a file system that lacks something.
#[test]
fn a_full_upper_is_called_full() {
    if !can_run("a_full_upper_is_called_full", is_root(), "needs root") {
        return;
    }
    let scratch = Scratch::with_image();
    let script = "mount -t tmpfs -o nr_inodes=40 none disk && mkdir disk/upper disk/work disk/work/work && \
                  for n in $(seq 40); do touch disk/$n || break; done 2>/dev/null; \
                  $HAOSFS mount image.sqfs mnt --backend fuse --upper disk/upper --work disk/work";
    scratch.mkdir("disk");
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).env("HAOSFS", support::HAOSFS);
    let finished = support::Finished::from(command.current_dir(scratch.path("")).output().unwrap());
    finished.failed(
        32,
        "the file system of the upper is full (No space left on device (os error 28)): make room, or mount with -o ro",
    );
}

/// Runs `mount` in a mount namespace of its own after `preparation` has changed /dev or /usr there.
fn mount_after(scratch: &Scratch, preparation: &str, user: &str) -> support::Finished {
    let haosfs = scratch.public_haosfs();
    let script = format!("{preparation}\nexec {user} {haosfs} mount image.sqfs mnt");
    scratch.run("unshare", &["-m", "sh", "-e", "-c", &script])
}

const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

#[test]
fn a_missing_or_forbidden_device_is_explained() {
    if !can_run("a_missing_or_forbidden_device_is_explained", is_root() && has_tool("unshare"), "needs root and unshare") {
        return;
    }
    let scratch = Scratch::with_image();
    let empty = "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3";
    mount_after(&scratch, empty, "").failed(32, "/dev/fuse is missing: load the driver with `modprobe fuse`");
    mount_after(&scratch, empty, AS_NOBODY).failed(32, "/dev/fuse is missing: ask root to run `modprobe fuse`");
    let forbidden = format!("{empty}; mknod -m 600 /dev/fuse c 10 229");
    let finished = mount_after(&scratch, &forbidden, AS_NOBODY);
    for words in ["as uid 65534", "chmod 0666 /dev/fuse", "udev rule", "the device's group"] {
        assert!(finished.stderr.contains(words), "{words:?} not in {finished:?}");
    }
    finished.failed(32, "no permission to open /dev/fuse");
}

#[test]
fn a_missing_fusermount3_is_explained() {
    let possible = is_root() && has_tool("unshare") && has_tool("fusermount3");
    if !can_run("a_missing_fusermount3_is_explained", possible, "needs root, unshare and fusermount3") {
        return;
    }
    let scratch = Scratch::with_image();
    let hide = "mount --bind /dev/null \"$(readlink -f \"$(command -v fusermount3)\")\"";
    mount_after(&scratch, hide, AS_NOBODY).failed(32, "fusermount3 is missing: install the package fuse3");
}

#[test]
fn fusermount3_s_own_words_are_passed_on() {
    let possible = is_root() && has_tool("fusermount3");
    if !can_run("fusermount3_s_own_words_are_passed_on", possible, "needs root and fusermount3") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("roots");
    scratch.haosfs_as_nobody(&["umount", "mnt"]).failed(32, "mnt is not a haosfs mount");
    let words = "fusermount3: user has no write access to mountpoint";
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", "roots"]).failed(32, words);
}

#[test]
fn a_dead_mount_is_named_and_can_be_cleared() {
    if !can_run("a_dead_mount_is_named_and_can_be_cleared", is_root(), "needs root") {
        return;
    }
    let scratch = Scratch::with_image();
    let [image, mnt] = ["image.sqfs", "mnt"].map(|n| scratch.path(n).into_os_string().into_string().unwrap());
    scratch.haosfs(&["mount", &image, &mnt]).succeeded();
    let pid = rustix::process::Pid::from_raw(scratch.daemons()[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    support::wait_until("the mount is dead", || fs::metadata(scratch.path("mnt")).is_err());
    scratch.haosfs(&["mount", "image.sqfs", "mnt"]).failed(32, "clear it with `haosfs umount -l mnt`");
    scratch.haosfs(&["umount", "-l", "mnt"]).succeeded();
    assert_eq!(scratch.mountinfo("mnt"), None);
}
