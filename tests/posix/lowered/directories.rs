//! Merged directories.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, MetadataExt};

use rustix::fs::Dir;

use super::union_cases;
use crate::mounted::union::Union;
use crate::suite::assertions::{exists, lstat, names};

union_cases![
    merged_without_duplicates, inode_numbers_agree, listing_follows_changes, removing_while_reading_merged, new_names_in_deep_directories,
    parent_of_a_merged_directory, opened_before_the_change, statfs_is_the_uppers;
];

fn merged_without_duplicates(union: &mut Union) {
    for name in ["a", "z", "sub/new"] {
        fs::write(union.path().join("dir").join(name), b"upper").unwrap();
    }
    fs::remove_file(union.path().join("dir/b")).unwrap();
    for _ in 0..2 {
        assert_eq!(names(union.path().join("dir")), ["a", "c", "link3", "sub", "z"]);
        assert_eq!(names(union.path().join("dir/sub")), ["deep", "deeper", "new"]);
        union.remount();
    }
}

fn inode_numbers_agree(union: &mut Union) {
    fs::write(union.path().join("dir/new"), b"").unwrap();
    fs::write(union.path().join("dir/a"), b"copied up").unwrap();
    for dir in ["", "dir", "dir/sub"] {
        for entry in fs::read_dir(union.path().join(dir)).unwrap() {
            let entry = entry.unwrap();
            let meta = lstat(entry.path());
            assert_eq!(entry.file_type().unwrap(), meta.file_type(), "{entry:?}");
            assert_eq!(entry.ino(), meta.ino(), "{entry:?}");
        }
    }
}

fn listing_follows_changes(union: &mut Union) {
    let dir = union.path().join("dir");
    let mut expected: BTreeSet<String> = names(&dir).into_iter().collect();
    for round in 0..5 {
        let name = format!("round{round}");
        fs::write(dir.join(&name), b"").unwrap();
        expected.insert(name);
        let first = expected.iter().find(|name| *name != "sub").cloned().unwrap();
        fs::remove_file(dir.join(&first)).unwrap();
        expected.remove(&first);
        assert!(names(&dir).iter().eq(expected.iter()), "{expected:?}");
    }
}

fn removing_while_reading_merged(union: &mut Union) {
    let dir = union.path().join("many");
    for i in 0..200 {
        File::create(dir.join(format!("upper{i:03}"))).unwrap();
    }
    let mut seen = BTreeSet::new();
    let mut open = Dir::read_from(File::open(&dir).unwrap()).unwrap();
    while let Some(entry) = open.read() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            fs::remove_file(dir.join(&name)).unwrap();
            assert!(seen.insert(name));
        }
    }
    assert_eq!((seen.len(), names(&dir).len()), (200 + super::content::MANY, 0));
}

fn new_names_in_deep_directories(union: &mut Union) {
    fs::create_dir_all(union.path().join("dir/sub/deeper/x/y")).unwrap();
    fs::write(union.path().join("dir/sub/deeper/x/y/f"), b"new").unwrap();
    union.remount();
    assert_eq!(fs::read(union.path().join("dir/sub/deeper/x/y/f")).unwrap(), b"new");
    assert_eq!(names(union.path().join("dir/sub/deeper")), ["deepest", "x"]);
}

fn parent_of_a_merged_directory(union: &mut Union) {
    fs::write(union.path().join("dir/sub/new"), b"").unwrap();
    assert_eq!(lstat(union.path().join("dir/sub/..")).ino(), lstat(union.path().join("dir")).ino());
    assert!(exists(union.path().join("dir/sub/../a")));
}

fn opened_before_the_change(union: &mut Union) {
    let handle = File::open(union.path().join("dir")).unwrap();
    fs::write(union.path().join("dir/new"), b"").unwrap();
    fs::remove_file(union.path().join("dir/a")).unwrap();
    let entries = Dir::read_from(&handle).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let seen: BTreeSet<String> = entries.filter(|name| !name.starts_with('.')).collect();
    assert!(seen.iter().eq(["b", "c", "link3", "new", "sub"]), "{seen:?}");
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(&handle, "by-handle", mode).unwrap();
    assert!(exists(union.path().join("dir/by-handle")));
}

fn statfs_is_the_uppers(union: &mut Union) {
    let (merged, upper) = (rustix::fs::statvfs(union.path()).unwrap(), rustix::fs::statvfs(union.upper()).unwrap());
    assert_eq!((merged.f_blocks, merged.f_frsize), (upper.f_blocks, upper.f_frsize));
}
