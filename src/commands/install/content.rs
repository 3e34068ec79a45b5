//! What belongs to an installation, and where.

use std::path::{Path, PathBuf};

/// One thing to put somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where, from the root of the system, without a leading slash.
    pub path: PathBuf,
    /// What.
    pub what: What,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The running program, executable.
    Program,
    /// A text, readable.
    Text(&'static str),
    /// A text that can be executed.
    Script(&'static str),
    /// A symbolic link.
    Link(PathBuf),
}

/// Where texts name the program; they are installed with the path that it has.
pub const PROGRAM: &str = "/usr/bin/haosfs";

/// The names by which mount(8) and umount(8) look for helpers, nowhere but in /sbin (libmount, `FS_SEARCH_PATH`).
const HELPERS: [&str; 4] = ["mount.haosfs", "mount.fuse.haosfs", "umount.haosfs", "umount.fuse.haosfs"];

/// What others execute, below the prefix.
const SCRIPTS: [(&str, &str); 4] = [
    ("share/initramfs-tools/hooks/haosfs", include_str!("../../../packaging/initramfs-tools/hooks/haosfs")),
    ("lib/dracut/modules.d/90haosfs/module-setup.sh", include_str!("../../../packaging/dracut/90haosfs/module-setup.sh")),
    ("lib/dracut/modules.d/90haosfs/parse-haosfs.sh", include_str!("../../../packaging/dracut/90haosfs/parse-haosfs.sh")),
    ("lib/dracut/modules.d/90haosfs/mount-haosfs.sh", include_str!("../../../packaging/dracut/90haosfs/mount-haosfs.sh")),
];

/// Everything else but programs and links, below the prefix.
const TEXTS: [(&str, &str); 12] = [
    ("share/man/man1/haosfs.1", include_str!("../../../packaging/man/haosfs.1")),
    ("share/man/man5/haos.ini.5", include_str!("../../../packaging/man/haos.ini.5")),
    ("share/man/man8/mount.haosfs.8", include_str!("../../../packaging/man/mount.haosfs.8")),
    ("share/man/man8/umount.haosfs.8", include_str!("../../../packaging/man/umount.haosfs.8")),
    ("share/bash-completion/completions/haosfs", include_str!("../../../packaging/completions/haosfs.bash")),
    ("share/zsh/vendor-completions/_haosfs", include_str!("../../../packaging/completions/_haosfs")),
    ("share/fish/vendor_completions.d/haosfs.fish", include_str!("../../../packaging/completions/haosfs.fish")),
    ("share/doc/haosfs/examples/mnt.mount", include_str!("../../../packaging/units/mnt.mount")),
    ("share/doc/haosfs/examples/mnt.automount", include_str!("../../../packaging/units/mnt.automount")),
    ("lib/systemd/system/haosfs-boot-guard.service", include_str!("../../../packaging/units/haosfs-boot-guard.service")),
    ("share/initramfs-tools/scripts/haosfs", include_str!("../../../packaging/initramfs-tools/scripts/haosfs")),
    ("lib/dracut/modules.d/90haosfs/switch-root.conf", include_str!("../../../packaging/dracut/90haosfs/switch-root.conf")),
];

/// All of it for a prefix and a directory of helpers, both from the root of the system and without a leading slash.
#[must_use]
pub fn items(prefix: &Path, sbin: &Path) -> Vec<Item> {
    let program = prefix.join("bin/haosfs");
    let to_program = way(sbin, &program);
    let mut items = vec![Item { path: program, what: What::Program }];
    items.extend(HELPERS.map(|name| Item { path: sbin.join(name), what: What::Link(to_program.clone()) }));
    let backend = prefix.join("lib/haosfs");
    items.push(Item { path: backend.join("rauc-backend"), what: What::Link(way(&backend, &prefix.join("bin/haosfs"))) });
    items.extend(SCRIPTS.map(|(path, text)| Item { path: prefix.join(path), what: What::Script(text) }));
    items.extend(TEXTS.map(|(path, text)| Item { path: prefix.join(path), what: What::Text(text) }));
    items
}

/// The relative way from a directory to a file; without `..` in either.
fn way(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Path::new(".."));
    up.chain(to.components().skip(shared).map(|part| Path::new(part.as_os_str()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_program() {
        for (sbin, program, expected) in [
            ("usr/sbin", "usr/bin/haosfs", "../bin/haosfs"),
            ("usr/sbin", "usr/local/bin/haosfs", "../local/bin/haosfs"),
            ("sbin", "usr/bin/haosfs", "../usr/bin/haosfs"),
            ("sbin", "bin/haosfs", "../bin/haosfs"),
        ] {
            assert_eq!(way(Path::new(sbin), Path::new(program)), Path::new(expected));
        }
    }
}
