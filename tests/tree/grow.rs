//! Trees grown from a seed, with everything that tools and file systems get wrong.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions, create_dir, create_dir_all};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, utimensat};

/// What to grow. As root also devices, foreign owners, `trusted.*` and capabilities.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The same seed grows the same tree.
    pub seed: u64,
    /// Entries of the widest directory.
    pub wide: usize,
    /// Access control lists too.
    pub acls: bool,
}

/// Sizes around the limits of blocks (4 KiB to 1 MiB) and of tails.
const SIZES: [usize; 14] =
    [0, 1, 100, 4_095, 4_096, 4_097, 65_536, 131_071, 131_072, 131_073, 262_144, 700_001, 1_048_576, 1_048_579];

/// Grows a tree in an empty directory.
pub fn grow(root: &Path, recipe: &Recipe) {
    let mut rng = Rng::with_seed(recipe.seed);
    let as_root = rustix::process::geteuid().is_root();
    deep(&root.join("deep"));
    wide(&root.join("wide"), recipe.wide);
    odd_names(&root.join("names"));
    files(&root.join("files"), &mut rng);
    sparse(&root.join("sparse"));
    links(&root.join("links"), &mut rng);
    nodes(&root.join("nodes"), as_root);
    attributes(&root.join("attributes"), &mut rng, as_root, recipe.acls);
    thicket(&root.join("thicket"), &mut rng, 4);
    finish(root, &mut rng, as_root);
}

fn deep(at: &Path) {
    let mut dir = at.to_path_buf();
    for level in 0..100 {
        dir.push(format!("level-{level}"));
    }
    create_dir_all(&dir).unwrap();
    fs::write(dir.join("bottom"), b"far down").unwrap();
}

