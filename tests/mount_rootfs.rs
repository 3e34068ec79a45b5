//! `-o rootfs`: what keeps a root file system's daemon alive. That systemd spares it, see <https://systemd.io/ROOT_STORAGE_DAEMONS>.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/sbin.rs"]
mod sbin;
#[path = "cli/support.rs"]
mod support;

use std::fs;

use sbin::{Helper, Sbin, possible};

/// A file of the daemon's own in /proc.
fn told(sbin: &Sbin, file: &str) -> String {
    let [pid] = sbin.daemons()[..] else { panic!("one daemon, not {:?}", sbin.daemons()) };
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// `CAP_SYS_RESOURCE` (capabilities(7)).
fn may_outrank() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    u64::from_str_radix(effective, 16).unwrap() >> 24 & 1 == 1
}

/// A number of /proc/PID/status, there in KiB.
fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_daemon_of_a_root_file_system_is_marked_and_spared() {
    if !possible("the_daemon_of_a_root_file_system_is_marked_and_spared") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    // Root of a container may lack the right.
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let expected = if may_outrank() { "-1000\n" } else { own.as_str() };
    for (script, name) in [
        ("mount -t haosfs $IMG $MNT -o $UP,rootfs", "@mount.haosfs\0"),
        ("haosfs mount $IMG $MNT -o $UP,rootfs", "@haosfs\0mount\0"),
        ("haosfs $IMG $MNT -o $UP,rootfs", "@haosfs\0"),
    ] {
        sbin.sh(script).succeeded();
        let line = told(&sbin, "cmdline");
        assert!(line.starts_with(name), "{line:?}");
        assert_eq!(told(&sbin, "oom_score_adj"), expected);
        assert_eq!(sbin.sh("cat $MNT/hello && touch $MNT/new && umount mnt").succeeded().stdout, "hello\n");
        sbin.is_clean();
    }
}

#[test]
fn its_memory_is_locked_but_not_the_image() {
    if !possible("its_memory_is_locked_but_not_the_image") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    // Not compressed, so that it is read from the map.
    sbin.sh("head -c 50M /dev/urandom > outside/big && mksquashfs outside big.sqfs -quiet -no-progress -noD").succeeded();
    sbin.sh("mount -t haosfs $D/big.sqfs $MNT -o rootfs && cmp $MNT/big outside/big").succeeded();
    let status = told(&sbin, "status");
    assert!(kibibytes(&status, "VmLck") > 0, "{status}");
    let maps = told(&sbin, "smaps");
    let image = maps.split("big.sqfs\n").nth(1).unwrap();
    let flags = image.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
    assert!(!flags.split(' ').any(|flag| flag == "lo"), "{flags}");
    // Its heap is.
    let heap = maps.split("[heap]\n").nth(1).unwrap().lines().find(|line| line.starts_with("VmFlags:")).unwrap();
    assert!(heap.split(' ').any(|flag| flag == "lo"), "{heap}");
    sbin.sh("umount mnt").succeeded();
    sbin.is_clean();
}

/// An ordinary user may do none of it, and mounts all the same.
#[test]
fn what_is_not_permitted_is_only_a_warning() {
    let possible_here = possible("what_is_not_permitted_is_only_a_warning");
    let tools = support::has_tool("setpriv") && support::has_tool("fusermount3");
    if !possible_here || !support::can_run("what_is_not_permitted_is_only_a_warning", tools, "needs setpriv and fusermount3") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    sbin.give_to_nobody();
    let log =
        sbin.sh_as_nobody("haosfs mount $IMG $MNT -o rootfs --log upper/log && cat upper/log && umount $MNT").succeeded().stdout;
    for consequence in ["may be chosen when memory runs out", "may be paged out", "may wait for its own file system"] {
        assert!(log.contains(&format!("option rootfs: the daemon {consequence}")), "{log}");
    }
    sbin.is_clean();
}
