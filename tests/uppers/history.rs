//! What is done to a union, first by one driver and then by another.

use std::fs::{self, File, OpenOptions, Permissions, create_dir, hard_link, remove_dir_all, remove_file, rename};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags, renameat_with, setxattr};

fn append(path: impl AsRef<Path>) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The lower. Numbers of squashfs are small, those of a directory large; nothing else differs.
pub fn plant(tree: &Path) {
    let at = |name: &str| tree.join(name);
    for dir in ["d/e/f", "gone/deep", "remade/old", "moved/inner", "links/far", "quiet"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    for file in ["solo", "d/solo", "d/e/solo", "gone/a", "gone/deep/b", "remade/old/c", "moved/a", "moved/inner/b", "quiet/a"] {
        fs::write(at(file), format!("{file}\n").repeat(600)).unwrap();
    }
    for file in ["renamed", "replaced", "removed", "mode", "owner", "attr", "linked", "sparse", "swapped"] {
        fs::write(at(file), file.repeat(900)).unwrap();
    }
    for group in ["w", "x", "y", "z"] {
        fs::write(at(&format!("links/{group}1")), group.repeat(3000)).unwrap();
        for name in [format!("links/{group}2"), format!("links/far/{group}3")] {
            hard_link(at(&format!("links/{group}1")), at(&name)).unwrap();
        }
    }
    setxattr(at("attr"), "user.note", b"lower", XattrFlags::empty()).unwrap();
    symlink("solo", at("symlink")).unwrap();
    rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
}

/// The first driver's part. Directories are renamed where the union allows it.
pub fn first(root: &Path) {
    let at = |name: &str| root.join(name);
    append(at("solo"));
    append(at("d/e/solo"));
    chmod(at("mode"), 0o600);
    chown(at("owner"), Some(12), Some(34)).unwrap();
    setxattr(at("attr"), "user.more", b"upper", XattrFlags::empty()).unwrap();
    rename(at("renamed"), at("d/renamed")).unwrap();
    rename(at("solo"), at("replaced")).unwrap();
    remove_file(at("removed")).unwrap();
    hard_link(at("linked"), at("d/linked")).unwrap();
    remove_dir_all(at("gone")).unwrap();
    remove_dir_all(at("remade")).unwrap();
    create_dir(at("remade")).unwrap();
    fs::write(at("remade/new"), b"new").unwrap();
    let _either_way = rename(at("moved"), at("d/moved"));
    let stamp = Timespec { tv_sec: 1_000_000, tv_nsec: 5 };
    let times = Timestamps { last_access: stamp, last_modification: stamp };
    ["symlink", "pipe", "d/e/f"].iter().for_each(|name| {
        rustix::fs::utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    });
    File::options().write(true).open(at("sparse")).unwrap().set_len(1 << 20).unwrap();
    append(at("links/w1"));
    append(at("links/x2"));
    append(at("links/far/x3"));
    remove_file(at("links/x1")).unwrap();
    remove_file(at("links/y1")).unwrap();
    chmod(at("links/z1"), 0o640);
    hard_link(at("links/z1"), at("d/z4")).unwrap();
    rename(at("links/z2"), at("links/far/moved")).unwrap();
}

/// Another driver's part, on what the first left.
pub fn second(root: &Path) {
    let at = |name: &str| root.join(name);
    append(at("replaced"));
    append(at("links/far/w3"));
    append(at("links/y2"));
    remove_file(at("links/w2")).unwrap();
    remove_file(at("links/far/moved")).unwrap();
    rename(at("links/z1"), at("links/z5")).unwrap();
    hard_link(at("links/x2"), at("links/x6")).unwrap();
    renameat_with(CWD, at("swapped"), CWD, at("d/linked"), RenameFlags::EXCHANGE).unwrap();
    remove_file(at("mode")).unwrap();
    append(at("owner"));
    remove_dir_all(at("d/e")).unwrap();
    create_dir(at("d/e")).unwrap();
    let _either_way = rename(at("quiet"), at("d/quiet"));
    fs::write(at("removed"), b"again").unwrap();
    remove_file(at("remade/new")).unwrap();
}

/// And what the first driver does after that.
pub fn third(root: &Path) {
    let at = |name: &str| root.join(name);
    ["links/y2", "links/far/y3", "links/x2", "links/x6", "links/far/x3"].iter().for_each(|name| remove_file(at(name)).unwrap());
    append(at("links/w1"));
    chmod(at("d/z4"), 0o444);
    append(at("d/renamed"));
    remove_dir_all(at("d")).unwrap();
}
