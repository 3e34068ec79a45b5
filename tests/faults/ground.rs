//! The lower that everything starts from. All its times are long past.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat};

/// Modification time of everything, in seconds.
pub const PAST: i64 = 1_000_000_000;

/// Grows it in an empty directory.
pub fn grow(tree: &Path) {
    for dir in ["deep/a/b/c", "full/inner", "empty", "other/sub", "shared"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    let files =
        ["file", "second", "deep/a/b/c/file", "full/one", "full/two", "full/inner/three", "other/sub/file", "shared/file"];
    for file in files {
        fs::write(tree.join(file), format!("content of {file}\n").repeat(100)).unwrap();
        fs::set_permissions(tree.join(file), Permissions::from_mode(0o644)).unwrap();
    }
    // Three stretches of data, each a step of its own.
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(60_000).unwrap();
    [0, 32_768, 49_152].into_iter().for_each(|offset| sparse.write_all_at(&[b's'; 4096], offset).unwrap());
    fs::write(tree.join("link-a"), b"one file").unwrap();
    fs::hard_link(tree.join("link-a"), tree.join("link-b")).unwrap();
    symlink("target", tree.join("symlink")).unwrap();
    mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    chown(tree.join("file"), Some(1), Some(2)).unwrap();
    lchown(tree.join("symlink"), Some(3), Some(4)).unwrap();
    chown(tree.join("shared"), None, Some(7)).unwrap();
    fs::set_permissions(tree.join("shared"), Permissions::from_mode(0o2775)).unwrap();
    for name in ["file", "full", "deep/a"] {
        setxattr(tree.join(name), "user.note", b"kept", XattrFlags::empty()).unwrap();
    }
    age(tree);
}

fn age(path: &Path) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| age(&entry.unwrap().path()));
    }
    let past = Timespec { tv_sec: PAST, tv_nsec: 5 };
    let times = Timestamps { last_access: past, last_modification: past };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
