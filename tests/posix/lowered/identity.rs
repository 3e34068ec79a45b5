//! Inode numbers and hard links of lower files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::union_cases;
use crate::mounted::union::Union;
use crate::suite::assertions::{lstat, refused};

union_cases![
    inode_numbers_are_constant, inode_numbers_are_distinct, one_device, links_share_one_inode, links_stay_one_file,
    links_of_lower_count, locks_cross_copy_up, rename_keeps_the_inode_number, removing_one_link_keeps_the_others;
];

fn inode_numbers_are_constant(union: &mut Union) {
    for name in ["hello", "big", "dir", "dir/sub", "dir/sub/deep", "program"] {
        let path = union.path().join(name);
        let before = lstat(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let after = lstat(&path);
        assert_eq!((after.ino(), after.dev()), (before.ino(), before.dev()), "{name}");
    }
}

fn inode_numbers_are_distinct(union: &mut Union) {
    for i in 0..50 {
        fs::write(union.path().join(format!("dir/new{i}")), b"").unwrap();
    }
    let mut seen = std::collections::BTreeMap::new();
    for dir in ["", "dir", "many", "dir/sub"] {
        for entry in fs::read_dir(union.path().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let meta = lstat(&path);
            if meta.nlink() == 1 || meta.is_dir() {
                let other = seen.insert((meta.dev(), meta.ino()), path.clone());
                assert!(other.is_none(), "{} and {other:?} share {}", path.display(), meta.ino());
            }
        }
    }
}

/// find -xdev, tar and the like take another st_dev for another file system.
fn one_device(union: &mut Union) {
    fs::write(union.path().join("new"), b"").unwrap();
    let device = lstat(union.path()).dev();
    for name in ["new", "hello", "dir", "dir/a", "symlink"] {
        assert_eq!(lstat(union.path().join(name)).dev(), device, "{name}");
    }
}

fn links_share_one_inode(union: &mut Union) {
    let (a, b, c) = (lstat(union.path().join("link1")), lstat(union.path().join("link2")), lstat(union.path().join("dir/link3")));
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 3));
    assert_eq!(a.ino(), c.ino());
}

fn links_stay_one_file(union: &mut Union) {
    let other = File::open(union.path().join("link2")).unwrap();
    OpenOptions::new().append(true).open(union.path().join("link1")).unwrap().write_all(b" together").unwrap();
    assert_eq!(std::io::read_to_string(other).unwrap(), "linked together");
    assert_eq!(fs::read(union.path().join("link2")).unwrap(), b"linked together");
    assert_eq!(lstat(union.path().join("link1")).ino(), lstat(union.path().join("link2")).ino());
}

fn links_of_lower_count(union: &mut Union) {
    fs::hard_link(union.path().join("link1"), union.path().join("link4")).unwrap();
    let (one, four) = (lstat(union.path().join("link1")), lstat(union.path().join("link4")));
    assert_eq!((one.ino(), one.nlink()), (four.ino(), four.nlink()));
    assert_eq!(four.nlink(), 4);
}

fn locks_cross_copy_up(union: &mut Union) {
    let path = union.path().join("hello");
    let reader = File::open(&path).unwrap();
    flock(&reader, FlockOperation::LockExclusive).unwrap();
    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    refused(flock(&writer, FlockOperation::NonBlockingLockExclusive), Errno::WOULDBLOCK);
    (&writer).write_all(b"!").unwrap();
    refused(flock(&writer, FlockOperation::NonBlockingLockExclusive), Errno::WOULDBLOCK);
    flock(&reader, FlockOperation::Unlock).unwrap();
    flock(&writer, FlockOperation::NonBlockingLockExclusive).unwrap();
}

fn rename_keeps_the_inode_number(union: &mut Union) {
    let before = lstat(union.path().join("hello")).ino();
    fs::rename(union.path().join("hello"), union.path().join("moved")).unwrap();
    assert_eq!(lstat(union.path().join("moved")).ino(), before);
}

fn removing_one_link_keeps_the_others(union: &mut Union) {
    fs::remove_file(union.path().join("link1")).unwrap();
    assert_eq!(fs::read(union.path().join("link2")).unwrap(), b"linked");
    fs::write(union.path().join("link2"), b"changed").unwrap();
    assert_eq!(fs::read(union.path().join("link2")).unwrap(), b"changed");
    assert_eq!(lstat(union.path().join("link2")).nlink(), 2);
}
