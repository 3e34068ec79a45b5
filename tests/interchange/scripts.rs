//! What is done to a union, by steps between which its upper changes hands.

use std::fs::{self, OpenOptions, Permissions, hard_link};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with, setxattr};

/// Steps, and the options under which they are done.
pub struct Script {
    pub name: &'static str,
    pub options: &'static [&'static str],
    pub steps: &'static [fn(&Path)],
}

/// The lower that they start from.
pub fn grow(tree: &Path) {
    for dir in ["a/b/c", "d/e", "empty", "other/deep"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for file in ["a/f", "a/b/f", "a/b/c/f", "d/f", "d/e/f", "other/f", "other/deep/f", "top"] {
        fs::write(tree.join(file), format!("content of {file}\n").repeat(300)).unwrap();
        fs::set_permissions(tree.join(file), Permissions::from_mode(0o644)).unwrap();
    }
    setxattr(tree.join("top"), "user.note", b"kept", XattrFlags::empty()).unwrap();
}

fn mv(root: &Path, from: &str, to: &str) {
    fs::rename(root.join(from), root.join(to)).unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
}

fn exchange(root: &Path, a: &str, b: &str) {
    renameat_with(CWD, root.join(a), CWD, root.join(b), RenameFlags::EXCHANGE).unwrap_or_else(|e| panic!("{a} and {b}: {e}"));
}

fn append(root: &Path, file: &str) {
    OpenOptions::new().append(true).open(root.join(file)).unwrap().write_all(b"appended").unwrap();
}

const REDIRECT: &[&str] = &["redirect_dir=on"];
const METACOPY: &[&str] = &["redirect_dir=on", "metacopy=on"];

pub const SCRIPTS: &[Script] = &[
    Script {
        name: "renamed directories",
        options: REDIRECT,
        steps: &[
            |root| {
                mv(root, "a", "a2");
                mv(root, "d/e", "a2/b/moved");
                append(root, "a2/b/moved/f");
            },
            |root| {
                fs::create_dir(root.join("new")).unwrap();
                mv(root, "a2/b", "new/b");
                fs::create_dir(root.join("a")).unwrap();
                fs::write(root.join("a/fresh"), "fresh").unwrap();
                fs::remove_file(root.join("new/b/c/f")).unwrap();
            },
            |root| {
                mv(root, "other", "empty");
                mv(root, "new", "newer");
                fs::create_dir(root.join("other")).unwrap();
            },
            |root| {
                exchange(root, "d", "newer/b");
                fs::remove_dir_all(root.join("empty/deep")).unwrap();
                fs::create_dir(root.join("empty/deep")).unwrap();
            },
        ],
    },
    Script {
        name: "renamed twice",
        options: REDIRECT,
        steps: &[
            |root| {
                mv(root, "a/b", "a/b2");
                mv(root, "a/b2", "a/b3");
            },
            |root| {
                mv(root, "a/b3", "d/b4");
                mv(root, "d/b4/c", "d/b4/c2");
                mv(root, "d", "d2");
            },
            |root| {
                mv(root, "d2/b4/c2", "c3");
                mv(root, "d2/b4", "a/b");
                append(root, "c3/f");
            },
            |root| {
                mv(root, "c3", "a/b/c");
                mv(root, "d2", "d");
                fs::remove_dir_all(root.join("a")).unwrap();
                fs::create_dir(root.join("a")).unwrap();
            },
        ],
    },
    Script {
        name: "attributes apart",
        options: METACOPY,
        steps: &[
            |root| {
                chown(root.join("top"), Some(12), Some(13)).unwrap();
                fs::set_permissions(root.join("a/f"), Permissions::from_mode(0o600)).unwrap();
                setxattr(root.join("d/f"), "user.new", b"value", XattrFlags::empty()).unwrap();
                chown(root.join("other/f"), Some(7), None).unwrap();
            },
            |root| {
                mv(root, "top", "a/renamed");
                hard_link(root.join("other/f"), root.join("other/linked")).unwrap();
                mv(root, "a/f", "a/g");
            },
            |root| {
                append(root, "d/f");
                fs::set_permissions(root.join("a/g"), Permissions::from_mode(0o755)).unwrap();
                append(root, "other/linked");
            },
            |root| {
                OpenOptions::new().write(true).truncate(true).open(root.join("a/g")).unwrap();
                OpenOptions::new().write(true).open(root.join("a/renamed")).unwrap().set_len(17).unwrap();
                fs::remove_file(root.join("other/f")).unwrap();
                chown(root.join("other/deep/f"), Some(1), None).unwrap();
                fs::remove_file(root.join("other/deep/f")).unwrap();
            },
        ],
    },
    Script {
        name: "attributes apart below renamed directories",
        options: METACOPY,
        steps: &[
            |root| {
                chown(root.join("a/b/f"), Some(12), None).unwrap();
                mv(root, "a/b", "d/b");
                chown(root.join("d/b/c/f"), Some(12), None).unwrap();
            },
            |root| {
                mv(root, "d", "z");
                mv(root, "z/b/f", "moved");
                chown(root.join("z/f"), Some(14), None).unwrap();
            },
            |root| {
                append(root, "moved");
                append(root, "z/b/c/f");
                mv(root, "z/f", "z/e/g");
            },
        ],
    },
];
