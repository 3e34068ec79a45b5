//! A tree with everything an image can hold.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::random::Random;

/// Sizes on both sides of the block sizes that are tested.
const SIZES: [usize; 13] = [0, 1, 100, 4095, 4096, 4097, 8192, 70_000, 131_071, 131_072, 131_073, 300_000, 1_050_000];

/// Makes the tree at `root`, with `many` files in its largest directory. As root it has devices, owners and trusted xattrs too.
pub fn build(root: &Path, many: usize) {
    fs::create_dir_all(root).unwrap();
    contents(&root.join("contents"));
    names(&root.join("names"), many);
    links(&root.join("links"));
    attributes(&root.join("attributes"));
    xattrs(&root.join("xattrs"));
    fs::create_dir(root.join("empty")).unwrap();
    if rustix::process::geteuid().is_root() {
        devices(&root.join("devices"));
    }
}

/// Makes a tree of some kilobytes at `root`, for images that are damaged in many ways.
pub fn build_small(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let mut random = Random(6);
    for (name, size) in [("tiny", 10), ("text", 9000), ("tail", 4200)] {
        fs::write(root.join(name), random.text(size)).unwrap();
    }
    fs::write(root.join("noise"), random.bytes(5000)).unwrap();
    File::create(root.join("hole")).unwrap().set_len(300_000).unwrap();
    links(&root.join("links"));
    xattrs(&root.join("xattrs"));
    // Long enough to have an index.
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    for i in 0..300 {
        File::create(many.join(format!("{}-{i}", "long-name-".repeat(6)))).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        devices(&root.join("devices"));
    }
}

fn contents(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let mut random = Random(1);
    for size in SIZES {
        fs::write(dir.join(format!("text-{size}")), random.text(size)).unwrap();
        fs::write(dir.join(format!("noise-{size}")), random.bytes(size)).unwrap();
    }
    // Machine code, for the filters of xz.
    fs::copy(std::env::current_exe().unwrap(), dir.join("code")).unwrap();
    File::options().write(true).open(dir.join("code")).unwrap().set_len(1 << 20).unwrap();
    let sparse = File::create(dir.join("sparse")).unwrap();
    sparse.write_all_at(&random.text(5000), (1 << 20) + 5).unwrap();
    sparse.write_all_at(b"x", 2 << 20).unwrap();
    sparse.set_len((3 << 20) + 17).unwrap();
    File::create(dir.join("only-a-hole")).unwrap().set_len(700_000).unwrap();
}

fn names(dir: &Path, many: usize) {
    fs::create_dir(dir).unwrap();
    for name in
        [&b"with\nnewline"[..], b"\xff\xfe\x80", b"\x01\x02", b" space ", b"back\\slash", b"\"quote'", b"-dash", &[b'n'; 255]]
    {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let many_dir = dir.join("many");
    fs::create_dir(&many_dir).unwrap();
    for i in 0..many {
        fs::write(many_dir.join(format!("entry-{i:x}-{}", "p".repeat(i % 13))), i.to_string()).unwrap();
    }
    let deep = (0..60).fold(dir.to_path_buf(), |at, i| at.join(format!("deep{i}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "bottom").unwrap();
}

fn links(dir: &Path) {
    fs::create_dir_all(dir.join("other")).unwrap();
    fs::write(dir.join("first"), "three names").unwrap();
    fs::hard_link(dir.join("first"), dir.join("second")).unwrap();
    fs::hard_link(dir.join("first"), dir.join("other/third")).unwrap();
    symlink("first", dir.join("relative")).unwrap();
    symlink("/nowhere/at all", dir.join("dangling")).unwrap();
    symlink("x".repeat(4000), dir.join("long")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), dir.join("odd")).unwrap();
    rustix::fs::mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
}

fn attributes(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for mode in [0o000, 0o644, 0o4755, 0o2755, 0o1777, 0o6711] {
        let file = dir.join(format!("mode-{mode:o}"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    for seconds in [0, 1, 1 << 31, u32::MAX] {
        let file = dir.join(format!("time-{seconds}"));
        fs::write(&file, "").unwrap();
        let time = Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty()).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        for (uid, gid) in [(1000, 1000), (0, 5), (4_000_000_000, 3), (65534, 65534)] {
            let file = dir.join(format!("owner-{uid}-{gid}"));
            fs::write(&file, "").unwrap();
            std::os::unix::fs::chown(&file, Some(uid), Some(gid)).unwrap();
        }
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn xattrs(dir: &Path) {
    fs::create_dir(dir).unwrap();
    // Values that stand in several lists are stored once and referred to.
    let shared = Random(2).bytes(2000);
    for name in ["a", "b", "c"] {
        let file = dir.join(name);
        fs::write(&file, name).unwrap();
        set(&file, "user.shared", &shared);
        set(&file, "user.name", name.as_bytes());
        set(&file, "user.empty", b"");
    }
    set(&dir.join("a"), "user.\u{e4}\u{f6}", b"\0\xff");
    set(dir, "user.on-a-directory", b"yes");
    if rustix::process::geteuid().is_root() {
        // VFS_CAP_REVISION_2 with CAP_NET_RAW effective and permitted, as setcap writes it.
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set(&dir.join("b"), "security.capability", &capability);
        set(&dir.join("b"), "trusted.overlay.opaque", b"y");
        let link = dir.join("link");
        symlink("a", &link).unwrap();
        set(&link, "trusted.on-a-link", b"yes");
    }
}

fn devices(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let make = |name: &str, kind, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o660), device).unwrap();
    };
    make("null", FileType::CharacterDevice, 1, 3);
    make("whiteout", FileType::CharacterDevice, 0, 0);
    make("disk", FileType::BlockDevice, 8, 17);
    make("large", FileType::BlockDevice, 259, 1_048_575);
    make("large-major", FileType::CharacterDevice, 4095, 256);
    set(&dir.join("null"), "trusted.on-a-device", b"1");
    rustix::fs::mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    set(&dir.join("pipe"), "trusted.on-a-pipe", b"1");
}
