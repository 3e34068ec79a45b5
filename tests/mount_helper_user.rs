//! mount(8) for ordinary users, mount.fuse3(8), and how a mount begins and is broken off.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/sbin.rs"]
mod sbin;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sbin::{Helper, Sbin, possible};
use support::{can_run, has_tool, wait_until};

fn device_is_open() -> bool {
    fs::metadata("/dev/fuse").is_ok_and(|m| m.permissions().mode() & 0o666 == 0o666)
}

fn is_set_user_id(program: &str) -> bool {
    fs::metadata(program).is_ok_and(|m| m.permissions().mode() & 0o4000 != 0)
}

fn users_may_mount(test: &str) -> bool {
    let possible = has_tool("fusermount3") && has_tool("setpriv") && device_is_open() && is_set_user_id("/usr/bin/mount");
    possible_for(test, possible, "needs fusermount3, setpriv, /dev/fuse 0666 and mount with set-user-id")
}

fn possible_for(test: &str, is_so: bool, reason: &str) -> bool {
    possible(test) && can_run(test, is_so, reason)
}

/// mount(8) gives up root before it calls the helper, which therefore mounts by fusermount3.
#[test]
fn fstab_lets_users_mount() {
    if !users_may_mount("fstab_lets_users_mount") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "upper", "work"].map(|name| sbin.path(name));
    sbin.give_to_nobody();
    for option in ["user", "users"] {
        sbin.fstab(&format!("{image} {mnt} haosfs noauto,{option},upperdir={upper},workdir={work} 0 0\n"));
        sbin.sh_as_nobody("mount $MNT").succeeded();
        let line = sbin.mountinfo("mnt").unwrap();
        for part in ["nosuid,nodev,noexec,", " - fuse.haosfs ", "user_id=65534"] {
            assert!(line.contains(part), "{part:?} not in {line:?}");
        }
        assert_eq!(sbin.sh_as_nobody("cat $MNT/hello && touch $MNT/new && ls upper").succeeded().stdout, "hello\nnew\n");
        sbin.sh_as_nobody("umount $MNT").succeeded();
        sbin.is_clean();
        fs::remove_file(sbin.scratch.path("upper/new")).unwrap();
    }
}

#[test]
fn mount_fuse3_finds_haosfs() {
    let found = ["/sbin/mount.fuse", "/sbin/mount.fuse3"].into_iter().all(|path| fs::metadata(path).is_ok());
    if !possible_for("mount_fuse3_finds_haosfs", found, "needs mount.fuse and mount.fuse3") {
        return;
    }
    let sbin = Sbin::new(Helper::None);
    sbin.sh("mount -t fuse.haosfs $IMG $MNT -o $UP").succeeded();
    assert!(sbin.mountinfo("mnt").unwrap().contains(" rw,"));
    sbin.sh("haosfs umount $MNT").succeeded();
    sbin.is_clean();
}

/// Then the union is mounted before haosfs runs, which is given the device as `/dev/fd/N` and has no privilege at all.
#[test]
fn mount_fuse3_may_drop_privileges() {
    let found = fs::metadata("/sbin/mount.fuse3").is_ok();
    if !possible_for("mount_fuse3_may_drop_privileges", found, "needs mount.fuse3") {
        return;
    }
    let sbin = Sbin::new(Helper::None);
    let mount = "/sbin/mount.fuse3 haosfs#$IMG $MNT -o setuid=nobody,drop_privileges,ro,allow_other";
    sbin.sh(mount).succeeded();
    let line = sbin.mountinfo("mnt").unwrap();
    assert!(line.contains(" - fuse.haosfs ") && line.contains("allow_other"), "{line}");
    assert_eq!(sbin.sh("cat $MNT/hello").succeeded().stdout, "hello\n");
    let status = fs::read_to_string(format!("/proc/{}/status", sbin.daemons()[0])).unwrap();
    for line in ["Uid:\t65534\t65534", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line:?} not in {status}");
    }
    sbin.sh("umount $MNT").succeeded();
    sbin.is_clean();
    sbin.sh("haosfs $IMG /dev/fd/7").failed(32, "take over /dev/fd/7: Bad file descriptor");
    sbin.sh("haosfs $IMG /dev/fd/7 7</dev/null").failed(32, "this descriptor is not /dev/fuse");
}

/// An image on a file system that does not answer keeps the daemon from being ready, and the helper from ending.
#[test]
fn a_mount_is_broken_off_by_a_signal() {
    if !possible_for("a_mount_is_broken_off_by_a_signal", has_tool("timeout"), "needs timeout") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    sbin.sh("mkdir slow && cp $IMG slow/inner && haosfs mount $D/slow $D/outside && stat outside/inner").succeeded();
    let [slow] = sbin.daemons()[..] else { panic!("one daemon, not {:?}", sbin.daemons()) };
    let script =
        "timeout --preserve-status -s INT 1 /sbin/mount.haosfs $D/outside/inner $MNT; code=$?; kill -CONT PID; exit $code";
    // A signal is on its way before it has come.
    let stop = format!("kill -STOP {slow}; until grep -q '^State:.T' /proc/{slow}/task/*/status; do sleep 0.01; done");
    sbin.sh(&format!("{stop}; {}", script.replace("PID", &slow.to_string()))).failed(8, "Interrupted system call");
    // The daemon finds out that nobody waits for it any more.
    wait_until("the second daemon ends", || sbin.daemons() == [slow]);
    assert_eq!(sbin.mountinfo("mnt"), None);
    sbin.sh("haosfs umount $D/outside").succeeded();
    sbin.is_clean();
}

/// systemd finds all processes of a mount unit in its cgroup, and the daemon is one of them.
#[test]
fn the_daemon_stays_in_its_cgroup() {
    if !possible("the_daemon_stays_in_its_cgroup") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let own = sbin.sh("cat /proc/self/cgroup; mount -t haosfs $IMG $MNT").succeeded().stdout;
    let daemon = fs::read_to_string(format!("/proc/{}/cgroup", sbin.daemons()[0])).unwrap();
    assert_eq!(daemon, own);
    sbin.sh("umount $MNT").succeeded();
    sbin.is_clean();
}
