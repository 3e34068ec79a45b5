//! open(2) and its flags.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::assertions::{exists, lstat, open, refused};
use super::case::cases;

cases![
    create_makes_an_empty_file, excl_refuses_what_exists, excl_refuses_a_dangling_symlink, create_follows_a_dangling_symlink,
    trunc_empties, trunc_needs_no_create, append_writes_at_the_end, nofollow_refuses_a_symlink, directory_refuses_a_file,
    writing_a_directory_is_refused, missing_names_are_enoent, a_file_is_no_directory, tmpfile_can_be_linked, path_descriptors_read_nothing,
    trailing_slash_wants_a_directory, read_only_descriptor_refuses_write, dotdot_leads_up, reopen_by_proc;
];

fn create_makes_an_empty_file(dir: &Path) {
    drop(open(dir.join("f"), OFlags::CREATE | OFlags::WRONLY).unwrap());
    let meta = lstat(dir.join("f"));
    assert!(meta.is_file());
    assert_eq!((meta.len(), meta.nlink(), meta.blocks()), (0, 1, 0));
}

fn excl_refuses_what_exists(dir: &Path) {
    let excl = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    drop(open(dir.join("f"), excl).unwrap());
    refused(open(dir.join("f"), excl), Errno::EXIST);
    fs::create_dir(dir.join("d")).unwrap();
    refused(open(dir.join("d"), excl), Errno::EXIST);
}

fn excl_refuses_a_dangling_symlink(dir: &Path) {
    symlink("nowhere", dir.join("l")).unwrap();
    refused(open(dir.join("l"), OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY), Errno::EXIST);
    assert!(!exists(dir.join("nowhere")));
}

fn create_follows_a_dangling_symlink(dir: &Path) {
    symlink("target", dir.join("l")).unwrap();
    drop(open(dir.join("l"), OFlags::CREATE | OFlags::WRONLY).unwrap());
    assert!(lstat(dir.join("target")).is_file());
    assert!(lstat(dir.join("l")).is_symlink());
}

fn trunc_empties(dir: &Path) {
    fs::write(dir.join("f"), b"something").unwrap();
    let file = open(dir.join("f"), OFlags::TRUNC | OFlags::RDWR).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"");
}

fn trunc_needs_no_create(dir: &Path) {
    refused(open(dir.join("f"), OFlags::TRUNC | OFlags::WRONLY), Errno::NOENT);
    assert!(!exists(dir.join("f")));
}

fn append_writes_at_the_end(dir: &Path) {
    fs::write(dir.join("f"), b"one").unwrap();
    let mut file = open(dir.join("f"), OFlags::APPEND | OFlags::WRONLY).unwrap();
    file.write_all(b" two").unwrap();
    fs::OpenOptions::new().append(true).open(dir.join("f")).unwrap().write_all(b" three").unwrap();
    file.write_all(b" four").unwrap();
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"one two three four");
}

fn nofollow_refuses_a_symlink(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    symlink("f", dir.join("l")).unwrap();
    refused(open(dir.join("l"), OFlags::NOFOLLOW | OFlags::RDONLY), Errno::LOOP);
    drop(open(dir.join("f"), OFlags::NOFOLLOW | OFlags::RDONLY).unwrap());
}

fn directory_refuses_a_file(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    refused(open(dir.join("f"), OFlags::DIRECTORY | OFlags::RDONLY), Errno::NOTDIR);
    drop(open(dir, OFlags::DIRECTORY | OFlags::RDONLY).unwrap());
}

fn writing_a_directory_is_refused(dir: &Path) {
    refused(open(dir, OFlags::WRONLY), Errno::ISDIR);
    refused(open(dir, OFlags::RDWR), Errno::ISDIR);
    let mut byte = [0];
    refused(open(dir, OFlags::RDONLY).unwrap().read(&mut byte), Errno::ISDIR);
}

fn missing_names_are_enoent(dir: &Path) {
    refused(open(dir.join("f"), OFlags::RDONLY), Errno::NOENT);
    refused(open(dir.join("d/f"), OFlags::RDONLY | OFlags::CREATE), Errno::NOENT);
    refused(fs::symlink_metadata(dir.join("f")), Errno::NOENT);
    refused(fs::remove_file(dir.join("f")), Errno::NOENT);
}

fn a_file_is_no_directory(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    refused(open(dir.join("f/g"), OFlags::RDONLY), Errno::NOTDIR);
    refused(fs::create_dir(dir.join("f/g")), Errno::NOTDIR);
    refused(fs::symlink_metadata(dir.join("f/g")), Errno::NOTDIR);
    refused(fs::remove_dir(dir.join("f")), Errno::NOTDIR);
    refused(fs::read_dir(dir.join("f")).map(drop), Errno::NOTDIR);
}

/// File systems may lack O_TMPFILE (FUSE servers mostly do); then it is refused and leaves nothing.
fn tmpfile_can_be_linked(dir: &Path) {
    let mut file = match open(dir, OFlags::TMPFILE | OFlags::RDWR) {
        Err(Errno::OPNOTSUPP) => return assert_eq!(fs::read_dir(dir).unwrap().count(), 0),
        file => file.unwrap(),
    };
    file.write_all(b"nameless").unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    rustix::fs::linkat(rustix::fs::CWD, name, rustix::fs::CWD, dir.join("f"), follow).unwrap();
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"nameless");
    assert_eq!(file.metadata().unwrap().nlink(), 1);
}

fn path_descriptors_read_nothing(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    let mut file = open(dir.join("f"), OFlags::PATH).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1);
    let mut byte = [0];
    refused(file.read(&mut byte), Errno::BADF);
}

fn trailing_slash_wants_a_directory(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    refused(open(dir.join("f/"), OFlags::RDONLY), Errno::NOTDIR);
    refused(open(dir.join("new/"), OFlags::CREATE | OFlags::WRONLY), Errno::ISDIR);
    fs::create_dir(dir.join("d/")).unwrap();
    fs::remove_dir(dir.join("d/")).unwrap();
}

fn read_only_descriptor_refuses_write(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    let mut reader = File::open(dir.join("f")).unwrap();
    refused(reader.write(b"y"), Errno::BADF);
    refused(reader.set_len(0), Errno::INVAL);
    let mut writer = open(dir.join("f"), OFlags::WRONLY).unwrap();
    let mut byte = [0];
    refused(writer.read(&mut byte), Errno::BADF);
}

fn dotdot_leads_up(dir: &Path) {
    fs::create_dir_all(dir.join("a/b/c")).unwrap();
    assert_eq!(lstat(dir.join("a/b/c/../..")).ino(), lstat(dir.join("a")).ino());
    assert_eq!(lstat(dir.join("a/b/c/.")).ino(), lstat(dir.join("a/b/c")).ino());
}

fn reopen_by_proc(dir: &Path) {
    fs::write(dir.join("f"), b"x").unwrap();
    let reader = File::open(dir.join("f")).unwrap();
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    fs::OpenOptions::new().append(true).open(name).unwrap().write_all(b"y").unwrap();
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"xy");
}
