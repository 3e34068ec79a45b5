//! utimensat(2), and when times move by themselves.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use rustix::io::Errno;

use super::assertions::{lstat, refused};
use super::case::cases;

cases![
    nanoseconds_are_kept, before_1970, after_2038, omit_leaves_a_time, now_is_now, of_a_symlink, of_a_directory, nonsense_is_refused,
    writing_moves_mtime, truncating_moves_mtime, chmod_moves_ctime_only, open_descriptor_sets_times, mtime_survives_close;
    only_the_owner_sets_times,
];

fn stamp(access: (i64, i64), modification: (i64, i64)) -> Timestamps {
    let time = |(tv_sec, tv_nsec): (i64, i64)| Timespec { tv_sec, tv_nsec };
    Timestamps { last_access: time(access), last_modification: time(modification) }
}

fn set(path: &Path, times: &Timestamps) -> rustix::io::Result<()> {
    utimensat(CWD, path, times, AtFlags::SYMLINK_NOFOLLOW)
}

fn mtime(path: &Path) -> (i64, i64) {
    let meta = lstat(path);
    (meta.mtime(), meta.mtime_nsec())
}

fn ctime(path: &Path) -> (i64, i64) {
    let meta = lstat(path);
    (meta.ctime(), meta.ctime_nsec())
}

#[track_caller]
fn keeps(path: &Path, access: (i64, i64), modification: (i64, i64)) {
    set(path, &stamp(access, modification)).unwrap();
    let meta = lstat(path);
    assert_eq!((meta.atime(), meta.atime_nsec()), access);
    assert_eq!((meta.mtime(), meta.mtime_nsec()), modification);
}

fn nanoseconds_are_kept(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    keeps(&dir.join("f"), (1_000_000_000, 123_456_789), (1_500_000_000, 999_999_999));
}

fn before_1970(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    keeps(&dir.join("f"), (-1, 999_999_999), (-2_000_000_000, 1));
}

fn after_2038(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    keeps(&dir.join("f"), (1 << 31, 5), (5_000_000_000, 7));
}

fn omit_leaves_a_time(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    set(&path, &stamp((100, 1), (200, 2))).unwrap();
    set(&path, &stamp((300, 3), (0, UTIME_OMIT))).unwrap();
    assert_eq!((lstat(&path).atime(), mtime(&path)), (300, (200, 2)));
    set(&path, &stamp((0, UTIME_OMIT), (400, 4))).unwrap();
    assert_eq!((lstat(&path).atime(), mtime(&path)), (300, (400, 4)));
    set(&path, &stamp((0, UTIME_OMIT), (0, UTIME_OMIT))).unwrap();
    assert_eq!((lstat(&path).atime(), mtime(&path)), (300, (400, 4)));
}

fn now_is_now(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    set(&path, &stamp((100, 1), (200, 2))).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    set(&path, &stamp((100, 1), (0, UTIME_NOW))).unwrap();
    assert_eq!(lstat(&path).atime(), 100);
    assert!((mtime(&path).0 - now).abs() <= 2);
}

fn of_a_symlink(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    symlink("f", dir.join("l")).unwrap();
    let file = mtime(&dir.join("f"));
    set(&dir.join("l"), &stamp((1_000, 11), (2_000, 22))).unwrap();
    assert_eq!(mtime(&dir.join("l")), (2_000, 22));
    assert_eq!(mtime(&dir.join("f")), file);
    utimensat(CWD, dir.join("l"), &stamp((5, 5), (6, 6)), AtFlags::empty()).unwrap();
    assert_eq!((mtime(&dir.join("f")), mtime(&dir.join("l"))), ((6, 6), (2_000, 22)));
}

fn of_a_directory(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    keeps(&dir.join("d"), (1_000, 11), (2_000, 22));
}

fn nonsense_is_refused(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    refused(set(&dir.join("f"), &stamp((0, 1_000_000_000), (0, 0))), Errno::INVAL);
    refused(set(&dir.join("none"), &stamp((0, 0), (0, 0))), Errno::NOENT);
}

fn writing_moves_mtime(dir: &Path) {
    let path = dir.join("f");
    let mut file = File::create(&path).unwrap();
    set(&path, &stamp((1, 1), (2, 2))).unwrap();
    file.write_all(b"x").unwrap();
    assert!(mtime(&path).0 > 1_000_000_000);
}

fn truncating_moves_mtime(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"xyz").unwrap();
    set(&path, &stamp((1, 1), (2, 2))).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1).unwrap();
    assert!(mtime(&path).0 > 1_000_000_000);
    set(&path, &stamp((1, 1), (2, 2))).unwrap();
    drop(File::create(&path).unwrap());
    assert!(mtime(&path).0 > 1_000_000_000);
}

fn chmod_moves_ctime_only(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    let (modified, changed) = (mtime(&path), ctime(&path));
    sleep(Duration::from_millis(15));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(mtime(&path), modified);
    assert!(ctime(&path) > changed);
}

fn open_descriptor_sets_times(dir: &Path) {
    let path = dir.join("f");
    let file = File::create(&path).unwrap();
    rustix::fs::futimens(&file, &stamp((10, 20), (30, 40))).unwrap();
    assert_eq!(mtime(&path), (30, 40));
}

fn mtime_survives_close(dir: &Path) {
    let path = dir.join("f");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"x").unwrap();
    rustix::fs::futimens(&file, &stamp((10, 20), (30, 40))).unwrap();
    drop(file);
    File::open(&path).unwrap().sync_all().unwrap();
    assert_eq!(mtime(&path), (30, 40));
}

fn only_the_owner_sets_times(dir: &Path) {
    use crate::mounted::user::{NOBODY, as_user};
    use std::os::unix::fs::PermissionsExt;
    let path = &dir.join("f");
    fs::write(path, b"").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        refused(set(path, &stamp((1, 1), (2, 2))), Errno::PERM);
        // Who may write may set both times to now.
        set(path, &stamp((0, UTIME_NOW), (0, UTIME_NOW))).unwrap();
    });
}
