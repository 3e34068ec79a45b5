//! Inodes that are no regular files, links, and what outlives its name.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::io::Errno;

use super::assertions::{exists, lstat, open, refused};
use super::case::cases;

cases![
    symlinks_keep_their_target, readlink_of_a_file_is_refused, links_are_one_file, links_are_refused_where_they_must_be, link_does_not_follow,
    unlinked_files_live_on, unlinked_files_grow_and_shrink, one_name_of_two_goes, fifos_carry_bytes, sockets_connect, ctime_moves_with_links;
    devices_keep_their_number, every_type_by_mknod, link_of_special_files,
];

/// XFS keeps targets of up to 1023 bytes, the others 4095.
fn symlinks_keep_their_target(dir: &Path) {
    for target in ["x", "/absolute/../path", "with space\n", &"t".repeat(1000)] {
        symlink(target, dir.join("l")).unwrap();
        assert_eq!(fs::read_link(dir.join("l")).unwrap().as_os_str(), target);
        let meta = lstat(dir.join("l"));
        assert!(meta.is_symlink());
        assert_eq!((meta.len(), meta.mode() & 0o7777), (target.len() as u64, 0o777));
        fs::remove_file(dir.join("l")).unwrap();
    }
    refused(symlink("", dir.join("l")), Errno::NOENT);
}

fn readlink_of_a_file_is_refused(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    refused(fs::read_link(dir.join("f")), Errno::INVAL);
    refused(fs::read_link(dir), Errno::INVAL);
}

fn links_are_one_file(dir: &Path) {
    fs::write(dir.join("a"), b"one").unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    fs::hard_link(dir.join("a"), dir.join("d/b")).unwrap();
    OpenOptions::new().append(true).open(dir.join("d/b")).unwrap().write_all(b" two").unwrap();
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"one two");
    let (a, b) = (lstat(dir.join("a")), lstat(dir.join("d/b")));
    assert_eq!((a.ino(), a.nlink(), a.len()), (b.ino(), 2, 7));
    assert_eq!(b.nlink(), 2);
}

fn links_are_refused_where_they_must_be(dir: &Path) {
    fs::write(dir.join("a"), b"").unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    refused(fs::hard_link(dir.join("a"), dir.join("d")), Errno::EXIST);
    refused(fs::hard_link(dir.join("a"), dir.join("a")), Errno::EXIST);
    refused(fs::hard_link(dir.join("none"), dir.join("b")), Errno::NOENT);
    refused(fs::hard_link(dir.join("d"), dir.join("b")), Errno::PERM);
    assert_eq!(lstat(dir.join("a")).nlink(), 1);
}

fn link_does_not_follow(dir: &Path) {
    symlink("nowhere", dir.join("l")).unwrap();
    fs::hard_link(dir.join("l"), dir.join("m")).unwrap();
    assert!(lstat(dir.join("m")).is_symlink());
    assert_eq!((lstat(dir.join("m")).ino(), lstat(dir.join("l")).nlink()), (lstat(dir.join("l")).ino(), 2));
}

fn unlinked_files_live_on(dir: &Path) {
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("f")).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(dir.join("f")).unwrap();
    file.write_all(b" after").unwrap();
    let mut bytes = [0; 12];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"before after");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    fs::write(dir.join("f"), b"another").unwrap();
    assert_ne!(file.metadata().unwrap().ino(), lstat(dir.join("f")).ino());
    assert_eq!(file.metadata().unwrap().len(), 12);
}

fn unlinked_files_grow_and_shrink(dir: &Path) {
    let file = File::create(dir.join("f")).unwrap();
    fs::remove_file(dir.join("f")).unwrap();
    file.set_len(1000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1000);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    file.sync_all().unwrap();
}

fn one_name_of_two_goes(dir: &Path) {
    fs::write(dir.join("a"), b"kept").unwrap();
    fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    fs::remove_file(dir.join("a")).unwrap();
    assert!(!exists(dir.join("a")));
    assert_eq!((fs::read(dir.join("b")).unwrap().as_slice(), lstat(dir.join("b")).nlink()), (&b"kept"[..], 1));
}

fn fifos_carry_bytes(dir: &Path) {
    let path = dir.join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert!(lstat(&path).file_type().is_fifo());
    refused(open(&path, OFlags::WRONLY | OFlags::NONBLOCK), Errno::NXIO);
    let mut reader = open(&path, OFlags::RDONLY | OFlags::NONBLOCK).unwrap();
    let mut writer = open(&path, OFlags::WRONLY).unwrap();
    writer.write_all(b"through").unwrap();
    let mut seven = [0; 7];
    reader.read_exact(&mut seven).unwrap();
    assert_eq!(&seven, b"through");
}

fn sockets_connect(dir: &Path) {
    // sun_path holds 108 bytes; the way through /proc keeps the name short.
    let parent = File::open(dir).unwrap();
    let path = format!("/proc/self/fd/{}/socket", std::os::fd::AsRawFd::as_raw_fd(&parent));
    let listener = UnixListener::bind(&path).unwrap();
    assert!(lstat(dir.join("socket")).file_type().is_socket());
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"hello").unwrap();
    let mut five = [0; 5];
    listener.accept().unwrap().0.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"hello");
    refused(open(dir.join("socket"), OFlags::RDONLY), Errno::NXIO);
    refused(UnixListener::bind(&path), Errno::ADDRINUSE);
}

fn ctime_moves_with_links(dir: &Path) {
    fs::write(dir.join("a"), b"x").unwrap();
    let before = lstat(dir.join("a"));
    std::thread::sleep(std::time::Duration::from_millis(15));
    fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    let after = lstat(dir.join("a"));
    assert!((after.ctime(), after.ctime_nsec()) > (before.ctime(), before.ctime_nsec()));
    assert_eq!((after.mtime(), after.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
}

fn devices_keep_their_number(dir: &Path) {
    for (kind, major, minor) in
        [(FileType::CharacterDevice, 1, 3), (FileType::BlockDevice, 7, 300), (FileType::CharacterDevice, 300, 70_000)]
    {
        let path = dir.join(format!("{major}-{minor}"));
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), makedev(major, minor)).unwrap();
        let meta = lstat(&path);
        assert_eq!(meta.rdev(), makedev(major, minor));
        assert_eq!(FileType::from_raw_mode(meta.mode()), kind);
        assert_eq!(meta.mode() & 0o7777, 0o640);
    }
    let mut null = OpenOptions::new().write(true).open(dir.join("1-3")).unwrap();
    null.write_all(b"gone").unwrap();
}

fn every_type_by_mknod(dir: &Path) {
    let mode = Mode::from_raw_mode(0o600);
    for kind in [FileType::RegularFile, FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice] {
        let path = dir.join(format!("{kind:?}"));
        mknodat(CWD, &path, kind, mode, makedev(5, 1)).unwrap();
        assert_eq!(FileType::from_raw_mode(lstat(&path).mode()), kind);
        refused(mknodat(CWD, &path, kind, mode, 0), Errno::EXIST);
    }
    refused(mknodat(CWD, dir.join("d"), FileType::Directory, mode, 0), Errno::PERM);
}

fn link_of_special_files(dir: &Path) {
    mknodat(CWD, dir.join("p"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    mknodat(CWD, dir.join("c"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 5)).unwrap();
    for name in ["p", "c"] {
        fs::hard_link(dir.join(name), dir.join(format!("{name}2"))).unwrap();
        assert_eq!(lstat(dir.join(name)).nlink(), 2);
        fs::remove_file(dir.join(name)).unwrap();
        assert_eq!(lstat(dir.join(format!("{name}2"))).nlink(), 1);
    }
}
