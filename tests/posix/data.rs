//! Reading, writing, and the length of files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::assertions::{lstat, open, pattern, refused};
use super::case::cases;

cases![
    written_bytes_read_back, pread_and_pwrite_leave_the_offset, reads_past_the_end_are_short, a_write_past_the_end_leaves_zeros,
    truncate_down_and_up, truncate_of_a_directory_is_refused, ftruncate_is_seen_by_other_descriptors, negative_length_is_refused,
    overwrite_in_the_middle, appenders_never_overwrite, vectored_io, writes_are_seen_at_once, seek_end_follows_growth, o_direct_if_offered,
    large_offsets, many_small_writes;
];

fn written_bytes_read_back(dir: &Path) {
    for len in [0, 1, 4095, 4096, 4097, 131_071, 131_073, 1_500_000] {
        let bytes = pattern(len, 7);
        fs::write(dir.join("f"), &bytes).unwrap();
        assert_eq!(lstat(dir.join("f")).len(), len as u64);
        assert!(fs::read(dir.join("f")).unwrap() == bytes, "{len} bytes");
    }
}

fn pread_and_pwrite_leave_the_offset(dir: &Path) {
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("f")).unwrap();
    file.write_all(b"0123456789").unwrap();
    file.write_all_at(b"ab", 3).unwrap();
    let mut two = [0; 2];
    file.read_exact_at(&mut two, 2).unwrap();
    assert_eq!(&two, b"2a");
    assert_eq!(file.stream_position().unwrap(), 10);
}

fn reads_past_the_end_are_short(dir: &Path) {
    fs::write(dir.join("f"), b"12345").unwrap();
    let file = File::open(dir.join("f")).unwrap();
    let mut buffer = [9; 8];
    assert_eq!(file.read_at(&mut buffer, 3).unwrap(), 2);
    assert_eq!(&buffer, b"45\x09\x09\x09\x09\x09\x09");
    assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
}

fn a_write_past_the_end_leaves_zeros(dir: &Path) {
    let file = File::create(dir.join("f")).unwrap();
    file.write_all_at(b"end", 10_000).unwrap();
    let bytes = fs::read(dir.join("f")).unwrap();
    assert_eq!(bytes.len(), 10_003);
    assert!(bytes[..10_000].iter().all(|&b| b == 0));
    assert_eq!(&bytes[10_000..], b"end");
}

fn truncate_down_and_up(dir: &Path) {
    let bytes = pattern(10_000, 1);
    fs::write(dir.join("f"), &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(dir.join("f")).unwrap();
    file.set_len(5_000).unwrap();
    file.set_len(12_000).unwrap();
    let now = fs::read(dir.join("f")).unwrap();
    assert_eq!(now.len(), 12_000);
    assert!(now[..5_000] == bytes[..5_000] && now[5_000..].iter().all(|&b| b == 0));
}

fn truncate_of_a_directory_is_refused(dir: &Path) {
    refused(open(dir, OFlags::TRUNC | OFlags::RDONLY), Errno::ISDIR);
}

fn ftruncate_is_seen_by_other_descriptors(dir: &Path) {
    fs::write(dir.join("f"), b"0123456789").unwrap();
    let mut reader = File::open(dir.join("f")).unwrap();
    let mut five = [0; 5];
    reader.read_exact(&mut five).unwrap();
    OpenOptions::new().write(true).open(dir.join("f")).unwrap().set_len(3).unwrap();
    assert_eq!(reader.read(&mut five).unwrap(), 0);
    assert_eq!(reader.metadata().unwrap().len(), 3);
}

fn negative_length_is_refused(dir: &Path) {
    let file = File::create(dir.join("f")).unwrap();
    refused(rustix::fs::ftruncate(&file, u64::MAX), Errno::INVAL);
    assert_eq!(lstat(dir.join("f")).len(), 0);
}

fn overwrite_in_the_middle(dir: &Path) {
    let mut bytes = pattern(300_000, 3);
    fs::write(dir.join("f"), &bytes).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
    for at in [0, 4_090, 131_070, 299_990] {
        file.write_all_at(b"0123456789", at as u64).unwrap();
        bytes[at..at + 10].copy_from_slice(b"0123456789");
    }
    assert!(fs::read(dir.join("f")).unwrap() == bytes);
}

fn appenders_never_overwrite(dir: &Path) {
    const EACH: usize = 200;
    let path = &dir.join("f");
    File::create(path).unwrap();
    std::thread::scope(|scope| {
        for who in 0..4_u8 {
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                (0..EACH).for_each(|_| file.write_all(&[b'a' + who; 64]).unwrap());
            });
        }
    });
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len(), 4 * EACH * 64);
    assert!(bytes.chunks(64).all(|record| record.iter().all(|b| *b == record[0])), "records are torn");
}

