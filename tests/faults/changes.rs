//! Names that go and names that come.

use std::fs::{self, File, create_dir, remove_dir, remove_dir_all, remove_file};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::case::{Case, Loose};
use crate::copies::append;

pub const REMOVALS: &[Case] = &[
    Case::new("unlink a lower file", |root| remove_file(root.join("file"))),
    Case::new("unlink a second lower file", |root| remove_file(root.join("second")))
        .after(|root| remove_file(root.join("file")).unwrap()),
    Case::new("unlink deep down", |root| remove_file(root.join("full/inner/three"))),
    Case::new("unlink a copied-up file", |root| remove_file(root.join("file"))).after(|root| append(&root.join("file")).unwrap()),
    Case::new("unlink an upper file", |root| remove_file(root.join("new")))
        .after(|root| fs::write(root.join("new"), "new").unwrap()),
    Case::new("unlink a hard link", |root| remove_file(root.join("link-a"))).but(Loose::Links),
    Case::new("unlink the only known name of a copied-up hard link", |root| remove_file(root.join("link-a")))
        .after(|root| append(&root.join("link-a")).unwrap())
        .but(Loose::Links),
    Case::new("rmdir an empty lower directory", |root| remove_dir(root.join("empty"))),
    Case::new("rmdir a merged directory", |root| remove_dir(root.join("empty"))).after(|root| {
        fs::write(root.join("empty/new"), "new").unwrap();
        remove_file(root.join("empty/new")).unwrap();
    }),
    Case::new("rmdir a directory of whiteouts", |root| remove_dir(root.join("full"))).after(empty_full),
    Case::new("rmdir an upper directory", |root| remove_dir(root.join("new")))
        .after(|root| create_dir(root.join("new")).unwrap()),
    Case::new("rmdir an opaque directory", |root| remove_dir(root.join("full"))).after(|root| {
        remove_dir_all(root.join("full")).unwrap();
        create_dir(root.join("full")).unwrap();
    }),
];

/// Leaves a merged directory with nothing but whiteouts.
pub fn empty_full(root: &Path) {
    ["one", "two"].into_iter().for_each(|name| remove_file(root.join("full").join(name)).unwrap());
    remove_dir_all(root.join("full/inner")).unwrap();
}

fn without_file(root: &Path) {
    remove_file(root.join("file")).unwrap();
}

pub const NEW: &[Case] = &[
    Case::new("create", |root| File::create_new(root.join("new")).map(drop)),
    Case::new("create deep down", |root| File::create_new(root.join("full/inner/new")).map(drop)),
    Case::new("mkdir", |root| create_dir(root.join("new"))),
    Case::new("mkdir, redirect_dir=on", |root| create_dir(root.join("full/new"))).with(&["redirect_dir=on"]),
    Case::new("symlink", |root| symlink("target", root.join("new"))),
    Case::new("link a lower file", |root| fs::hard_link(root.join("file"), root.join("new"))).but(Loose::Links),
    Case::new("create over a whiteout", |root| File::create_new(root.join("file")).map(drop)).after(without_file),
    Case::new("mkdir over a whiteout", |root| create_dir(root.join("file"))).after(without_file),
    Case::new("mkdir over a directory's whiteout", |root| create_dir(root.join("full")))
        .after(|root| remove_dir_all(root.join("full")).unwrap()),
    Case::new("mkdir over a whiteout where the group is inherited", |root| create_dir(root.join("shared/file")))
        .after(|root| remove_file(root.join("shared/file")).unwrap()),
    Case::new("symlink over a whiteout", |root| symlink("target", root.join("file"))).after(without_file),
    Case::new("mkfifo over a whiteout", |root| {
        Ok(mknodat(CWD, root.join("file"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?)
    })
    .after(without_file),
    Case::new("link over a whiteout", |root| fs::hard_link(root.join("second"), root.join("file")))
        .after(without_file)
        .but(Loose::Links),
];
