//! What is done to a union so that marks are written.

use std::fs::{self, OpenOptions, create_dir, hard_link, rename};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps};

/// Changes a file's data.
pub fn append(path: impl AsRef<Path>) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

/// Changes the times of anything.
pub fn touch(path: impl AsRef<Path>) {
    let long_ago = Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    rustix::fs::utimensat(CWD, path.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Has two names change places.
pub fn exchange(a: impl AsRef<Path>, b: impl AsRef<Path>) {
    rustix::fs::renameat_with(CWD, a.as_ref(), CWD, b.as_ref(), RenameFlags::EXCHANGE).unwrap();
}

/// What is done to a tree as [`plant`] makes it, and what it is called.
pub type Script = (&'static str, fn(&Path));

pub const SCRIPTS: &[Script] = &[
    ("write", |at| append(at.join("file"))),
    ("attributes", |at| ["d", "d/below", "sym", "fifo"].iter().for_each(|name| touch(at.join(name)))),
    ("broken_link", |at| append(at.join("hard1"))),
    ("broken_link_moves", |at| {
        append(at.join("hard1"));
        create_dir(at.join("new")).unwrap();
        rename(at.join("hard1"), at.join("new/hard1")).unwrap();
    }),
    ("new_names", |at| {
        create_dir(at.join("new")).unwrap();
        create_dir(at.join("d/new")).unwrap();
        fs::write(at.join("new/file"), b"").unwrap();
        symlink("x", at.join("d/e/sym")).unwrap();
    }),
    ("rename_in_place", |at| rename(at.join("d/below"), at.join("d/other")).unwrap()),
    ("rename_away", |at| {
        create_dir(at.join("new")).unwrap();
        rename(at.join("file"), at.join("new/file")).unwrap();
    }),
    ("rename_of_specials", |at| {
        create_dir(at.join("new")).unwrap();
        rename(at.join("sym"), at.join("new/sym")).unwrap();
        create_dir(at.join("newer")).unwrap();
        rename(at.join("fifo"), at.join("newer/fifo")).unwrap();
    }),
    ("rename_into_a_lower_directory", |at| rename(at.join("file"), at.join("d/e/file")).unwrap()),
    ("rename_of_a_new_file", |at| {
        create_dir(at.join("new")).unwrap();
        fs::write(at.join("newer"), b"").unwrap();
        rename(at.join("newer"), at.join("new/newer")).unwrap();
    }),
    ("rename_of_a_new_directory", |at| {
        create_dir(at.join("new")).unwrap();
        create_dir(at.join("newer")).unwrap();
        append(at.join("file"));
        rename(at.join("file"), at.join("new/file")).unwrap();
        rename(at.join("new"), at.join("newer/new")).unwrap();
    }),
    ("rename_over_a_whiteout", |at| {
        fs::remove_file(at.join("d/below")).unwrap();
        rename(at.join("file"), at.join("d/below")).unwrap();
    }),
    ("exchange", |at| {
        create_dir(at.join("new")).unwrap();
        fs::write(at.join("new/newer"), b"").unwrap();
        exchange(at.join("new/newer"), at.join("d/below"));
    }),
    ("exchange_of_two", |at| exchange(at.join("file"), at.join("d/below"))),
    ("link_in_place", |at| hard_link(at.join("d/below"), at.join("d/more")).unwrap()),
    ("link_in_a_new_directory", |at| {
        create_dir(at.join("new")).unwrap();
        hard_link(at.join("d/below"), at.join("new/more")).unwrap();
    }),
    ("link_of_a_new_file", |at| {
        create_dir(at.join("new")).unwrap();
        fs::write(at.join("newer"), b"").unwrap();
        hard_link(at.join("newer"), at.join("new/more")).unwrap();
    }),
    ("link_over_a_whiteout", |at| {
        fs::remove_file(at.join("d/below")).unwrap();
        hard_link(at.join("file"), at.join("d/below")).unwrap();
    }),
    ("rename_of_a_lower_directory", |at| {
        create_dir(at.join("new")).unwrap();
        // Only where that is allowed.
        let _either_way = rename(at.join("d"), at.join("new/d"));
    }),
    ("removed_and_made_again", |at| {
        append(at.join("file"));
        fs::remove_file(at.join("file")).unwrap();
        fs::write(at.join("file"), b"").unwrap();
        fs::remove_file(at.join("d/below")).unwrap();
        fs::remove_dir(at.join("d/e")).unwrap();
        create_dir(at.join("d/e")).unwrap();
    }),
];

/// One small tree for every script.
pub fn plant(tree: &Path) {
    for (name, _) in SCRIPTS {
        let at = tree.join(name);
        fs::create_dir_all(at.join("d/e")).unwrap();
        ["file", "hard1", "d/below"].iter().for_each(|name| fs::write(at.join(name), name).unwrap());
        hard_link(at.join("hard1"), at.join("hard2")).unwrap();
        symlink("nowhere", at.join("sym")).unwrap();
        rustix::fs::mknodat(CWD, at.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    }
}
