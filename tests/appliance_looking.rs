//! Unions of a haos.ini that are only looked at: the data partition stays as it is, bit by bit.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[path = "appliance/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs;
use std::path::Path;
use std::process::Command;

use disk::run;
use machine::Machine;
use support::{can_run, has_tool, is_root};

const BACKENDS: [&str; 3] = ["kernel", "fuse", "hybrid"];

fn possible(test: &str, fs: &str) -> bool {
    let mkfs = format!("mkfs.{fs}");
    let tools = [&mkfs, "mkfs.ext4", "losetup", "partx", "mksquashfs", "blockdev"];
    let found = tools.into_iter().all(|tool| has_tool(tool) || Path::new("/usr/sbin").join(tool).exists());
    can_run(test, is_root() && found, &format!("needs root, losetup, partx, mksquashfs, blockdev and {mkfs}"))
}

/// Whoever only looks writes nothing, not even that the data partition was mounted, and is in nobody's way who writes there.
fn looking_leaves_the_disk_as_it_is(fs: &str) {
    let machine = Machine::with(fs);
    let (mnt, partition) = (machine.scratch.path("mnt"), machine.disk.partition(2));
    machine.mount("rw").succeeded();
    fs::write(mnt.join("new"), "mine").unwrap();
    machine.umount();
    machine.assert_nothing_is_left();
    let before = machine.scratch.path("before");
    for access in ["--setrw", "--setro"] {
        run(Command::new("blockdev").arg(access).arg(&partition));
        run(Command::new("cp").arg("--sparse=always").arg(&partition).arg(&before));
        for backend in BACKENDS {
            machine.mount(&format!("ro,backend={backend}")).succeeded();
            assert_eq!(fs::read_to_string(mnt.join("new")).unwrap(), "mine");
            machine.umount();
            machine.assert_nothing_is_left();
            // XFS overwrites what is stale in its log wherever the device lets it (fs/xfs/xfs_log_recover.c, `xlog_clear_stale_blocks`).
            if fs != "xfs" || access == "--setro" {
                run(Command::new("cmp").arg(&before).arg(&partition));
            }
        }
    }
    run(Command::new("blockdev").arg("--setrw").arg(&partition));
    let ini = machine.ini().into_os_string().into_string().unwrap();
    machine.scratch.mkdir("other");
    machine.mount("ro").succeeded();
    machine.scratch.haosfs(&["mount", &ini, "other"]).failed(32, "the upper is in use by the kernel's overlayfs mounted at ");
    // It is writable for others from then on.
    machine.scratch.haosfs(&["doctor", &ini]).succeeded();
    assert_eq!(fs::write(mnt.join("new"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    machine.umount();
    machine.mount("rw").succeeded();
    machine.scratch.haosfs(&["mount", &ini, "other", "-o", "ro"]).failed(32, "its upper is in use by another mount");
    fs::write(mnt.join("new"), "mine again").unwrap();
    machine.umount();
}

#[test]
fn looking_leaves_ext4_as_it_is() {
    if possible("looking_leaves_ext4_as_it_is", "ext4") {
        looking_leaves_the_disk_as_it_is("ext4");
    }
}

#[test]
fn looking_leaves_btrfs_as_it_is() {
    if possible("looking_leaves_btrfs_as_it_is", "btrfs") {
        looking_leaves_the_disk_as_it_is("btrfs");
    }
}

#[test]
fn looking_leaves_xfs_as_it_is() {
    if possible("looking_leaves_xfs_as_it_is", "xfs") {
        looking_leaves_the_disk_as_it_is("xfs");
    }
}
