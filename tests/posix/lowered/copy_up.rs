//! Every change to a lower file appears, whatever kind it is, and is there after a remount.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, XattrFlags, utimensat};
use rustix::io::Errno;

use super::content::{HELLO, MTIME, big};
use super::union_cases;
use crate::mounted::union::Union;
use crate::suite::assertions::{exists, lstat, open, refused};
use crate::suite::raw::{map_private, map_shared, map_shared_ro};
use crate::suite::xattr::{get, list, set};

union_cases![
    reading_copies_nothing, by_write, by_append, by_truncate, by_open_trunc, by_chmod, by_times, by_xattr, by_removing_an_xattr, by_link,
    by_shared_mapping, opening_for_writing_keeps_content, old_descriptors_see_new_data, old_mappings_see_new_data,
    old_descriptors_see_new_attributes, private_mappings_copy_nothing, twice_is_once, in_deep_directories, by_fallocate, through_a_symlink,
    excl_sees_the_lower, directory_attributes, unlinked_after_copy_up, upper_content_persists, programs_run_from_below;
    by_chown, of_special_files, of_symlinks, readonly_files_for_root, writing_clears_setid_for_others,
];

/// Asserts, now and after a remount.
fn always(union: &mut Union, holds: impl Fn(&Union)) {
    holds(union);
    union.remount();
    holds(union);
}

fn reading_copies_nothing(union: &mut Union) {
    let root = union.path();
    assert_eq!(fs::read(root.join("hello")).unwrap(), HELLO);
    assert!(fs::read(root.join("big")).unwrap() == big());
    assert_eq!(fs::read(root.join("dir/sub/deep")).unwrap(), b"dir/sub/deep");
    union.unmount();
    assert_eq!(fs::read_dir(union.upper()).unwrap().count(), 0);
}

fn by_write(union: &mut Union) {
    let file = OpenOptions::new().write(true).open(union.path().join("big")).unwrap();
    file.write_all_at(b"changed", 150_000).unwrap();
    drop(file);
    let mut expected = big();
    expected[150_000..150_007].copy_from_slice(b"changed");
    always(union, |union| assert!(fs::read(union.path().join("big")).unwrap() == expected));
}

fn by_append(union: &mut Union) {
    OpenOptions::new().append(true).open(union.path().join("hello")).unwrap().write_all(b"and above\n").unwrap();
    always(union, |union| assert_eq!(fs::read(union.path().join("hello")).unwrap(), b"hello from below\nand above\n"));
}

fn by_truncate(union: &mut Union) {
    OpenOptions::new().write(true).open(union.path().join("hello")).unwrap().set_len(5).unwrap();
    OpenOptions::new().write(true).open(union.path().join("big")).unwrap().set_len(400_000).unwrap();
    let mut longer = big();
    longer.resize(400_000, 0);
    always(union, |union| {
        assert_eq!(fs::read(union.path().join("hello")).unwrap(), b"hello");
        assert!(fs::read(union.path().join("big")).unwrap() == longer);
    });
}

fn by_open_trunc(union: &mut Union) {
    File::create(union.path().join("big")).unwrap().write_all(b"short").unwrap();
    drop(open(union.path().join("hello"), OFlags::TRUNC | OFlags::WRONLY).unwrap());
    always(union, |union| {
        assert_eq!(fs::read(union.path().join("big")).unwrap(), b"short");
        assert_eq!(fs::read(union.path().join("hello")).unwrap(), b"");
    });
}

fn by_chmod(union: &mut Union) {
    fs::set_permissions(union.path().join("hello"), Permissions::from_mode(0o4711)).unwrap();
    always(union, |union| {
        let meta = lstat(union.path().join("hello"));
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o4711, MTIME));
        assert_eq!(fs::read(union.path().join("hello")).unwrap(), HELLO);
    });
}

fn by_times(union: &mut Union) {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(5, 6), last_modification: time(7, 8) };
    utimensat(CWD, union.path().join("hello"), &times, AtFlags::empty()).unwrap();
    always(union, |union| {
        let meta = lstat(union.path().join("hello"));
        assert_eq!((meta.mtime(), meta.mtime_nsec(), meta.len()), (7, 8, HELLO.len() as u64));
    });
}

fn by_xattr(union: &mut Union) {
    set(&union.path().join("attributes"), "user.color", b"red", XattrFlags::REPLACE).unwrap();
    set(&union.path().join("hello"), "user.new", b"1", XattrFlags::CREATE).unwrap();
    always(union, |union| {
        let path = union.path().join("attributes");
        assert_eq!((get(&path, "user.color").unwrap(), get(&path, "user.long").unwrap().len()), (b"red".to_vec(), 1500));
        assert_eq!(get(&union.path().join("hello"), "user.new").unwrap(), b"1");
        assert_eq!(lstat(&path).mtime(), MTIME);
    });
}

fn by_removing_an_xattr(union: &mut Union) {
    rustix::fs::lremovexattr(union.path().join("attributes"), "user.color").unwrap();
    refused(rustix::fs::lremovexattr(union.path().join("attributes"), "user.none"), Errno::NODATA);
    always(union, |union| {
        let names = list(&union.path().join("attributes"));
        assert!(!names.contains(&"user.color".to_owned()) && names.contains(&"user.long".to_owned()), "{names:?}");
    });
}

