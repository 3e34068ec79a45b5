//! What a copy-up must not lose.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{SeekFrom, XattrFlags, seek};

use super::content::{HELLO, MTIME, big};
use super::union_cases;
use crate::mounted::union::Union;
use crate::suite::assertions::{lstat, names};
use crate::suite::raw::map_shared_ro;
use crate::suite::xattr::{CAP_NET_RAW, get, list, set};

union_cases![
    the_lower_is_seen, times_are_kept, holes_are_kept, user_attributes_are_kept, modes_are_kept, lower_holes_are_found,
    mappings_of_lower_files, overlay_attributes_are_hidden;
    owners_are_kept, setid_bits_are_kept, trusted_attributes_are_kept, capabilities_are_kept, nested_overlay_attributes,
];

/// Makes a copy-up happen that changes nothing else a program could see than ctime.
fn touch(union: &Union, name: &str) {
    set(&union.path().join(name), "user.touch", b"1", XattrFlags::empty()).unwrap();
}

fn the_lower_is_seen(union: &mut Union) {
    let root = union.path();
    assert!(names(root).iter().map(String::as_str).eq([
        "attributes",
        "big",
        "capable",
        "dir",
        "empty",
        "fifo",
        "hello",
        "link1",
        "link2",
        "many",
        "null",
        "owned",
        "program",
        "readonly",
        "secret",
        "sparse",
        "suid",
        "symlink",
    ]));
    assert_eq!(names(root.join("dir")), ["a", "b", "c", "link3", "sub"]);
    assert!(lstat(root.join("fifo")).file_type().is_fifo());
    let null = lstat(root.join("null"));
    assert_eq!((null.file_type().is_char_device(), null.rdev()), (true, libc::makedev(1, 3)));
    assert_eq!((lstat(root.join("link1")).nlink(), lstat(root.join("big")).len()), (3, 300_001));
    assert_eq!(fs::read_link(root.join("symlink")).unwrap().as_os_str(), "hello");
}

fn times_are_kept(union: &mut Union) {
    for name in ["hello", "dir/sub/deep", "dir/sub"] {
        touch(union, name);
        let meta = lstat(union.path().join(name));
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (MTIME, 0), "{name}");
    }
}

/// The kernel looks for holes in steps of a mebibyte and XFS allocates ahead, so half of the file may be filled.
fn holes_are_kept(union: &mut Union) {
    touch(union, "sparse");
    let file = File::open(union.path().join("sparse")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 4 << 20);
    assert!(file.metadata().unwrap().blocks() <= 4096, "{} blocks", file.metadata().unwrap().blocks());
    let start = seek(&file, SeekFrom::Data(0)).unwrap();
    assert!((1 << 20..=2 << 20).contains(&start), "data at {start}");
    let bytes = fs::read(union.path().join("sparse")).unwrap();
    let (from, to) = (2 << 20, (2 << 20) + 65536);
    assert!(
        bytes[..from].iter().all(|&b| b == 0) && bytes[from..to].iter().all(|&b| b == 7) && bytes[to..].iter().all(|&b| b == 0)
    );
}

fn user_attributes_are_kept(union: &mut Union) {
    let path = union.path().join("attributes");
    OpenOptions::new().append(true).open(&path).unwrap();
    assert_eq!(get(&path, "user.color").unwrap(), b"blue");
    assert_eq!(get(&path, "user.long").unwrap(), crate::suite::assertions::pattern(1500, 1));
    File::create(union.path().join("dir/new")).unwrap();
    assert_eq!(get(&union.path().join("dir"), "user.dir").unwrap(), b"too");
}

fn modes_are_kept(union: &mut Union) {
    for name in ["hello", "program", "dir/sub"] {
        let before = lstat(union.path().join(name)).mode();
        touch(union, name);
        assert_eq!(lstat(union.path().join(name)).mode(), before, "{name}");
    }
}

/// squashfs keeps holes by whole blocks of 128 KiB.
fn lower_holes_are_found(union: &mut Union) {
    let file = File::open(union.path().join("sparse")).unwrap();
    assert_eq!(seek(&file, SeekFrom::Hole(0)).unwrap(), 0);
    assert_eq!(seek(&file, SeekFrom::Data(0)).unwrap(), 2 << 20);
}

fn mappings_of_lower_files(union: &mut Union) {
    let (a, b) = (File::open(union.path().join("big")).unwrap(), File::open(union.path().join("hello")).unwrap());
    assert!(map_shared_ro(&a)[..] == big()[..]);
    assert_eq!(&map_shared_ro(&b)[..], HELLO);
}

/// What the union itself keeps in attributes is not shown.
fn overlay_attributes_are_hidden(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    fs::create_dir(union.path().join("dir")).unwrap();
    touch(union, "hello");
    assert_eq!(list(&union.path().join("dir")), [""; 0]);
    assert_eq!(list(&union.path().join("hello")), ["user.touch"]);
    assert_eq!(list(union.path()), [""; 0]);
}

fn owners_are_kept(union: &mut Union) {
    touch(union, "owned");
    let meta = lstat(union.path().join("owned"));
    assert_eq!((meta.uid(), meta.gid()), (1234, 5678));
}

fn setid_bits_are_kept(union: &mut Union) {
    touch(union, "suid");
    assert_eq!(lstat(union.path().join("suid")).mode() & 0o7777, 0o6755);
    assert_eq!(lstat(union.path().join("secret")).mode() & 0o7777, 0);
    touch(union, "secret");
    assert_eq!(lstat(union.path().join("secret")).mode() & 0o7777, 0);
}

fn trusted_attributes_are_kept(union: &mut Union) {
    let path = union.path().join("attributes");
    assert_eq!(get(&path, "trusted.kept").unwrap(), b"yes");
    touch(union, "attributes");
    assert_eq!(get(&path, "trusted.kept").unwrap(), b"yes");
    assert_eq!(list(&path), ["trusted.kept", "user.color", "user.long", "user.touch"]);
}

fn capabilities_are_kept(union: &mut Union) {
    let path = union.path().join("capable");
    assert_eq!(get(&path, "security.capability").unwrap(), CAP_NET_RAW);
    touch(union, "capable");
    assert_eq!(get(&path, "security.capability").unwrap(), CAP_NET_RAW);
}

/// A union inside a union keeps its own `trusted.overlay.*`, which the outer one escapes (kernel 6.7).
fn nested_overlay_attributes(union: &mut Union) {
    let path = union.path().join("empty");
    set(&path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    assert_eq!(get(&path, "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(list(&path), ["trusted.overlay.opaque"]);
    union.unmount();
    assert_eq!(get(&union.upper().join("empty"), "trusted.overlay.overlay.opaque").unwrap(), b"y");
    union.mount();
    rustix::fs::lremovexattr(&path, "trusted.overlay.opaque").unwrap();
    assert_eq!(list(&path), [""; 0]);
}
