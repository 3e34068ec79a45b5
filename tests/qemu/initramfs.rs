//! The initramfs of the tests: busybox, the static haosfs, modules, and a first program that mounts the root file system and goes
//! over to it.

use std::fs;
use std::path::{Path, PathBuf};

use super::cpio::Archive;
use super::host;
use super::kernel::Kernel;
use super::root;

/// Who can join the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// The initramfs has no overlayfs: a daemon of haosfs does.
    Haosfs,
    /// The kernel's overlayfs is there.
    Kernel,
}

/// What every machine needs; the last is for the watchdog of one that has it. Linux 6.1 comes without.
const MODULES: [&str; 10] =
    ["virtio_pci", "virtio_blk", "ext4", "btrfs", "fuse", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "i6300esb"];
/// So long that watchdog waits before it resets the machine, in seconds.
pub const WATCHDOG_TIME: u64 = 10;
/// What the kernel needs to join the layers itself.
const OVERLAY_MODULES: [&str; 3] = ["loop", "squashfs", "overlay"];

/// Makes one in a directory. `mounts` is the part of its script that mounts the root file system at /root.
pub fn write(kernel: &Kernel, joins: Joins, mounts: &str, into: &Path) -> PathBuf {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "etc", "haos", "lib", "lib/modules", "proc", "root", "run", "sys", "tmp"] {
        archive.directory(directory);
    }
    archive.console();
    archive.file("bin/busybox", &fs::read(root::busybox_program()).unwrap());
    archive.link("bin/sh", "busybox");
    archive.file("bin/haosfs", &fs::read(host::haosfs()).unwrap());
    let names = [MODULES.as_slice(), if joins == Joins::Kernel { &OVERLAY_MODULES } else { &[] }].concat();
    let modules = kernel.modules(&names);
    let order: Vec<String> = modules.iter().map(|(name, _)| with_parameters(name)).collect();
    archive.file("modules", (order.join("\n") + "\n").as_bytes());
    modules.iter().for_each(|(name, contents)| archive.file(&format!("lib/modules/{name}"), contents));
    archive.file("init", INIT.replace("MOUNTS", mounts).as_bytes());
    let file = into.join(format!("initramfs-{}-{joins:?}", kernel.release()));
    fs::write(&file, archive.finish()).unwrap();
    file
}

fn with_parameters(module: &str) -> String {
    if module == "i6300esb.ko" { format!("{module} heartbeat={WATCHDOG_TIME}") } else { module.to_owned() }
}

/// Mounts by haos.ini alone.
pub const BY_INI: &str = "haosfs boot --ini /haos/haos.ini --target /root && mount --move /haos /root/haos";

const INIT: &str = r#"#!/bin/sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev && mount -t tmpfs -o mode=755 run /run
while read -r module; do insmod /lib/modules/$module || echo "initramfs: no $module"; done </modules
tries=0
until [ -b /dev/vda1 ] || [ $tries = 100 ]; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 /dev/vda1 /haos || mount -t vfat /dev/vda1 /haos || echo "initramfs: no system partition"
{ MOUNTS; } || { echo "initramfs: no root file system"; sleep 1; poweroff -f; }
for directory in dev proc sys run; do mount --move /$directory /root/$directory; done
. /root/run/haosfs/boot.env
exec switch_root /root "$HAOSFS_INIT"
"#;