fn by_link(union: &mut Union) {
    fs::hard_link(union.path().join("hello"), union.path().join("dir/sub/again")).unwrap();
    always(union, |union| {
        let (old, new) = (lstat(union.path().join("hello")), lstat(union.path().join("dir/sub/again")));
        assert_eq!((old.nlink(), new.nlink(), old.ino()), (2, 2, new.ino()));
        assert_eq!(fs::read(union.path().join("dir/sub/again")).unwrap(), HELLO);
    });
}

fn by_shared_mapping(union: &mut Union) {
    let file = OpenOptions::new().read(true).write(true).open(union.path().join("big")).unwrap();
    let mut map = map_shared(&file);
    assert!(map[..] == big()[..]);
    map[200_000] ^= 0xff;
    drop((map, file));
    let mut expected = big();
    expected[200_000] ^= 0xff;
    always(union, |union| assert!(fs::read(union.path().join("big")).unwrap() == expected));
}

fn opening_for_writing_keeps_content(union: &mut Union) {
    drop(OpenOptions::new().write(true).open(union.path().join("big")).unwrap());
    drop(OpenOptions::new().append(true).open(union.path().join("hello")).unwrap());
    always(union, |union| {
        assert!(fs::read(union.path().join("big")).unwrap() == big());
        assert_eq!(lstat(union.path().join("big")).mtime(), MTIME);
    });
}

fn old_descriptors_see_new_data(union: &mut Union) {
    let path = union.path().join("hello");
    let reader = File::open(&path).unwrap();
    let mut five = [0; 5];
    reader.read_exact_at(&mut five, 0).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"HELLO", 0).unwrap();
    reader.read_exact_at(&mut five, 0).unwrap();
    assert_eq!(&five, b"HELLO");
}

fn old_mappings_see_new_data(union: &mut Union) {
    let path = union.path().join("big");
    let map = map_shared_ro(&File::open(&path).unwrap());
    assert!(map[..] == big()[..]);
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"NEW", 4096).unwrap();
    assert_eq!(&map[4096..4099], b"NEW");
}

fn old_descriptors_see_new_attributes(union: &mut Union) {
    let path = union.path().join("hello");
    let reader = File::open(&path).unwrap();
    let before = reader.metadata().unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"!").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let after = reader.metadata().unwrap();
    assert_eq!((after.len(), after.mode() & 0o777, after.ino()), (before.len() + 1, 0o600, before.ino()));
}

fn private_mappings_copy_nothing(union: &mut Union) {
    let mut map = map_private(&File::open(union.path().join("hello")).unwrap());
    map[0] = b'J';
    assert_eq!(fs::read(union.path().join("hello")).unwrap(), HELLO);
    drop(map);
    union.unmount();
    assert_eq!(fs::read_dir(union.upper()).unwrap().count(), 0);
}

fn twice_is_once(union: &mut Union) {
    let path = union.path().join("hello");
    let (a, b) = (OpenOptions::new().append(true).open(&path).unwrap(), OpenOptions::new().append(true).open(&path).unwrap());
    (&a).write_all(b"1").unwrap();
    (&b).write_all(b"2").unwrap();
    (&a).write_all(b"3").unwrap();
    assert_eq!(fs::read(&path).unwrap(), [HELLO, b"123"].concat());
}

fn in_deep_directories(union: &mut Union) {
    OpenOptions::new().append(true).open(union.path().join("dir/sub/deeper/deepest")).unwrap().write_all(b"!").unwrap();
    always(union, |union| {
        assert_eq!(fs::read(union.path().join("dir/sub/deeper/deepest")).unwrap(), b"dir/sub/deeper/deepest!");
        assert_eq!(fs::read(union.path().join("dir/sub/deep")).unwrap(), b"dir/sub/deep");
        assert_eq!(lstat(union.path().join("dir/sub")).mtime(), MTIME, "copying up a child leaves its parents' times");
    });
}

fn by_fallocate(union: &mut Union) {
    let file = OpenOptions::new().write(true).open(union.path().join("hello")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1000).unwrap();
    let mut expected = HELLO.to_vec();
    expected.resize(1000, 0);
    drop(file);
    always(union, |union| assert_eq!(fs::read(union.path().join("hello")).unwrap(), expected));
}

fn through_a_symlink(union: &mut Union) {
    fs::write(union.path().join("symlink"), b"by link").unwrap();
    always(union, |union| {
        assert_eq!(fs::read(union.path().join("hello")).unwrap(), b"by link");
        assert!(lstat(union.path().join("symlink")).is_symlink());
    });
}

fn excl_sees_the_lower(union: &mut Union) {
    let excl = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    refused(open(union.path().join("hello"), excl), Errno::EXIST);
    refused(fs::create_dir(union.path().join("empty")), Errno::EXIST);
    refused(symlink("x", union.path().join("big")), Errno::EXIST);
    refused(fs::hard_link(union.path().join("big"), union.path().join("hello")), Errno::EXIST);
    assert_eq!(fs::read(union.path().join("hello")).unwrap(), HELLO);
}

