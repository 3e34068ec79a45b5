//! The scripts for initramfs-tools and dracut on a machine with a disk, in namespaces of its own; the makers' own functions are stood in
//! for. `machine_full` has archives that they make themselves.

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
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use disk::run;
use power::{Power, possible};
use support::Finished;

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// What both makers have, and what tests look at.
const COMMON: &str = "haosfs() { \"$HAOSFS\" \"$@\" >&2; }\nmodprobe() { :; }\n";

/// As of initramfs-tools 0.142 (scripts/functions, scripts/local), and its init once `boot=haosfs` was read.
const INITRAMFS_TOOLS: &str = r#"
    panic() { echo "PANIC $*"; exit 9; }
    local_top() { :; }
    local_premount() { :; }
    local_device_setup() { DEV=$1; }
    get_fstype() { blkid -o value -s TYPE "$1"; }
    checkfs() { until fsck -a -t "$3" "$1" >&2; [ $(($? & 4)) = 0 ]; do panic "The $2 filesystem on $1 requires a manual fsck"; done; }
    ROOT=$DISK rootmnt=$MNT init=/sbin/init
    . $PACKAGING/initramfs-tools/scripts/haosfs && mountroot && echo "init $init"
"#;

/// As of dracut 059 (dracut-lib.sh), and its first program once the root was found.
const DRACUT: &str = r#"
    mount -t tmpfs none /etc && mkdir /etc/cmdline.d
    die() { echo "PANIC $*"; exit 9; }
    getargbool() { return $((1 - $1)); }
    fsck_ask_err() { echo "PANIC: a shell is opened"; exit 9; }
    fsck_single() { fsck $4 "$1" >&2; ret=$?; [ $ret -lt 4 ] || fsck_ask_err; return $ret; }
    warn() { echo "$*" >>/dev/kmsg; }
    getarg() { found=; for word in $(cat /proc/cmdline); do case $word in "$1"*) found=${word#*=} ;; esac; done; echo $found; [ "$found" ]; }
    ismounted() { mountpoint -q "$1"; }
    NEWROOT=$MNT root=haosfs:$DISK
    . $PACKAGING/dracut/90haosfs/mount-haosfs.sh && cat /etc/cmdline.d/* 2>/dev/null; echo "init ${HAOSFS_INIT:-/sbin/init}"
"#;

const MAKERS: [(&str, &str); 2] = [("initramfs-tools", INITRAMFS_TOOLS), ("dracut", DRACUT)];

/// A machine whose system partition is mounted by the scripts alone.
fn machine() -> Power {
    let power = Power::with("ext4");
    run(Command::new("umount").arg(power.machine.scratch.path("system")));
    wait_for(&power.machine.disk.partition(1));
    power
}

/// Starts it by a maker's script, and then has a look.
fn start(power: &Power, before: &str, (name, maker): (&str, &str), after: &str) -> Finished {
    let disk = power.machine.disk.partition(1);
    let set =
        format!("PACKAGING={}/packaging DISK={} && cat /proc/cmdline >$CONSOLE", env!("CARGO_MANIFEST_DIR"), disk.display());
    let seen = power.on(&format!("{set}\n{COMMON}{before}\n{maker}\n{after}"));
    println!("{name}: {seen:?}");
    // What was mounted in the machine's own namespace goes a moment after its last process.
    wait_for(&disk);
    seen
}

fn wait_for(partition: &Path) {
    let alone = || File::options().read(true).custom_flags(libc::O_EXCL).open(partition).is_ok();
    support::wait_until("the system partition is free", alone);
}

/// Where there is no busybox, klibc's programs are all there are.
const PARAMETERS: &str = "tail() { return 1; }\n\
                          echo 'quiet haosfs.options=ro haosfs.options=noatime haosfs.wait=-1 init=/sbin/init' >$SYSTEM/../cmdline && \
                          mount --bind $SYSTEM/../cmdline /proc/cmdline";

#[test]
fn a_root_is_gone_over_to() {
    if !possible("a_root_is_gone_over_to") {
        return;
    }
    let power = machine();
    for maker in MAKERS {
        let look = "grep \"$MNT\" /proc/mounts; cat $MNT/etc/version && ls /run/haosfs/system/haos.ini";
        let seen = start(&power, PARAMETERS, maker, look);
        assert!(seen.code == Some(0) && seen.stdout.contains("init /sbin/init\n"), "{seen:?}");
        assert!(seen.stdout.ends_with(&format!("{OLD}/run/haosfs/system/haos.ini\n")), "{seen:?}");
        assert!(seen.stdout.contains(" rw,noatime,"), "{seen:?}");
    }
}

/// A shell ends where it shall read what is not there, and with it the first program of the initramfs.
#[test]
fn without_a_word_of_what_was_booted_there_is_a_root() {
    if !possible("without_a_word_of_what_was_booted_there_is_a_root") {
        return;
    }
    let power = machine();
    for maker in MAKERS {
        let seen = start(&power, "mkdir -p /run/haosfs/boot.env", maker, "cat $MNT/etc/version");
        assert!(seen.code == Some(0) && seen.stdout.contains("init /sbin/init\n"), "{seen:?}");
        assert!(seen.stdout.ends_with(OLD) && !seen.stdout.contains("distroinit"), "{seen:?}");
    }
}

/// What was booted, how the system partition is mounted, and what was said.
const LOOK: &str = "cat /run/haosfs/boot.env $KMSG; grep ' /run/haosfs/system ' /proc/mounts";

/// Which is how a memory card ends: in the middle of something.
#[test]
fn a_medium_that_can_only_be_read_is_booted() {
    if !possible("a_medium_that_can_only_be_read_is_booted") {
        return;
    }
    let power = machine();
    let system = power.machine.disk.partition(1);
    run(Command::new("debugfs").args(["-w", "-R", "feature needs_recovery"]).arg(&system));
    run(Command::new("blockdev").arg("--setro").arg(&system));
    for maker in MAKERS {
        let seen = start(&power, ": >$KMSG", maker, LOOK);
        assert!(seen.code == Some(0) && seen.stdout.contains("HAOSFS_MODE=\"system\"\n"), "{seen:?}");
        assert!(seen.stdout.contains("/run/haosfs/system ext4 ro,"), "{seen:?}");
        assert!(seen.stdout.contains("cannot be mounted"), "{seen:?}");
    }
    run(Command::new("blockdev").arg("--setrw").arg(&system));
}

/// Where systemd is not in the initramfs, nobody else mounts what the kernel said last.
#[test]
fn the_last_words_of_a_kernel_are_mounted() {
    let test = "the_last_words_of_a_kernel_are_mounted";
    let has_pstore = fs::read_to_string("/proc/filesystems").unwrap().contains("\tpstore\n");
    if !possible(test) || !support::can_run(test, has_pstore, "needs a kernel with pstore") {
        return;
    }
    let power = machine();
    for maker in MAKERS {
        for before in ["umount /sys/fs/pstore 2>/dev/null", "mount -t pstore pstore /sys/fs/pstore"] {
            let seen = start(&power, before, maker, "grep -c ' /sys/fs/pstore ' /proc/mounts");
            assert!(seen.code == Some(0) && seen.stdout.ends_with("\n1\n"), "{seen:?}");
        }
    }
}

/// Nobody else does: the root is a union, and this partition is mounted when the system comes up.
#[test]
fn the_system_partition_is_checked() {
    if !possible("the_system_partition_is_checked") {
        return;
    }
    let power = machine();
    let system = power.machine.disk.partition(1);
    for maker in MAKERS {
        // "Errors detected", and a count that is wrong; the kernel mounts it all the same.
        for order in ["set_super_value state 2", "set_super_value free_blocks_count 7"] {
            run(Command::new("debugfs").args(["-w", "-R", order]).arg(&system));
        }
        let seen = start(&power, ": >$KMSG", maker, LOOK);
        assert!(seen.stdout.contains("HAOSFS_MODE=\"system\"\n") && !seen.stdout.contains("not mended"), "{seen:?}");
        assert!(seen.stdout.contains("/run/haosfs/system ext4 rw,"), "{seen:?}");
        assert!(run(Command::new("dumpe2fs").arg("-h").arg(&system)).contains("Filesystem state:         clean\n"));
        // What it does not mend without asking.
        let seen = start(&power, ": >$KMSG; fsck() { return 4; }", maker, LOOK);
        assert!(seen.stdout.contains("HAOSFS_MODE=\"system\"\n") && seen.stdout.contains("not mended"), "{seen:?}");
        assert!(seen.stdout.contains("/run/haosfs/system ext4 ro,"), "{seen:?}");
    }
}
