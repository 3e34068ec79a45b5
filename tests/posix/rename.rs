//! rename(2), renameat2(2).

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::assertions::{exists, lstat, names, refused};
use super::case::cases;

cases![
    a_file_moves, over_a_file, the_replaced_file_lives_on, over_its_own_link_does_nothing, a_directory_moves_with_its_content,
    over_an_empty_directory, over_a_full_directory_is_refused, into_itself_is_refused, types_must_match, missing_source, noreplace,
    exchange_of_files, exchange_of_file_and_directory, exchange_needs_both, nonsense_flags, symlinks_are_moved_not_followed,
    between_directories_updates_dotdot, case_and_back, open_directory_follows_its_move;
];

fn flags(from: &Path, to: &Path, flags: RenameFlags) -> rustix::io::Result<()> {
    renameat_with(CWD, from, CWD, to, flags)
}

fn a_file_moves(dir: &Path) {
    fs::write(dir.join("a"), b"x").unwrap();
    let ino = lstat(dir.join("a")).ino();
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    assert_eq!(names(dir), ["b"]);
    assert_eq!((lstat(dir.join("b")).ino(), fs::read(dir.join("b")).unwrap().as_slice()), (ino, &b"x"[..]));
}

fn over_a_file(dir: &Path) {
    fs::write(dir.join("a"), b"new").unwrap();
    fs::write(dir.join("b"), b"old").unwrap();
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    assert_eq!(names(dir), ["b"]);
    assert_eq!(fs::read(dir.join("b")).unwrap(), b"new");
}

fn the_replaced_file_lives_on(dir: &Path) {
    fs::write(dir.join("a"), b"new").unwrap();
    fs::write(dir.join("b"), b"old").unwrap();
    let mut old = File::open(dir.join("b")).unwrap();
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), old.metadata().unwrap().nlink()), ("old", 0));
}

fn over_its_own_link_does_nothing(dir: &Path) {
    fs::write(dir.join("a"), b"x").unwrap();
    fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    fs::rename(dir.join("a"), dir.join("a")).unwrap();
    assert_eq!(names(dir), ["a", "b"]);
    assert_eq!(lstat(dir.join("a")).nlink(), 2);
}

fn a_directory_moves_with_its_content(dir: &Path) {
    fs::create_dir_all(dir.join("a/b/c")).unwrap();
    fs::write(dir.join("a/b/f"), b"x").unwrap();
    fs::rename(dir.join("a"), dir.join("z")).unwrap();
    assert!(!exists(dir.join("a")));
    assert_eq!(fs::read(dir.join("z/b/f")).unwrap(), b"x");
    assert_eq!(names(dir.join("z/b")), ["c", "f"]);
}

fn over_an_empty_directory(dir: &Path) {
    fs::create_dir_all(dir.join("a/x")).unwrap();
    fs::create_dir(dir.join("b")).unwrap();
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    assert_eq!((names(dir), names(dir.join("b"))), (vec!["b".to_owned()], vec!["x".to_owned()]));
}

/// rename(2) allows both errors: XFS says EEXIST, the others ENOTEMPTY.
fn over_a_full_directory_is_refused(dir: &Path) {
    fs::create_dir_all(dir.join("a/x")).unwrap();
    fs::create_dir_all(dir.join("b/y")).unwrap();
    let error = fs::rename(dir.join("a"), dir.join("b")).unwrap_err();
    assert!([Some(libc::ENOTEMPTY), Some(libc::EEXIST)].contains(&error.raw_os_error()), "{error}");
    assert!(exists(dir.join("a/x")) && exists(dir.join("b/y")));
}

fn into_itself_is_refused(dir: &Path) {
    fs::create_dir_all(dir.join("a/b")).unwrap();
    refused(fs::rename(dir.join("a"), dir.join("a/b/c")), Errno::INVAL);
    refused(fs::rename(dir.join("a"), dir.join("a/c")), Errno::INVAL);
    refused(fs::rename(dir.join("a/b"), dir.join("a")), Errno::NOTEMPTY);
}

fn types_must_match(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    fs::write(dir.join("f"), b"").unwrap();
    refused(fs::rename(dir.join("f"), dir.join("d")), Errno::ISDIR);
    refused(fs::rename(dir.join("d"), dir.join("f")), Errno::NOTDIR);
    assert!(lstat(dir.join("d")).is_dir() && lstat(dir.join("f")).is_file());
}

