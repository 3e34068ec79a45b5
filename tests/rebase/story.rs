//! Two images, and what a user does to the first of them.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use crate::tree::grow::{Recipe, grow};

/// Files of both images; `changed` and `gone` are what their names say.
const PLACES: [&str; 6] = ["copied", "edited", "mode", "removed", "deep/er", "times"];

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn both(root: &Path, changed: &str) {
    for place in PLACES {
        write(root, &format!("{place}/same"), "same\n");
        write(root, &format!("{place}/changed"), changed);
    }
    write(root, "removed/dir/file", changed);
    write(root, "opaque/dir/file", "same\n");
    write(root, "link/a", changed);
    write(root, "kind/file", changed);
    write(root, "inside/file", "same\n");
    write(root, "own/file", "same\n");
    write(root, "empty/file", "same\n");
    symlink(changed.trim(), root.join("copied/link")).unwrap();
    symlink("same", root.join("copied/link-same")).unwrap();
    fs::hard_link(root.join("copied/same"), root.join("copied/same-too")).unwrap();
}

pub fn old(root: &Path) {
    both(root, "old\n");
    PLACES.iter().for_each(|place| write(root, &format!("{place}/gone"), "gone\n"));
    write(root, "turned/file", "old\n");
    write(root, "turned-too/file", "old\n");
    write(root, "left/file", "old\n");
    write(root, "left/other", "old\n");
}

pub fn new(root: &Path) {
    both(root, "new\n");
    write(root, "turned", "a file now\n");
    write(root, "turned-too", "a file now\n");
    write(root, "opaque/dir/theirs", "new\n");
    write(root, "added/both", "theirs\n");
    write(root, "added/dir/theirs", "theirs\n");
    write(root, "fresh", "new\n");
    setxattr(root.join("inside"), "user.image", b"new", XattrFlags::empty()).unwrap();
    for (dir, mode) in [("inside", 0o2750), ("own", 0o711), ("empty", 0o700), ("", 0o1775)] {
        fs::set_permissions(root.join(dir), Permissions::from_mode(mode)).unwrap();
    }
    lchown(root.join("inside"), Some(7), Some(8)).unwrap();
}

/// Has something copied up without a change.
fn copy_up(path: &Path) {
    let found = fs::symlink_metadata(path).unwrap();
    lchown(path, Some(found.uid()), Some(found.gid())).unwrap();
}

pub fn act(root: &Path) {
    let at = |path: &str| root.join(path);
    for path in ["same", "changed", "gone", "link", "link-same", "same-too"] {
        copy_up(&at(&format!("copied/{path}")));
    }
    ["deep", "deep/er", "empty", "deep/er/same", "turned-too/file"].iter().for_each(|path| copy_up(&at(path)));
    for file in ["same", "changed", "gone"] {
        fs::write(at(&format!("edited/{file}")), "mine\n").unwrap();
        fs::set_permissions(at(&format!("mode/{file}")), Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(at(&format!("removed/{file}"))).unwrap();
    }
    let times = File::options().append(true).open(at("times/same")).unwrap();
    times.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(12)).unwrap();
    fs::remove_dir_all(at("removed/dir")).unwrap();
    fs::remove_dir_all(at("opaque/dir")).unwrap();
    fs::create_dir(at("opaque/dir")).unwrap();
    fs::write(at("opaque/dir/mine"), "mine\n").unwrap();
    fs::hard_link(at("link/a"), at("link/b")).unwrap();
    fs::remove_file(at("kind/file")).unwrap();
    fs::create_dir(at("kind/file")).unwrap();
    fs::write(at("kind/file/mine"), "mine\n").unwrap();
    fs::write(at("inside/mine"), "mine\n").unwrap();
    fs::set_permissions(at("own"), Permissions::from_mode(0o750)).unwrap();
    setxattr(at("own"), "user.mine", b"1", XattrFlags::empty()).unwrap();
    fs::write(at("turned/file"), "mine\n").unwrap();
    fs::write(at("left/file"), "mine\n").unwrap();
    fs::create_dir_all(at("added/dir")).unwrap();
    fs::write(at("added/mine"), "mine\n").unwrap();
    fs::write(at("added/both"), "mine\n").unwrap();
    fs::write(at("added/dir/mine"), "mine\n").unwrap();
    special(root);
}