fn directory_attributes(union: &mut Union) {
    fs::set_permissions(union.path().join("dir/sub"), Permissions::from_mode(0o710)).unwrap();
    set(&union.path().join("dir"), "user.more", b"1", XattrFlags::CREATE).unwrap();
    always(union, |union| {
        assert_eq!(lstat(union.path().join("dir/sub")).mode() & 0o7777, 0o710);
        assert_eq!(list(&union.path().join("dir")), ["user.dir", "user.more"]);
        assert_eq!(fs::read(union.path().join("dir/sub/deep")).unwrap(), b"dir/sub/deep");
    });
}

fn unlinked_after_copy_up(union: &mut Union) {
    let path = union.path().join("hello");
    let file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    (&file).write_all(b"late").unwrap();
    let mut bytes = vec![0; HELLO.len() + 4];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes, file.metadata().unwrap().nlink()), ([HELLO, b"late"].concat(), 0));
    assert!(!exists(&path));
}

fn upper_content_persists(union: &mut Union) {
    fs::create_dir_all(union.path().join("new/er")).unwrap();
    fs::write(union.path().join("new/er/f"), b"kept").unwrap();
    fs::write(union.path().join("dir/d"), b"beside").unwrap();
    symlink("f", union.path().join("new/er/l")).unwrap();
    always(union, |union| {
        assert_eq!(fs::read(union.path().join("new/er/l")).unwrap(), b"kept");
        assert_eq!(fs::read(union.path().join("dir/d")).unwrap(), b"beside");
        assert_eq!(fs::read(union.path().join("dir/a")).unwrap(), b"dir/a");
    });
}

/// A child that another test is just starting has our descriptors until its exec: busy for an instant.
fn run_program(path: &std::path::Path) {
    for _ in 0..50 {
        match std::process::Command::new(path).status() {
            Err(e) if e.raw_os_error() == Some(libc::ETXTBSY) => std::thread::sleep(std::time::Duration::from_millis(100)),
            status => return assert!(status.unwrap().success()),
        }
    }
    panic!("{} stays busy", path.display());
}

fn programs_run_from_below(union: &mut Union) {
    let path = union.path().join("program");
    run_program(&path);
    drop(OpenOptions::new().append(true).open(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    run_program(&path);
}

fn by_chown(union: &mut Union) {
    chown(union.path().join("hello"), Some(1), Some(2)).unwrap();
    chown(union.path().join("dir"), Some(3), Some(4)).unwrap();
    always(union, |union| {
        let (file, dir) = (lstat(union.path().join("hello")), lstat(union.path().join("dir")));
        assert_eq!((file.uid(), file.gid(), dir.uid(), dir.gid()), (1, 2, 3, 4));
        assert_eq!(fs::read(union.path().join("hello")).unwrap(), HELLO);
    });
}

fn of_special_files(union: &mut Union) {
    for name in ["fifo", "null"] {
        fs::set_permissions(union.path().join(name), Permissions::from_mode(0o604)).unwrap();
    }
    always(union, |union| {
        let null = lstat(union.path().join("null"));
        assert_eq!((null.rdev(), null.mode()), (libc::makedev(1, 3), libc::S_IFCHR | 0o604));
        assert_eq!(lstat(union.path().join("fifo")).mode(), libc::S_IFIFO | 0o604);
    });
}

fn of_symlinks(union: &mut Union) {
    std::os::unix::fs::lchown(union.path().join("symlink"), Some(9), Some(8)).unwrap();
    always(union, |union| {
        let meta = lstat(union.path().join("symlink"));
        assert_eq!((meta.uid(), meta.gid(), meta.is_symlink()), (9, 8, true));
        assert_eq!(fs::read_link(union.path().join("symlink")).unwrap().as_os_str(), "hello");
        assert_eq!(lstat(union.path().join("hello")).uid(), 0);
    });
}

fn readonly_files_for_root(union: &mut Union) {
    for name in ["secret", "readonly"] {
        OpenOptions::new().append(true).open(union.path().join(name)).unwrap().write_all(b"!").unwrap();
    }
    always(union, |union| {
        assert_eq!(lstat(union.path().join("secret")).mode() & 0o7777, 0);
        assert_eq!(lstat(union.path().join("readonly")).mode() & 0o7777, 0o444);
        assert_eq!(fs::read(union.path().join("secret")).unwrap(), b"secret!");
    });
}

fn writing_clears_setid_for_others(union: &mut Union) {
    use crate::mounted::user::{NOBODY, as_user};
    let path = &union.path().join("suid");
    as_user(NOBODY, NOBODY, &[], || refused(OpenOptions::new().append(true).open(path), Errno::ACCESS));
    fs::set_permissions(path, Permissions::from_mode(0o6777)).unwrap();
    as_user(NOBODY, NOBODY, &[], || OpenOptions::new().append(true).open(path).unwrap().write_all(b"!").unwrap());
    assert_eq!(lstat(path).mode() & 0o7777, 0o777);
}