fn vectored_io(dir: &Path) {
    use std::io::{IoSlice, IoSliceMut};
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(dir.join("f")).unwrap();
    assert_eq!(file.write_vectored(&[IoSlice::new(b"abc"), IoSlice::new(b"de")]).unwrap(), 5);
    file.seek(SeekFrom::Start(0)).unwrap();
    let (mut one, mut rest) = ([0; 1], [0; 9]);
    assert_eq!(file.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut rest)]).unwrap(), 5);
    assert_eq!((&one, &rest[..4]), (b"a", &b"bcde"[..]));
}

fn writes_are_seen_at_once(dir: &Path) {
    let writer = File::create(dir.join("f")).unwrap();
    let reader = File::open(dir.join("f")).unwrap();
    for i in 0..50_u64 {
        writer.write_all_at(&i.to_le_bytes(), i * 8).unwrap();
        let mut eight = [0; 8];
        reader.read_exact_at(&mut eight, i * 8).unwrap();
        assert_eq!(u64::from_le_bytes(eight), i);
        assert_eq!(lstat(dir.join("f")).len(), (i + 1) * 8);
    }
}

fn seek_end_follows_growth(dir: &Path) {
    fs::write(dir.join("f"), b"123").unwrap();
    let mut reader = File::open(dir.join("f")).unwrap();
    assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 3);
    OpenOptions::new().append(true).open(dir.join("f")).unwrap().write_all(b"45").unwrap();
    assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), 5);
    refused(reader.seek(SeekFrom::Current(-9)), Errno::INVAL);
}

fn o_direct_if_offered(dir: &Path) {
    let bytes = pattern(8192, 9);
    fs::write(dir.join("f"), &bytes).unwrap();
    match open(dir.join("f"), OFlags::RDONLY | OFlags::DIRECT) {
        Err(e) => assert_eq!(e, Errno::INVAL),
        Ok(file) => {
            let mut aligned = vec![0; 3 * 4096];
            let start = aligned.as_ptr().align_offset(4096);
            file.read_exact_at(&mut aligned[start..start + 8192], 0).unwrap();
            assert!(aligned[start..start + 8192] == bytes);
        }
    }
}

fn large_offsets(dir: &Path) {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("f")).unwrap();
    let far = (5_u64 << 30) + 123;
    file.write_all_at(b"far", far).unwrap();
    assert_eq!(lstat(dir.join("f")).len(), far + 3);
    let mut six = [1; 6];
    file.read_exact_at(&mut six, far - 3).unwrap();
    assert_eq!(&six, b"\0\0\0far");
    assert!(std::os::unix::fs::MetadataExt::blocks(&lstat(dir.join("f"))) < 1000, "the hole is not kept");
}

fn many_small_writes(dir: &Path) {
    let bytes = pattern(20_000, 5);
    let mut file = File::create(dir.join("f")).unwrap();
    for piece in bytes.chunks(7) {
        file.write_all(piece).unwrap();
    }
    assert!(fs::read(dir.join("f")).unwrap() == bytes);
}
