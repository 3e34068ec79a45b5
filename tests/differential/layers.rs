//! The lowers: one with everything that can be copied up, and one below it that shows where the first one lets it.

use std::fs::{self, File, Permissions, create_dir_all, set_permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, utimensat};

use super::act::NODES;
use super::step::{OTHER, TEAM};
use crate::history::lower::STAMP;

/// Marks hard links of a lower, so that they are known wherever they go.
pub const LINKED: &str = "user.linked-below";

/// Whose marks a layer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// `trusted.overlay.`, with owners, capabilities and attributes that only root may set.
    Root,
    /// `user.overlay.`, for unions in a user namespace.
    Namespace,
}

impl Rights {
    fn opaque(self) -> &'static str {
        match self {
            Self::Root => "trusted.overlay.opaque",
            Self::Namespace => "user.overlay.opaque",
        }
    }
}

fn content(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 / 7 + i / 4096 + seed) as u8).collect()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|e| panic!("{name} of {}: {e}", path.display()));
}

fn files(tree: &Path, files: &[(&str, usize)]) {
    for (seed, (name, len)) in files.iter().enumerate() {
        let path = tree.join(name);
        create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content(*len, seed)).unwrap();
    }
}

/// Makes the top lower in an empty directory.
pub fn make_top(tree: &Path, rights: Rights) {
    let plain = [
        ("a/a", 10),
        ("a/b/c", 70_000),
        ("a/b/empty", 0),
        ("b/a", 4096),
        ("c", 200_001),
        ("d/a", 100),
        ("e/a/b/c/d/e", 5),
        ("e/b", 131_072),
        ("home/a", 30),
        ("home/b/c", 5000),
        ("tmp/a", 1),
        ("secret", 7),
        ("suid", 3000),
        ("attributes", 12),
    ];
    files(tree, &plain);
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len((1 << 20) + 17).unwrap();
    sparse.write_all_at(&content(9000, 3), 300_000).unwrap();
    links(tree);
    for (i, (kind, device)) in NODES.into_iter().enumerate() {
        mknodat(CWD, tree.join(format!("d/node-{i}")), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    symlink("nowhere", tree.join("d/symlink")).unwrap();
    symlink("no/where/else", tree.join("home/symlink")).unwrap();
    mknodat(CWD, tree.join("a/c"), FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
    attributes(tree, rights);
    stamp(tree);
}

/// Two groups of hard links over several directories.
fn links(tree: &Path) {
    for (group, names) in [["d/l1", "d/l2", "e/l3"], ["e/a/l4", "home/l5", "l6"]].into_iter().enumerate() {
        let first = tree.join(names[0]);
        fs::write(&first, content(6000, group)).unwrap();
        set(&first, LINKED, b"1");
        names[1..].iter().for_each(|name| fs::hard_link(&first, tree.join(name)).unwrap());
    }
}

fn attributes(tree: &Path, rights: Rights) {
    let at = |name: &str| tree.join(name);
    set(&at("b"), rights.opaque(), b"y");
    set(&at("attributes"), "user.x", b"below");
    set(&at("attributes"), "user.long", &content(900, 1));
    set(&at("a"), "user.y", b"of a directory");
    for (name, mode) in [("secret", 0o000), ("tmp", 0o1777), ("d", 0o2775), ("d/a", 0o664), ("home/b", 0o750), ("b", 0o777)] {
        set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    if rights == Rights::Root {
        lchown(at("d"), None, Some(TEAM)).unwrap();
        lchown(at("d/a"), None, Some(TEAM)).unwrap();
        for name in ["home", "home/a", "home/b", "home/b/c", "home/symlink", "suid", "home/l5"] {
            lchown(at(name), Some(OTHER), Some(OTHER)).unwrap();
        }
        set(&at("attributes"), "trusted.x", b"roots");
        set(&at("attributes"), "trusted.overlay.overlay.foo", b"nested");
        set(&at("attributes"), "security.capability", &CAP_NET_RAW);
        set(&at("d/symlink"), "trusted.x", b"of a link");
        set(&at("d/node-0"), "trusted.x", b"of a pipe");
    }
    // After the change of owner, which would take them.
    set_permissions(at("suid"), Permissions::from_mode(0o6755)).unwrap();
    set_permissions(at("d"), Permissions::from_mode(0o2775)).unwrap();
}

/// `VFS_CAP_REVISION_2`: `CAP_NET_RAW` permitted and effective.
pub const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Makes the lower below it.
pub fn make_bottom(tree: &Path, rights: Rights) {
    files(tree, &[("a/a", 99), ("a/c", 11), ("a/d/a", 12), ("a/e", 8192), ("a/b/d", 13), ("b/b", 14), ("b/c/d", 15)]);
    files(tree, &[("c/a", 1), ("f/a", 16), ("f/b/c", 17), ("f/d", 33_000), ("tmp/b", 18), ("e/c", 2), ("home/d", 19)]);
    fs::hard_link(tree.join("f/a"), tree.join("f/l7")).unwrap();
    set(&tree.join("f/a"), LINKED, b"1");
    set(&tree.join("a"), "user.z", b"hidden by the top");
    set(&tree.join("f"), "user.x", b"shows");
    if rights == Rights::Root {
        for name in ["tmp/b", "home/d"] {
            lchown(tree.join(name), Some(OTHER), Some(TEAM)).unwrap();
        }
    }
    stamp(tree);
}

/// Gives everything one time. Accesses lie ahead, so that reading changes nothing while mksquashfs looks for hard links.
fn stamp(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        let entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.iter().for_each(|entry| stamp(entry));
    }
    let last_access = Timespec { tv_sec: 8_000_000_000, tv_nsec: 0 };
    let last_modification = Timespec { tv_sec: STAMP.0, tv_nsec: 0 };
    utimensat(CWD, path, &Timestamps { last_access, last_modification }, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
