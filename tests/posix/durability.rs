//! fsync(2) and its kin, and statfs(2). That calls succeed and nothing is lost by them; crashes are tested elsewhere.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rustix::fs::{OFlags, fdatasync, fsync, statvfs, syncfs};

use super::assertions::{lstat, open, pattern};
use super::case::cases;

cases![
    files_sync, directories_sync, synchronous_writes, read_only_descriptors_sync, whole_file_system_syncs, statfs_tells_of_space,
    written_space_is_counted;
];

fn files_sync(dir: &Path) {
    let bytes = pattern(200_000, 1);
    let mut file = File::create(dir.join("f")).unwrap();
    file.write_all(&bytes[..100_000]).unwrap();
    fsync(&file).unwrap();
    file.write_all(&bytes[100_000..]).unwrap();
    fdatasync(&file).unwrap();
    assert!(fs::read(dir.join("f")).unwrap() == bytes);
}

fn directories_sync(dir: &Path) {
    File::create(dir.join("f")).unwrap();
    fsync(File::open(dir).unwrap()).unwrap();
    fdatasync(File::open(dir).unwrap()).unwrap();
    assert!(lstat(dir.join("f")).is_file());
}

fn synchronous_writes(dir: &Path) {
    for flag in [OFlags::SYNC, OFlags::DSYNC] {
        let mut file = open(dir.join("f"), OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | flag).unwrap();
        file.write_all(b"durable").unwrap();
        assert_eq!(fs::read(dir.join("f")).unwrap(), b"durable");
    }
}

fn read_only_descriptors_sync(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    fsync(File::open(dir.join("f")).unwrap()).unwrap();
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"x");
}

fn whole_file_system_syncs(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    syncfs(File::open(dir.join("f")).unwrap()).unwrap();
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"x");
}

fn statfs_tells_of_space(dir: &Path) {
    let space = statvfs(dir).unwrap();
    assert!(space.f_blocks > 0 && space.f_bfree > 0 && space.f_bavail > 0);
    assert!(space.f_bfree <= space.f_blocks && space.f_bavail <= space.f_bfree);
    assert!(space.f_namemax == 255 && space.f_bsize >= 512);
}

fn written_space_is_counted(dir: &Path) {
    let before = statvfs(dir).unwrap();
    let file = File::create(dir.join("f")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 16 << 20).unwrap();
    fsync(&file).unwrap();
    syncfs(&file).unwrap();
    let after = statvfs(dir).unwrap();
    let used = (before.f_bfree - after.f_bfree) * before.f_frsize;
    assert!((15 << 20..40 << 20).contains(&used), "{used} bytes used by 16 MiB");
}