fn missing_source(dir: &Path) {
    refused(fs::rename(dir.join("a"), dir.join("b")), Errno::NOENT);
    fs::write(dir.join("f"), b"").unwrap();
    refused(fs::rename(dir.join("f"), dir.join("no/b")), Errno::NOENT);
    refused(fs::rename(dir.join("f"), dir.join("f/b")), Errno::NOTDIR);
}

fn noreplace(dir: &Path) {
    fs::write(dir.join("a"), b"a").unwrap();
    fs::write(dir.join("b"), b"b").unwrap();
    refused(flags(&dir.join("a"), &dir.join("b"), RenameFlags::NOREPLACE), Errno::EXIST);
    assert_eq!(fs::read(dir.join("b")).unwrap(), b"b");
    flags(&dir.join("a"), &dir.join("c"), RenameFlags::NOREPLACE).unwrap();
    assert_eq!(names(dir), ["b", "c"]);
}

fn exchange_of_files(dir: &Path) {
    fs::write(dir.join("a"), b"a").unwrap();
    fs::write(dir.join("b"), b"b").unwrap();
    let (a, b) = (lstat(dir.join("a")).ino(), lstat(dir.join("b")).ino());
    flags(&dir.join("a"), &dir.join("b"), RenameFlags::EXCHANGE).unwrap();
    assert_eq!((fs::read(dir.join("a")).unwrap(), fs::read(dir.join("b")).unwrap()), (b"b".to_vec(), b"a".to_vec()));
    assert_eq!((lstat(dir.join("a")).ino(), lstat(dir.join("b")).ino()), (b, a));
}

fn exchange_of_file_and_directory(dir: &Path) {
    fs::write(dir.join("f"), b"file").unwrap();
    fs::create_dir_all(dir.join("d/e/x")).unwrap();
    flags(&dir.join("f"), &dir.join("d/e"), RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(dir.join("d/e")).unwrap(), b"file");
    assert_eq!(names(dir.join("f")), ["x"]);
    refused(flags(&dir.join("d"), &dir.join("d/e"), RenameFlags::EXCHANGE), Errno::INVAL);
}

fn exchange_needs_both(dir: &Path) {
    fs::write(dir.join("a"), b"a").unwrap();
    refused(flags(&dir.join("a"), &dir.join("b"), RenameFlags::EXCHANGE), Errno::NOENT);
    refused(flags(&dir.join("b"), &dir.join("a"), RenameFlags::EXCHANGE), Errno::NOENT);
    assert_eq!(names(dir), ["a"]);
}

fn nonsense_flags(dir: &Path) {
    fs::write(dir.join("a"), b"a").unwrap();
    let both = RenameFlags::EXCHANGE | RenameFlags::NOREPLACE;
    refused(flags(&dir.join("a"), &dir.join("b"), both), Errno::INVAL);
    refused(flags(&dir.join("a"), &dir.join("b"), RenameFlags::from_bits_retain(1 << 20)), Errno::INVAL);
    assert_eq!(names(dir), ["a"]);
}

fn symlinks_are_moved_not_followed(dir: &Path) {
    fs::write(dir.join("f"), b"kept").unwrap();
    symlink("f", dir.join("l")).unwrap();
    fs::rename(dir.join("l"), dir.join("m")).unwrap();
    assert!(lstat(dir.join("m")).is_symlink());
    fs::write(dir.join("g"), b"new").unwrap();
    fs::rename(dir.join("g"), dir.join("m")).unwrap();
    assert!(lstat(dir.join("m")).is_file());
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"kept");
}

fn between_directories_updates_dotdot(dir: &Path) {
    fs::create_dir_all(dir.join("a/moved")).unwrap();
    fs::create_dir(dir.join("b")).unwrap();
    fs::rename(dir.join("a/moved"), dir.join("b/moved")).unwrap();
    assert_eq!(lstat(dir.join("b/moved/..")).ino(), lstat(dir.join("b")).ino());
}

fn case_and_back(dir: &Path) {
    fs::write(dir.join("name"), b"x").unwrap();
    for _ in 0..20 {
        fs::rename(dir.join("name"), dir.join("NAME")).unwrap();
        assert_eq!(names(dir), ["NAME"]);
        fs::rename(dir.join("NAME"), dir.join("name")).unwrap();
        assert_eq!(names(dir), ["name"]);
    }
}

fn open_directory_follows_its_move(dir: &Path) {
    fs::create_dir_all(dir.join("a/d")).unwrap();
    let handle = File::open(dir.join("a/d")).unwrap();
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(&handle, "new", mode).unwrap();
    assert!(exists(dir.join("b/d/new")));
}
