//! Names: directories, length limits, odd bytes, symbolic links in paths.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::io::Errno;

use super::assertions::{exists, lstat, names, refused};
use super::case::cases;

cases![
    mkdir_makes_an_empty_directory, mkdir_refuses_what_exists, rmdir_refuses_a_full_directory, rmdir_refuses_dot, directories_count_their_children,
    names_of_255_bytes, any_byte_but_slash_and_nul, names_differ_by_case, symlink_chains_end, symlinks_in_the_middle, long_paths_are_refused,
    removed_directory_is_empty_and_closed, an_empty_name_is_enoent, create_remove_create, a_directory_changes_with_its_entries;
];

fn mkdir_makes_an_empty_directory(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    assert!(lstat(dir.join("d")).is_dir());
    assert_eq!(names(dir.join("d")), [""; 0]);
    refused(fs::create_dir(dir.join("no/d")), Errno::NOENT);
}

fn mkdir_refuses_what_exists(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    refused(fs::create_dir(dir.join("d")), Errno::EXIST);
    fs::write(dir.join("f"), b"").unwrap();
    refused(fs::create_dir(dir.join("f")), Errno::EXIST);
    symlink("nowhere", dir.join("l")).unwrap();
    refused(fs::create_dir(dir.join("l")), Errno::EXIST);
}

fn rmdir_refuses_a_full_directory(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).unwrap();
    refused(fs::remove_dir(dir.join("d")), Errno::NOTEMPTY);
    refused(fs::remove_file(dir.join("d")), Errno::ISDIR);
    fs::remove_dir(dir.join("d/e")).unwrap();
    fs::remove_dir(dir.join("d")).unwrap();
    refused(fs::remove_dir(dir.join("d")), Errno::NOENT);
}

fn rmdir_refuses_dot(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).unwrap();
    refused(rustix::fs::rmdir(dir.join("d/e/.")), Errno::INVAL);
    refused(rustix::fs::rmdir(dir.join("d/e/..")), Errno::NOTEMPTY);
}

/// File systems that do not count subdirectories say 1 (as btrfs and overlayfs do).
fn directories_count_their_children(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    let empty = lstat(dir.join("d")).nlink();
    fs::create_dir(dir.join("d/e")).unwrap();
    let one = lstat(dir.join("d")).nlink();
    assert!((empty, one) == (2, 3) || (empty, one) == (1, 1), "{empty} links, then {one}");
}

fn names_of_255_bytes(dir: &Path) {
    let longest = "n".repeat(255);
    fs::write(dir.join(&longest), b"x").unwrap();
    fs::create_dir(dir.join("m".repeat(255))).unwrap();
    assert_eq!(names(dir), ["m".repeat(255), longest]);
    let longer = dir.join("n".repeat(256));
    refused(File::create(&longer), Errno::NAMETOOLONG);
    refused(fs::symlink_metadata(&longer), Errno::NAMETOOLONG);
    refused(fs::create_dir(&longer), Errno::NAMETOOLONG);
    refused(symlink("x", &longer), Errno::NAMETOOLONG);
    refused(fs::rename(dir.join("m".repeat(255)), &longer), Errno::NAMETOOLONG);
}

fn any_byte_but_slash_and_nul(dir: &Path) {
    for byte in (1..=255_u8).filter(|&byte| byte != b'/') {
        let name = [b'x', byte, b'y'];
        fs::write(dir.join(OsStr::from_bytes(&name)), [byte]).unwrap();
    }
    let mut seen = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(fs::read(dir.join(&name)).unwrap(), [name.as_bytes()[1]]);
        seen += 1;
    }
    assert_eq!(seen, 254);
}

fn names_differ_by_case(dir: &Path) {
    fs::write(dir.join("a"), b"small").unwrap();
    fs::write(dir.join("A"), b"big").unwrap();
    assert_eq!(fs::read(dir.join("a")).unwrap(), b"small");
}

fn symlink_chains_end(dir: &Path) {
    symlink("b", dir.join("a")).unwrap();
    symlink("a", dir.join("b")).unwrap();
    refused(File::open(dir.join("a")), Errno::LOOP);
    refused(fs::metadata(dir.join("a/x")), Errno::LOOP);
}

fn symlinks_in_the_middle(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).unwrap();
    fs::write(dir.join("d/e/f"), b"deep").unwrap();
    symlink("d", dir.join("l")).unwrap();
    symlink("../e", dir.join("d/e/up")).unwrap();
    assert_eq!(fs::read(dir.join("l/e/f")).unwrap(), b"deep");
    assert_eq!(fs::read(dir.join("l/e/up/up/f")).unwrap(), b"deep");
    symlink(dir.join("d/e"), dir.join("absolute")).unwrap();
    assert_eq!(fs::read(dir.join("absolute/f")).unwrap(), b"deep");
}

fn long_paths_are_refused(dir: &Path) {
    let long = dir.join("./".repeat(2100)).join("f");
    refused(File::create(&long), Errno::NAMETOOLONG);
    refused(symlink("x".repeat(4096), dir.join("l")), Errno::NAMETOOLONG);
}

fn removed_directory_is_empty_and_closed(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    let gone = File::open(dir.join("d")).unwrap();
    fs::remove_dir(dir.join("d")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    refused(rustix::fs::openat(&gone, "f", flags, mode), Errno::NOENT);
    refused(rustix::fs::mkdirat(&gone, "e", mode), Errno::NOENT);
    let left = rustix::fs::Dir::read_from(&gone).unwrap().map(|entry| entry.unwrap().file_name().to_owned());
    assert_eq!(left.filter(|name| name.to_bytes().first() != Some(&b'.')).count(), 0);
}

fn an_empty_name_is_enoent(_dir: &Path) {
    refused(rustix::fs::stat(""), Errno::NOENT);
    refused(rustix::fs::mkdir("", rustix::fs::Mode::RWXU), Errno::NOENT);
}

fn create_remove_create(dir: &Path) {
    for round in 0..20_u8 {
        fs::write(dir.join("f"), [round]).unwrap();
        assert_eq!(fs::read(dir.join("f")).unwrap(), [round]);
        fs::remove_file(dir.join("f")).unwrap();
        assert!(!exists(dir.join("f")));
        fs::create_dir(dir.join("f")).unwrap();
        fs::remove_dir(dir.join("f")).unwrap();
        assert!(!exists(dir.join("f")));
    }
}

fn a_directory_changes_with_its_entries(dir: &Path) {
    let changes: [&dyn Fn(); 4] = [
        &|| fs::write(dir.join("f"), b"").unwrap(),
        &|| fs::rename(dir.join("f"), dir.join("g")).unwrap(),
        &|| fs::hard_link(dir.join("g"), dir.join("h")).unwrap(),
        &|| fs::remove_file(dir.join("h")).unwrap(),
    ];
    for change in changes {
        let before = lstat(dir);
        std::thread::sleep(std::time::Duration::from_millis(15));
        change();
        let after = lstat(dir);
        assert!((after.mtime(), after.mtime_nsec()) > (before.mtime(), before.mtime_nsec()), "mtime stands still");
        assert!((after.ctime(), after.ctime_nsec()) > (before.ctime(), before.ctime_nsec()), "ctime stands still");
    }
}