fn wide(at: &Path, count: usize) {
    create_dir(at).unwrap();
    for i in 0..count {
        let path = at.join(format!("{:x}-{i}", (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40));
        if i % 1000 == 7 { fs::write(path, i.to_string()).unwrap() } else { drop(File::create(path).unwrap()) }
    }
}

fn odd_names(at: &Path) {
    create_dir(at).unwrap();
    for byte in (1..=255_u8).filter(|&byte| byte != b'/') {
        fs::write(at.join(OsStr::from_bytes(&[b'n', byte])), [byte]).unwrap();
    }
    for name in ["n".repeat(255), "...".into(), "-rf".into(), " ".into(), "\n".into(), "ü".repeat(127)] {
        fs::write(at.join(name), b"odd").unwrap();
    }
    create_dir(at.join("d".repeat(255))).unwrap();
    create_dir(at.join(OsStr::from_bytes(&[0xff, 0xfe, 0x80]))).unwrap();
}

/// Bytes that compress well, badly, or not, with stretches of zeros as long as a block.
fn bytes(len: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    match rng.u8(0..4) {
        0 => rng.fill(&mut bytes),
        1 => bytes.iter_mut().enumerate().for_each(|(i, b)| *b = (i / 97) as u8),
        2 => {
            let from = len / 3;
            rng.fill(&mut bytes[from..]);
            let zero = (len / 2) & !0xfff;
            bytes[zero..(zero + 8192).min(len)].fill(0);
        }
        _ => bytes.chunks_mut(16).for_each(|line| line.fill(b"abcdefgh"[rng.usize(0..8)])),
    }
    bytes
}

fn files(at: &Path, rng: &mut Rng) {
    create_dir(at).unwrap();
    for (i, &size) in SIZES.iter().cycle().take(2 * SIZES.len()).enumerate() {
        fs::write(at.join(format!("{i}-of-{size}")), bytes(size, rng)).unwrap();
    }
    let twin = bytes(300_000, rng);
    fs::write(at.join("twin-a"), &twin).unwrap();
    fs::write(at.join("twin-b"), &twin).unwrap();
}

fn sparse(at: &Path) {
    create_dir(at).unwrap();
    let mib = 1_u64 << 20;
    let shapes: [(&str, u64, &[u64]); 4] = [
        ("all-hole", 3 * mib, &[]),
        ("hole-first", 3 * mib, &[2 * mib]),
        ("hole-last", 3 * mib + 5, &[0]),
        ("holes-between", 8 * mib, &[mib, 3 * mib, 5 * mib + 123]),
    ];
    for (name, len, data) in shapes {
        let file = File::create(at.join(name)).unwrap();
        file.set_len(len).unwrap();
        data.iter().for_each(|&offset| file.write_all_at(&[0xda; 5000], offset).unwrap());
    }
}

fn links(at: &Path, rng: &mut Rng) {
    for dir in ["a", "b/c", "z"] {
        create_dir_all(at.join(dir)).unwrap();
    }
    for group in 0..20 {
        let first = at.join(format!("a/first-{group}"));
        fs::write(&first, bytes(rng.usize(0..9000), rng)).unwrap();
        for link in 0..rng.usize(1..5) {
            let dir = ["a", "b/c", "z", ""][rng.usize(0..4)];
            fs::hard_link(&first, at.join(dir).join(format!("link-{group}-{link}"))).unwrap();
        }
    }
    symlink("nowhere", at.join("dangling")).unwrap();
    fs::hard_link(at.join("dangling"), at.join("dangling-too")).unwrap();
}

fn nodes(at: &Path, as_root: bool) {
    create_dir(at).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, at.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    mknodat(CWD, at.join("socket"), FileType::Socket, mode, 0).unwrap();
    for (name, target) in
        [("short", "x".into()), ("absolute", "/etc/passwd".into()), ("up", "../..".into()), ("long", "t/".repeat(500))]
    {
        symlink(target, at.join(name)).unwrap();
    }
    symlink(OsStr::from_bytes(&[0xff, b'\n', 1]), at.join("odd-target")).unwrap();
    if as_root {
        for (major, minor) in [(1, 3), (4, 255), (8, 256), (255, 70_000), (511, 1)] {
            mknodat(CWD, at.join(format!("char-{major}-{minor}")), FileType::CharacterDevice, mode, makedev(major, minor))
                .unwrap();
            mknodat(CWD, at.join(format!("block-{major}-{minor}")), FileType::BlockDevice, mode, makedev(major, minor)).unwrap();
        }
        fs::hard_link(at.join("char-1-3"), at.join("null-again")).unwrap();
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|e| panic!("{name} of {}: {e}", path.display()));
}

/// All attributes of a file stay below the 4 KiB that ext4 has for them.
fn attributes(at: &Path, rng: &mut Rng, as_root: bool, acls: bool) {
    create_dir(at).unwrap();
    let shared = bytes(1200, &mut Rng::with_seed(1));
    for i in 0..40_u8 {
        let path = at.join(format!("file-{i}"));
        fs::write(&path, [i]).unwrap();
        for j in 0..rng.u8(0..6) {
            set(&path, &format!("user.name-{j}"), &bytes(rng.usize(0..200), rng));
        }
        if i % 3 == 0 {
            set(&path, "user.shared", &shared);
        }
    }
    set(&at.join("file-0"), "user.empty", b"");
    set(&at.join("file-1"), &format!("user.{}", "n".repeat(250)), b"longest name");
    set(at, "user.of-a-directory", b"yes");
    if as_root {
        set(&at.join("file-2"), "trusted.secret", b"\0\x01");
        set(&at.join("file-3"), "security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        symlink("x", at.join("symlink")).unwrap();
        set(&at.join("symlink"), "trusted.of-a-symlink", b"1");
    }
    if acls {
        let entry = |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let list = [entry(1, 6, none), entry(2, 4, 1234), entry(4, 0, none), entry(16, 6, none), entry(32, 0, none)].concat();
        let list = [&2_u32.to_le_bytes()[..], &list].concat();
        set(&at.join("file-4"), "system.posix_acl_access", &list);
        set(at, "system.posix_acl_default", &list);
    }
}

/// Directories in directories, with a few small files in each.
fn thicket(at: &Path, rng: &mut Rng, depth: usize) {
    create_dir(at).unwrap();
    for i in 0..rng.usize(1..8) {
        File::create(at.join(format!("leaf-{i}"))).unwrap().write_all(&bytes(rng.usize(0..3000), rng)).unwrap();
    }
    for i in 0..if depth == 0 { 0 } else { rng.usize(1..4) } {
        thicket(&at.join(format!("branch-{i}")), rng, depth - 1);
    }
}

/// Gives everything an owner, a mode and a time; directories after what is in them.
fn finish(path: &Path, rng: &mut Rng, as_root: bool) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| finish(entry, rng, as_root));
    }
    // Changing the owner of a file drops its set-id bits and capabilities, so those files keep theirs.
    if as_root && rng.bool() && !path.parent().is_some_and(|parent| parent.ends_with("attributes")) {
        let ids = [0, 1, 1000, 65_534, 100_000, 4_000_000_000, rng.u32(2..900)];
        lchown(path, Some(ids[rng.usize(0..7)]), Some(ids[rng.usize(0..7)])).unwrap();
    }
    if !meta.is_symlink() && rng.u8(0..3) == 0 && !path.parent().is_some_and(|parent| parent.ends_with("attributes")) {
        let bits = if as_root { rng.u32(0..0o10000) } else { rng.u32(0..0o1000) | 0o600 };
        let bits = if meta.is_dir() { bits | 0o700 } else { bits };
        fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
    }
    // squashfs keeps unsigned 32-bit seconds.
    let secs = [0, 1, 1_000_000_000, i64::from(i32::MAX), i64::from(i32::MAX) + 1, i64::from(u32::MAX), rng.i64(0..1 << 32)];
    let time = Timespec { tv_sec: secs[rng.usize(0..7)], tv_nsec: rng.i64(0..1_000_000_000) };
    // Accesses lie ahead of every other time, so that reading changes nothing: mksquashfs takes two names for one file only as long as stat(2) says
    // the same of both, and it reads symbolic links in between.
    let last_access = Timespec { tv_sec: 8_000_000_000, tv_nsec: 0 };
    utimensat(CWD, path, &Timestamps { last_access, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
