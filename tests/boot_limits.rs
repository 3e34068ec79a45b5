//! `haosfs boot` where something has come to its limit: the inodes of a data partition, the depth of an upper.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[path = "appliance/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "boot/power.rs"]
#[allow(dead_code)]
mod power;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs::{self, File};
use std::path::Path;

use haosfs::update::state::State;
use power::{Power, possible};
use rustix::fs::{Mode, OFlags};

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// Somebody has to take files away there, though there is room.
#[test]
fn a_data_partition_without_inodes_is_booted() {
    if !possible("a_data_partition_without_inodes_is_booted") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    for turn in 0..2 {
        power.machine.on_data(|data| {
            let filled = (0..).try_for_each(|n| File::create(data.join(format!("empty.{turn}.{n}"))).map(drop));
            assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
            let free = rustix::fs::statvfs(data).unwrap();
            assert!(free.f_ffree == 0 && free.f_bavail * free.f_frsize > 64 << 20, "{} inodes", free.f_ffree);
        });
        let full = power.on("$BOOT && cat $MNT/mine; cat $CONSOLE");
        assert!(full.stdout.contains("\"mode\":\"system\"") && full.stdout.contains("\none\n"), "{turn}: {full:?}");
        power.machine.on_data(|data| {
            let kept = fs::read_dir(data.join("haosfs/ballast-inodes")).unwrap().count();
            assert!(kept > 16 && data.join("haosfs/ballast").exists(), "{turn}: {kept}");
            fs::remove_file(data.join(format!("empty.{turn}.0"))).unwrap();
        });
    }
    // A small update finds them, too.
    power.stage();
    let tried = power.on("$BOOT && cat $MNT/mine").succeeded().stdout;
    assert!(tried.contains("\"mode\":\"trial\"") && tried.ends_with("\none\n"), "{tried}");
    assert!(matches!(power.state(), State::Trying { left: 2, .. }), "{:?}", power.state());
}

/// A trial may fill the disk before it is confirmed: what is confirmed then is finished by the next boot.
#[test]
fn what_is_confirmed_on_a_full_disk_is_booted() {
    if !possible("what_is_confirmed_on_a_full_disk_is_booted") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    power.stage();
    // As root, who may have the reserve as well; to the last block, and the last inode.
    let fill = "for bs in 1M 4k 1k; do dd if=/dev/zero of=$MNT/fill.$bs bs=$bs 2>$CONSOLE; sync; done; \
                n=0; while true 2>$CONSOLE >$MNT/empty.$n; do n=$((n+1)); done";
    let confirmed = power.on(&format!("$BOOT && echo two >$MNT/mine; {fill}; $HAOSFS update confirm --ini $INI"));
    assert!(confirmed.stdout.contains("\"mode\":\"trial\""), "{confirmed:?}");
    assert!(confirmed.code != Some(0) && confirmed.stderr.contains("No space left on device"), "{confirmed:?}");
    for turn in 0..2 {
        let next = power.on("$BOOT && cat $MNT/etc/version $MNT/mine");
        assert!(next.stdout.contains("\"mode\":\"system\"") && next.stdout.ends_with(&format!("{NEW}two\n")), "{turn}: {next:?}");
        assert!(matches!(power.state(), State::Stable { .. }), "{turn}: {:?}", power.state());
    }
}

/// What cannot be copied whole is not begun: at each boot it would take as long again.
#[test]
fn a_copy_without_room_is_not_begun() {
    if !possible("a_copy_without_room_is_not_begun") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && head -c 150M /dev/urandom >$MNT/large && $HAOSFS umount $MNT").succeeded();
    power.machine.on_data(|data| {
        let fill = File::create(data.join("fill")).unwrap();
        rustix::fs::fallocate(&fill, rustix::fs::FallocateFlags::empty(), 0, 100 << 20).unwrap();
    });
    power.stage();
    let journal = power.machine.scratch.path("journal");
    for turn in 0..4 {
        fs::write(&journal, "").unwrap();
        let full = power.on(&format!("HAOSFS_FAULT=eio:0:{} $BOOT", journal.display())).succeeded().stdout;
        assert!(full.contains("\"mode\":\"system\"") && full.contains("large: No space left on device"), "{turn}: {full}");
        let made = fs::read_to_string(&journal).unwrap();
        assert!(made.contains("mkdir\n") && !made.contains("copy_file_range\n"), "{turn}: {made}");
        assert!(matches!(power.state(), State::Staged { left: 3, .. }), "{turn}: {:?}", power.state());
    }
    power.machine.on_data(|data| fs::remove_file(data.join("fill")).unwrap());
    assert!(power.on("$BOOT").succeeded().stdout.contains("\"mode\":\"trial\""));
}

/// Makes directories inside each other, with a file in the last.
fn nest(at: &Path, depth: usize) {
    let mut at = File::open(at).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = open_in(&at, "d").unwrap();
    }
    rustix::fs::symlinkat("leaf", &at, "leaf").unwrap();
}

fn open_in(at: &File, name: &str) -> rustix::io::Result<File> {
    rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).map(File::from)
}

fn leaf_depth(at: &Path) -> Option<usize> {
    let (mut at, mut depth) = (File::open(at).unwrap(), 0);
    while let Ok(inner) = open_in(&at, "d") {
        (at, depth) = (inner, depth + 1);
    }
    rustix::fs::readlinkat(&at, "leaf", Vec::new()).ok().map(|_| depth)
}

/// Whatever somebody has nested, an update takes it over, or says where it is.
#[test]
fn an_update_takes_a_deep_upper_over() {
    if !possible("an_update_takes_a_deep_upper_over") {
        return;
    }
    for fs_name in ["ext4", "btrfs"] {
        let power = Power::with(fs_name);
        power.on("$BOOT && mkdir -p $MNT/home/a && $HAOSFS umount $MNT").succeeded();
        power.machine.on_data(|data| nest(&data.join("haosfs/uppers/1/upper/home/a"), 2000));
        power.stage();
        let tried = power.on("$BOOT").succeeded().stdout;
        assert!(tried.contains("\"mode\":\"trial\""), "{fs_name}: {tried}");
        power.machine.on_data(|data| {
            assert_eq!(leaf_depth(&data.join("haosfs/uppers/2/upper/home/a")), Some(2000), "{fs_name}");
            nest(&data.join("haosfs/uppers/1/upper/home"), 3000);
        });
        power.on("$HAOSFS update fail --reason again --ini $INI 2>/dev/null && $BOOT && $HAOSFS umount $MNT").succeeded();
        power.machine.on_data(|data| assert!(!data.join("haosfs/uppers/2").exists(), "{fs_name}"));
        power.stage();
        let refused = power.on("$BOOT").succeeded().stdout;
        assert!(
            refused.contains("more than 2048 directories are nested inside each other below home/d/d/d/"),
            "{fs_name}: {refused}"
        );
        power.machine.on_data(|data| {
            let uppers = data.join("haosfs/uppers");
            assert!(!uppers.join(".unfinished").exists() && !uppers.join("3").exists(), "{fs_name}");
            assert_eq!(leaf_depth(&uppers.join("1/upper/home")), Some(3000), "{fs_name}");
        });
    }
}