fn special(root: &Path) {
    let at = |path: &str| root.join(path);
    fs::create_dir(at("grown")).unwrap();
    grow(&at("grown"), &Recipe { seed: 7, wide: 50, acls: true });
    fs::create_dir(at("special")).unwrap();
    let sparse = File::create(at("special/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 32 << 20).unwrap();
    fs::write(at("special/owned"), "x").unwrap();
    chown(at("special/owned"), Some(1000), Some(100)).unwrap();
    fs::set_permissions(at("special/owned"), Permissions::from_mode(0o6711)).unwrap();
    mknodat(CWD, at("special/null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    // Written in pieces, so that it has more than one extent.
    let mut log = File::create(at("special/log")).unwrap();
    for n in 0..300 {
        writeln!(log, "{n} {}", "x".repeat(n * 13 % 997)).unwrap();
    }
}

/// What the new image shows under the new upper: the content of files, the target of links; `None` where nothing is.
pub const SHOWN: [(&str, Option<&str>); 40] = [
    ("copied/same", Some("same\n")),
    ("copied/same-too", Some("same\n")),
    ("copied/changed", Some("new\n")),
    ("copied/gone", None),
    ("copied/link", Some("new")),
    ("copied/link-same", Some("same")),
    ("edited/same", Some("mine\n")),
    ("edited/changed", Some("mine\n")),
    ("edited/gone", Some("mine\n")),
    ("mode/same", Some("same\n")),
    ("mode/changed", Some("old\n")),
    ("mode/gone", Some("gone\n")),
    ("removed/same", None),
    ("removed/changed", None),
    ("removed/gone", None),
    ("removed/dir", None),
    ("deep/er/same", Some("same\n")),
    ("deep/er/changed", Some("new\n")),
    ("deep/er/gone", None),
    ("times/same", Some("same\n")),
    ("times/changed", Some("new\n")),
    ("opaque/dir/mine", Some("mine\n")),
    ("opaque/dir/file", None),
    ("opaque/dir/theirs", None),
    ("link/a", Some("old\n")),
    ("link/b", Some("old\n")),
    ("kind/file/mine", Some("mine\n")),
    ("inside/file", Some("same\n")),
    ("inside/mine", Some("mine\n")),
    ("own/file", Some("same\n")),
    ("empty/file", Some("same\n")),
    ("turned/file", Some("mine\n")),
    ("turned-too", Some("a file now\n")),
    ("left/file", Some("mine\n")),
    ("left/other", None),
    ("added/mine", Some("mine\n")),
    ("added/both", Some("mine\n")),
    ("added/dir/mine", Some("mine\n")),
    ("added/dir/theirs", Some("theirs\n")),
    ("fresh", Some("new\n")),
];

/// What is not in the new upper.
pub const LEFT_OUT: [&str; 11] = [
    "copied",
    "deep",
    "empty",
    "turned-too",
    "copied/same",
    "removed/gone",
    "copied/link",
    "times/changed",
    "deep/er",
    "left/other",
    "turned-too/file",
];

/// Modes of directories and files under the new image.
pub const MODES: [(&str, u32); 8] = [
    ("", 0o1775),
    ("inside", 0o2750),
    ("own", 0o750),
    ("empty", 0o700),
    ("mode/same", 0o600),
    ("mode/changed", 0o600),
    ("special/owned", 0o6711),
    ("left", 0o755),
];

/// What both sides changed: path, user, image, outcome.
pub const CONFLICTS: [[&str; 4]; 16] = [
    ["added", "added", "added", "merged"],
    ["added/both", "added", "added", "mine"],
    ["added/dir", "added", "added", "merged"],
    ["edited/changed", "changed", "changed", "mine"],
    ["edited/gone", "changed", "removed", "mine"],
    ["kind/file", "changed", "changed", "mine"],
    ["left/file", "changed", "removed", "mine"],
    ["link/a", "changed", "changed", "mine"],
    ["mode/changed", "changed", "changed", "mine"],
    ["mode/gone", "changed", "removed", "mine"],
    ["own", "changed", "changed", "mine"],
    ["removed/changed", "removed", "changed", "mine"],
    ["removed/dir", "removed", "changed", "mine"],
    ["turned", "changed", "changed", "mine"],
    ["turned/file", "changed", "removed", "mine"],
    ["opaque/dir", "changed", "changed", "mine"],
];
