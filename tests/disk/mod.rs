//! Disks with partitions on loop devices.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub mod gpt;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A loop device with its partitions; it goes with its owner.
pub struct Disk {
    /// The whole of it.
    pub device: PathBuf,
}

impl Disk {
    /// A disk in a file, with this many partitions. Where the kernel does not read partition tables itself, partx(8) does.
    pub fn new(file: &Path, partitions: usize) -> Self {
        let device = run(Command::new("losetup").args(["--find", "--show", "--partscan"]).arg(file));
        let disk = Self { device: device.trim().into() };
        if (1..=partitions).any(|number| !disk.partition(number).exists()) {
            run(Command::new("partx").arg("--add").arg(&disk.device));
        }
        disk
    }

    /// A partition, from 1.
    pub fn partition(&self, number: usize) -> PathBuf {
        format!("{}p{number}", self.device.display()).into()
    }
}

impl Drop for Disk {
    /// Whoever looks at all devices just now keeps it for a moment, and others would still find it.
    fn drop(&mut self) {
        let name = self.device.file_name().unwrap_or_default();
        let file = || fs::read(Path::new("/sys/block").join(name).join("loop/backing_file")).ok();
        let own = file();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
        for _ in 0..200 {
            if own.is_none() || file() != own {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Standard output of a program that must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A GUID that no other test and no disk of the machine has.
pub fn fresh_guid() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

/// Makes a file system. mkfs.btrfs looks at every mount, and root may not look at those of ordinary users: so it sees none of them,
/// and holds none of the unions of other tests.
pub fn make(mkfs: &str, arguments: &[&str], device: &Path) {
    let script = "umount -a -l -t fuse.haosfs,overlay; exec \"$0\" \"$@\"";
    let private = ["--mount", "--propagation", "private", "sh", "-c", script];
    run(Command::new("unshare").args(private).arg(mkfs).args(arguments).arg(device));
}
