//! A Debian that systemd starts, made by debootstrap.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::host::{self, kept, run};
use super::root;

/// Starts the program that takes orders.
const UNIT: &str = "\
[Unit]
Description=Take orders

[Service]
ExecStart=/sbin/control
";

/// What is not needed to start, stop, and be asked.
const SUPERFLUOUS: [&str; 8] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/zoneinfo",
    "usr/lib/x86_64-linux-gnu/gconv",
    "var/lib/apt/lists",
    "var/cache",
];

/// The packed system.
pub fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let tree = kept("debian", |tree| {
            let arguments = ["--variant=minbase", "--include=systemd-sysv,udev", "bookworm"];
            run(host::command("debootstrap").args(arguments).arg(tree).arg("http://deb.debian.org/debian"));
            for path in SUPERFLUOUS {
                host::clear(&tree.join(path));
            }
            fs::create_dir(tree.join("haos")).unwrap();
        });
        // Each run has the haosfs of its own build.
        root::add_control(&tree);
        fs::write(tree.join("etc/systemd/system/control.service"), UNIT).unwrap();
        for (at, target) in [
            ("multi-user.target.wants/control.service", "/etc/systemd/system/control.service"),
            ("serial-getty@ttyS0.service", "/dev/null"),
        ] {
            let at = tree.join("etc/systemd/system").join(at);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            host::clear(&at);
            symlink(target, at).unwrap();
        }
        let image = host::cache().join("debian.squashfs");
        root::pack(&[&tree], &image);
        image
    })
}
