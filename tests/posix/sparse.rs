//! Holes: lseek(2) for data and holes, fallocate(2), copy_file_range(2).

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek};
use rustix::io::Errno;

use super::assertions::{lstat, pattern, refused};
use super::case::cases;

cases![
    holes_are_found, seeking_past_the_end_is_enxio, a_file_without_holes_ends_in_one, fallocate_extends, keep_size_keeps_the_size,
    punched_holes_read_zero, zero_range_reads_zero, fallocate_refuses_nonsense, copy_file_range_copies, copy_file_range_stops_at_the_end;
];

const MIB: u64 = 1 << 20;

fn new(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap()
}

fn holes_are_found(dir: &Path) {
    let file = new(&dir.join("f"));
    file.write_all_at(&[1; 65536], 2 * MIB).unwrap();
    file.set_len(4 * MIB).unwrap();
    assert_eq!(seek(&file, SeekFrom::Hole(0)).unwrap(), 0);
    assert_eq!(seek(&file, SeekFrom::Data(0)).unwrap(), 2 * MIB);
    assert_eq!(seek(&file, SeekFrom::Hole(2 * MIB)).unwrap(), 2 * MIB + 65536);
    refused(seek(&file, SeekFrom::Data(3 * MIB)), Errno::NXIO);
}

fn seeking_past_the_end_is_enxio(dir: &Path) {
    let file = new(&dir.join("f"));
    file.write_all_at(b"data", 0).unwrap();
    refused(seek(&file, SeekFrom::Data(4)), Errno::NXIO);
    refused(seek(&file, SeekFrom::Hole(4)), Errno::NXIO);
    refused(seek(&file, SeekFrom::Hole(400)), Errno::NXIO);
}

fn a_file_without_holes_ends_in_one(dir: &Path) {
    fs::write(dir.join("f"), pattern(5000, 0)).unwrap();
    let file = File::open(dir.join("f")).unwrap();
    assert_eq!(seek(&file, SeekFrom::Data(10)).unwrap(), 10);
    assert_eq!(seek(&file, SeekFrom::Hole(10)).unwrap(), 5000);
}

fn fallocate_extends(dir: &Path) {
    let file = new(&dir.join("f"));
    fallocate(&file, FallocateFlags::empty(), 0, MIB).unwrap();
    let meta = lstat(dir.join("f"));
    assert_eq!(meta.len(), MIB);
    assert!(meta.blocks() * 512 >= MIB);
    assert!(fs::read(dir.join("f")).unwrap().iter().all(|&b| b == 0));
}

fn keep_size_keeps_the_size(dir: &Path) {
    let file = new(&dir.join("f"));
    file.write_all_at(b"data", 0).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, MIB).unwrap();
    let meta = lstat(dir.join("f"));
    assert_eq!(meta.len(), 4);
    assert!(meta.blocks() * 512 >= MIB);
}

fn punched_holes_read_zero(dir: &Path) {
    let bytes = pattern(4 * MIB as usize, 2);
    fs::write(dir.join("f"), &bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
    file.sync_all().unwrap();
    let before = lstat(dir.join("f")).blocks();
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, MIB, 2 * MIB).unwrap();
    file.sync_all().unwrap();
    let now = fs::read(dir.join("f")).unwrap();
    let (one, three) = (MIB as usize, 3 * MIB as usize);
    assert_eq!(now.len(), bytes.len());
    assert!(now[..one] == bytes[..one] && now[three..] == bytes[three..] && now[one..three].iter().all(|&b| b == 0));
    assert!(lstat(dir.join("f")).blocks() < before, "nothing was freed");
}

fn zero_range_reads_zero(dir: &Path) {
    let bytes = pattern(20_000, 2);
    fs::write(dir.join("f"), &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
    fallocate(&file, FallocateFlags::ZERO_RANGE, 5_000, 20_000).unwrap();
    let now = fs::read(dir.join("f")).unwrap();
    assert_eq!(now.len(), 25_000);
    assert!(now[..5_000] == bytes[..5_000] && now[5_000..].iter().all(|&b| b == 0));
}

fn fallocate_refuses_nonsense(dir: &Path) {
    let file = new(&dir.join("f"));
    refused(fallocate(&file, FallocateFlags::empty(), 0, 0), Errno::INVAL);
    refused(fallocate(&file, FallocateFlags::PUNCH_HOLE, 0, 10), Errno::OPNOTSUPP);
    let reader = File::open(dir.join("f")).unwrap();
    refused(fallocate(&reader, FallocateFlags::empty(), 0, 10), Errno::BADF);
}

fn copy_file_range_copies(dir: &Path) {
    let bytes = pattern(300_000, 4);
    fs::write(dir.join("a"), &bytes).unwrap();
    let (from, to) = (File::open(dir.join("a")).unwrap(), new(&dir.join("b")));
    let (mut read_at, mut write_at) = (1_000, 500);
    while write_at < 200_500 {
        let left = 200_500 - write_at as usize;
        let n = copy_file_range(&from, Some(&mut read_at), &to, Some(&mut write_at), left).unwrap();
        assert!(n > 0);
    }
    let copied = fs::read(dir.join("b")).unwrap();
    assert_eq!(copied.len(), 200_500);
    assert!(copied[500..] == bytes[1_000..201_000]);
}

fn copy_file_range_stops_at_the_end(dir: &Path) {
    fs::write(dir.join("a"), b"0123456789").unwrap();
    let (from, to) = (File::open(dir.join("a")).unwrap(), new(&dir.join("b")));
    assert_eq!(copy_file_range(&from, None, &to, None, 100).unwrap(), 10);
    assert_eq!(copy_file_range(&from, None, &to, None, 100).unwrap(), 0);
    let reader = File::open(dir.join("b")).unwrap();
    refused(copy_file_range(&from, Some(&mut 0), &reader, None, 1), Errno::BADF);
}
