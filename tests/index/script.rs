//! What is done to hard links of a lower.

use std::fs::{self, File, OpenOptions, Permissions, create_dir, hard_link, remove_file, rename};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags};

/// Changes a file's data.
pub fn append(path: impl AsRef<Path>) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn touch(path: impl AsRef<Path>) {
    let [last_access, last_modification] = [8_000_000_000, 1].map(|tv_sec| Timespec { tv_sec, tv_nsec: 0 });
    rustix::fs::utimensat(CWD, path.as_ref(), &Timestamps { last_access, last_modification }, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn remove(at: &Path, names: &[&str]) {
    names.iter().for_each(|name| remove_file(at.join(name)).unwrap());
}

/// What is done to a tree as [`plant`] makes it, and what it is called.
pub type Script = (&'static str, fn(&Path));

pub const SCRIPTS: &[Script] = &[
    ("write", |at| {
        append(at.join("one"));
        assert_eq!(fs::read(at.join("d/three")).unwrap(), b"onemore");
    }),
    ("write_by_all_names", |at| ["one", "two", "d/three"].iter().for_each(|name| append(at.join(name)))),
    ("attributes", |at| {
        fs::set_permissions(at.join("two"), Permissions::from_mode(0o600)).unwrap();
        rustix::fs::setxattr(at.join("two"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    }),
    ("truncate", |at| drop(File::create(at.join("two")).unwrap())),
    ("remove_one", |at| remove(at, &["one"])),
    ("remove_two", |at| remove(at, &["d/three", "one"])),
    ("remove_all", |at| remove(at, &["one", "two", "d/three"])),
    ("remove_changed", |at| {
        append(at.join("one"));
        remove(at, &["one"]);
        append(at.join("two"));
    }),
    ("remove_all_changed", |at| {
        append(at.join("one"));
        remove(at, &["two", "d/three", "one"]);
    }),
    ("remove_while_open", |at| {
        let mut file = OpenOptions::new().read(true).write(true).open(at.join("one")).unwrap();
        file.write_all_at(b"X", 0).unwrap();
        remove(at, &["one", "two", "d/three"]);
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "Xne");
    }),
    ("removed_and_made_again", |at| {
        append(at.join("one"));
        remove(at, &["one"]);
        fs::write(at.join("one"), b"new").unwrap();
        remove(at, &["two"]);
        hard_link(at.join("d/three"), at.join("two")).unwrap();
    }),
    ("link", |at| hard_link(at.join("one"), at.join("new/four")).unwrap()),
    ("link_and_unlink", |at| {
        hard_link(at.join("one"), at.join("new/four")).unwrap();
        remove(at, &["one", "two", "d/three"]);
        append(at.join("new/four"));
    }),
    ("link_over_a_whiteout", |at| {
        remove(at, &["file"]);
        hard_link(at.join("two"), at.join("file")).unwrap();
    }),
    ("rename", |at| rename(at.join("one"), at.join("moved")).unwrap()),
    ("rename_away", |at| rename(at.join("d/three"), at.join("new/moved")).unwrap()),
    ("rename_changed", |at| {
        append(at.join("one"));
        rename(at.join("two"), at.join("d/two")).unwrap();
        append(at.join("d/two"));
    }),
    ("rename_onto", |at| rename(at.join("file"), at.join("two")).unwrap()),
    ("rename_new_onto", |at| {
        fs::write(at.join("new/file"), b"new").unwrap();
        rename(at.join("new/file"), at.join("two")).unwrap();
        rename(at.join("file"), at.join("one")).unwrap();
    }),
    ("rename_to_another_name", |at| {
        append(at.join("one"));
        append(at.join("two"));
        rename(at.join("one"), at.join("two")).unwrap();
    }),
    ("exchange", |at| {
        rustix::fs::renameat_with(CWD, at.join("one"), CWD, at.join("file"), RenameFlags::EXCHANGE).unwrap();
    }),
    ("pipes", |at| {
        touch(at.join("pipe"));
        remove(at, &["d/pipe"]);
    }),
    ("links_to_nowhere", |at| {
        touch(at.join("symlink"));
        rename(at.join("d/symlink"), at.join("new/symlink")).unwrap();
    }),
    ("single", |at| append(at.join("file"))),
];

/// One small tree for every script. In the kernel's overlayfs a directory that is made beside lower files is not the same over an
/// image as over a directory, so one is there.
pub fn plant(tree: &Path) {
    for (name, _) in SCRIPTS {
        let at = tree.join(name);
        fs::create_dir_all(at.join("d")).unwrap();
        create_dir(at.join("new")).unwrap();
        ["one", "file"].iter().for_each(|name| fs::write(at.join(name), name).unwrap());
        ["two", "d/three"].iter().for_each(|name| hard_link(at.join("one"), at.join(name)).unwrap());
        symlink("nowhere", at.join("symlink")).unwrap();
        rustix::fs::mknodat(CWD, at.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        for name in ["symlink", "pipe"] {
            hard_link(at.join(name), at.join("d").join(name)).unwrap();
            // mksquashfs reads symbolic links, and takes two names for one file only as long as nothing of it changes meanwhile.
            touch(at.join(name));
        }
    }
}
