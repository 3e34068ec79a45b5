//! Root file systems for the guests.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::host::{self, run};
use super::package;
use super::writer;

/// Takes orders from the second serial port: a line is a script whose bytes are written in octal.
const CONTROL: &str = r#"#!/bin/sh
stty -F /dev/ttyS1 raw -echo 2>/dev/null
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo "@ready"
while read -r line; do
    (eval "$(printf %b "$line")") </dev/null
    echo "@end $?"
done
"#;

const INITTAB: &str = "\
::sysinit:/bin/mount -t tmpfs tmp /tmp
::once:/sbin/control
::shutdown:/bin/umount -a -r
";

/// A busybox that is its own init, packed.
pub fn busybox() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let tree = tempfile::tempdir().unwrap();
        grow_busybox(tree.path());
        let image = host::cache().join("busybox.squashfs");
        pack(&[tree.path()], &image);
        image
    })
}

/// The static busybox.
pub fn busybox_program() -> PathBuf {
    package::unpacked("bookworm", "busybox-static", |_| {}).join("bin/busybox")
}

/// Packs the first tree with what the others add to it.
pub fn pack(trees: &[&Path], image: &Path) {
    host::clear(image);
    let mut mksquashfs = host::command("mksquashfs");
    mksquashfs.args(trees).arg(image).args(["-quiet", "-no-progress", "-noappend", "-comp", "zstd"]);
    run(mksquashfs.args(["-Xcompression-level", "3"]));
}

/// Makes the tree of the busybox system.
pub fn grow_busybox(tree: &Path) {
    for directory in ["bin", "dev", "etc", "haos", "proc", "root", "run", "sbin", "srv/lower", "sys", "tmp", "var"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::copy(busybox_program(), tree.join("bin/busybox")).unwrap();
    for applet in run(Command::new(busybox_program()).arg("--list")).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    symlink("../bin/busybox", tree.join("sbin/init")).unwrap();
    fs::write(tree.join("etc/inittab"), INITTAB).unwrap();
    fs::write(tree.join("etc/issue"), "of the image\n").unwrap();
    for number in 0..64 {
        fs::write(tree.join(format!("srv/lower/{number}")), format!("lower {number}\n").repeat(1000)).unwrap();
    }
    writer::grow(&tree.join("srv/work"));
    add_program(tree, "writer", &fs::read(host::writer()).unwrap());
    add_control(tree);
}

/// The program that takes orders, and haosfs.
pub fn add_control(tree: &Path) {
    add_program(tree, "control", CONTROL.as_bytes());
    add_program(tree, "haosfs", &fs::read(host::haosfs()).unwrap());
}

/// Into /sbin.
pub fn add_program(tree: &Path, name: &str, contents: &[u8]) {
    let program = tree.join("sbin").join(name);
    host::clear(&program);
    fs::write(&program, contents).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The busybox system with changes, packed into a directory.
pub fn variant(into: &Path, change: impl FnOnce(&Path)) -> PathBuf {
    let tree = tempfile::tempdir().unwrap();
    grow_busybox(tree.path());
    change(tree.path());
    let image = into.join("variant.squashfs");
    pack(&[tree.path()], &image);
    image
}
