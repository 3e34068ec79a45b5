//! The known content of the lower.

use std::fs::{self, File, Permissions, create_dir, create_dir_all, set_permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, utimensat};

use crate::suite::assertions::pattern;
use crate::suite::xattr::{CAP_NET_RAW, set};

/// Content of `hello`.
pub const HELLO: &[u8] = b"hello from below\n";
/// Modification time of everything, in seconds since 1970; squashfs keeps no fractions.
pub const MTIME: i64 = 1_000_000_000;
/// Files in `many`.
pub const MANY: usize = 300;

/// Content of `big`: several blocks and a tail.
pub fn big() -> Vec<u8> {
    pattern(300_001, 11)
}

/// Makes the tree in an empty directory, as root.
pub fn make(tree: &Path) {
    let at = |name: &str| tree.join(name);
    fs::write(at("hello"), HELLO).unwrap();
    fs::write(at("big"), big()).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    sparse.write_all_at(&[7; 65536], 2 << 20).unwrap();
    create_dir_all(at("dir/sub/deeper")).unwrap();
    for name in ["dir/a", "dir/b", "dir/c", "dir/sub/deep", "dir/sub/deeper/deepest"] {
        fs::write(at(name), name).unwrap();
    }
    create_dir(at("empty")).unwrap();
    create_dir(at("many")).unwrap();
    for i in 0..MANY {
        fs::write(at("many").join(format!("n{i:03}")), []).unwrap();
    }
    fs::write(at("link1"), b"linked").unwrap();
    fs::hard_link(at("link1"), at("link2")).unwrap();
    fs::hard_link(at("link1"), at("dir/link3")).unwrap();
    symlink("hello", at("symlink")).unwrap();
    fs::copy("/bin/true", at("program")).unwrap();
    special(tree);
    for (name, mode) in [("secret", 0o000), ("readonly", 0o444), ("suid", 0o6755)] {
        fs::write(at(name), name).unwrap();
        set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    stamp(tree);
}

fn special(tree: &Path) {
    let at = |name: &str| tree.join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    set_permissions(at("null"), Permissions::from_mode(0o666)).unwrap();
    fs::write(at("owned"), b"owned").unwrap();
    chown(at("owned"), Some(1234), Some(5678)).unwrap();
    fs::write(at("attributes"), b"x").unwrap();
    set(&at("attributes"), "user.color", b"blue", XattrFlags::empty()).unwrap();
    set(&at("attributes"), "user.long", &pattern(1500, 1), XattrFlags::empty()).unwrap();
    set(&at("attributes"), "trusted.kept", b"yes", XattrFlags::empty()).unwrap();
    set(&at("dir"), "user.dir", b"too", XattrFlags::empty()).unwrap();
    fs::write(at("capable"), b"x").unwrap();
    set(&at("capable"), "security.capability", &CAP_NET_RAW, XattrFlags::empty()).unwrap();
}

/// Gives everything below a directory, and itself, the one modification time.
fn stamp(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| stamp(&entry.unwrap().path()));
    }
    let time = Timespec { tv_sec: MTIME, tv_nsec: 0 };
    utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
