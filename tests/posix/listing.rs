//! Reading directories (getdents(2), seekdir(3)).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{DirEntryExt, MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, mknodat};

use super::assertions::{lstat, names};
use super::case::cases;

cases![
    dot_and_dotdot_are_listed, types_and_inode_numbers, large_directories, seekdir_returns_to_a_place, rewinddir_sees_what_is_new,
    removing_while_reading, adding_while_reading, reading_twice_is_the_same, listing_ends;
];

fn read(dir: &mut Dir) -> Vec<(String, i64)> {
    dir.map(|entry| entry.unwrap()).map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.offset())).collect()
}

fn fill(dir: &Path, count: usize) -> BTreeSet<String> {
    let names: BTreeSet<String> = (0..count).map(|i| format!("entry-with-a-longer-name-{i:05}")).collect();
    for name in &names {
        File::create(dir.join(name)).unwrap();
    }
    names
}

fn dot_and_dotdot_are_listed(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    let mut listed: Vec<String> =
        read(&mut Dir::new(rustix::fs::open(dir.join("d"), rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap()).unwrap())
            .into_iter()
            .map(|(name, _)| name)
            .collect();
    listed.sort();
    assert_eq!(listed, [".", ".."]);
}

fn types_and_inode_numbers(dir: &Path) {
    fs::write(dir.join("file"), b"").unwrap();
    fs::create_dir(dir.join("dir")).unwrap();
    symlink("file", dir.join("symlink")).unwrap();
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    mknodat(CWD, dir.join("socket"), FileType::Socket, Mode::RWXU, 0).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let meta = lstat(entry.path());
        assert_eq!(entry.file_type().unwrap(), meta.file_type(), "{entry:?}");
        assert_eq!(entry.ino(), meta.ino(), "{entry:?}");
    }
}

fn large_directories(dir: &Path) {
    let expected: Vec<String> = fill(dir, 2000).into_iter().collect();
    assert!(names(dir) == expected);
}

fn seekdir_returns_to_a_place(dir: &Path) {
    fill(dir, 500);
    let mut open = Dir::read_from(File::open(dir).unwrap()).unwrap();
    let all = read(&mut open);
    assert_eq!(all.len(), 502);
    for at in [0, 1, 100, 333, 500, 501] {
        open.seek(all[at].1).unwrap();
        assert!(read(&mut open) == all[at + 1..], "after entry {at}");
    }
}

fn rewinddir_sees_what_is_new(dir: &Path) {
    fill(dir, 10);
    let mut open = Dir::read_from(File::open(dir).unwrap()).unwrap();
    assert_eq!(read(&mut open).len(), 12);
    File::create(dir.join("new")).unwrap();
    fs::remove_file(dir.join("entry-with-a-longer-name-00003")).unwrap();
    open.rewind();
    let again = read(&mut open);
    assert_eq!(again.len(), 12);
    assert!(again.iter().any(|(name, _)| name == "new"));
}

/// POSIX: what is neither removed nor added while reading is returned exactly once.
fn removing_while_reading(dir: &Path) {
    let all = fill(dir, 1500);
    let mut seen = BTreeSet::new();
    let mut open = Dir::read_from(File::open(dir).unwrap()).unwrap();
    while let Some(entry) = open.read() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        fs::remove_file(dir.join(&name)).unwrap();
        assert!(seen.insert(name.clone()), "{name} twice");
    }
    assert!(seen == all, "{} of {} seen", seen.len(), all.len());
    assert_eq!(names(dir), [""; 0]);
}

fn adding_while_reading(dir: &Path) {
    let all = fill(dir, 600);
    let mut seen = Vec::new();
    let mut open = Dir::read_from(File::open(dir).unwrap()).unwrap();
    while let Some(entry) = open.read() {
        if seen.len() < 50 {
            File::create(dir.join(format!("added-{}", seen.len()))).unwrap();
        }
        seen.push(entry.unwrap().file_name().to_string_lossy().into_owned());
    }
    for name in &all {
        assert_eq!(seen.iter().filter(|seen| *seen == name).count(), 1, "{name}");
    }
}

fn reading_twice_is_the_same(dir: &Path) {
    fill(dir, 300);
    let order = |dir: &Path| -> Vec<_> { fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    assert!(order(dir) == order(dir));
}

fn listing_ends(dir: &Path) {
    fill(dir, 3);
    let mut open = Dir::read_from(File::open(dir).unwrap()).unwrap();
    assert_eq!(read(&mut open).len(), 5);
    assert!(open.read().is_none());
    assert!(open.read().is_none());
}
