//! Renames.

use std::fs::{self, create_dir, remove_dir, remove_dir_all, remove_file, rename};
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::case::{Case, Loose};
use crate::changes::empty_full;
use crate::copies::append;

fn mv(root: &Path, from: &str, to: &str) -> io::Result<()> {
    rename(root.join(from), root.join(to))
}

fn exchange(root: &Path, a: &str, b: &str) -> io::Result<()> {
    Ok(renameat_with(CWD, root.join(a), CWD, root.join(b), RenameFlags::EXCHANGE)?)
}

fn copy_file_up(root: &Path) {
    append(&root.join("file")).unwrap();
}

pub const FILES: &[Case] = &[
    Case::new("a lower file to a new name", |root| mv(root, "file", "new")),
    Case::new("a lower file to another directory", |root| mv(root, "file", "full/inner/new")),
    Case::new("a copied-up file to a new name", |root| mv(root, "file", "new")).after(copy_file_up),
    Case::new("a copied-up file over a lower file", |root| mv(root, "file", "second")).after(copy_file_up),
    Case::new("a copied-up file over a copied-up file", |root| mv(root, "file", "second")).after(|root| {
        copy_file_up(root);
        append(&root.join("second")).unwrap();
    }),
    Case::new("a copied-up file over a whiteout", |root| mv(root, "file", "second")).after(|root| {
        copy_file_up(root);
        remove_file(root.join("second")).unwrap();
    }),
    Case::new("an upper file over a lower file", |root| mv(root, "new", "second"))
        .after(|root| fs::write(root.join("new"), "new").unwrap()),
    Case::new("an upper file over a whiteout", |root| mv(root, "new", "second")).after(|root| {
        fs::write(root.join("new"), "new").unwrap();
        remove_file(root.join("second")).unwrap();
    }),
    Case::new("a hard link", |root| mv(root, "link-a", "new")).but(Loose::Links),
    Case::new("exchange two lower files", |root| exchange(root, "file", "full/one")),
    Case::new("exchange an upper and a lower file", |root| exchange(root, "new", "file"))
        .after(|root| fs::write(root.join("new"), "new").unwrap()),
];

/// An upper directory with something in it.
fn make_new(root: &Path) {
    create_dir(root.join("new")).unwrap();
    fs::write(root.join("new/inside"), "inside").unwrap();
}

pub const DIRECTORIES: &[Case] = &[
    Case::new("an upper directory to a new name", |root| mv(root, "new", "newer")).after(make_new),
    Case::new("an upper directory over an empty lower one", |root| mv(root, "new", "empty")).after(make_new),
    Case::new("an upper directory over one of whiteouts", |root| mv(root, "new", "full")).after(|root| {
        make_new(root);
        empty_full(root);
    }),
    Case::new("an upper directory over a whiteout", |root| mv(root, "new", "full")).after(|root| {
        make_new(root);
        remove_dir_all(root.join("full")).unwrap();
    }),
    Case::new("an upper directory over a file's whiteout", |root| mv(root, "new", "file")).after(|root| {
        make_new(root);
        remove_file(root.join("file")).unwrap();
    }),
    Case::new("an upper directory out of an upper one over a whiteout", |root| mv(root, "home/new", "full"))
        .after(|root| {
            create_dir(root.join("home")).unwrap();
            make_new(&root.join("home"));
            remove_dir_all(root.join("full")).unwrap();
        })
        // Moving and cleaning up are two steps in the kernel's, too (dir.c, `ovl_rename`, "cleanup_whiteout").
        .but(Loose::Whiteout("home/new")),
    Case::new("an opaque directory to a new name", |root| mv(root, "empty", "new")).after(|root| {
        remove_dir(root.join("empty")).unwrap();
        create_dir(root.join("empty")).unwrap();
        fs::write(root.join("empty/inside"), "inside").unwrap();
    }),
    Case::new("exchange an upper directory and a file", |root| exchange(root, "new", "file")).after(make_new),
    Case::new("exchange upper directories", |root| exchange(root, "new", "empty")).after(|root| {
        make_new(root);
        remove_dir(root.join("empty")).unwrap();
        create_dir(root.join("empty")).unwrap();
    }),
];

const REDIRECT: &[&str] = &["redirect_dir=on"];

pub const REDIRECTS: &[Case] = &[
    Case::new("a lower directory to a new name", |root| mv(root, "full", "new")).with(REDIRECT),
    Case::new("a lower directory to another directory", |root| mv(root, "other/sub", "full/sub")).with(REDIRECT),
    Case::new("a lower directory over an empty one", |root| mv(root, "full", "empty")).with(REDIRECT),
    Case::new("a lower directory over one of whiteouts", |root| mv(root, "other", "full")).with(REDIRECT).after(empty_full),
    Case::new("a lower directory over a whiteout", |root| mv(root, "other", "full"))
        .with(REDIRECT)
        .after(|root| remove_dir_all(root.join("full")).unwrap()),
    Case::new("a renamed directory once more", |root| mv(root, "new", "other/newer"))
        .with(REDIRECT)
        .after(|root| mv(root, "full", "new").unwrap()),
    Case::new("exchange lower directories", |root| exchange(root, "full", "other/sub")).with(REDIRECT),
    Case::new("an upper directory over one of whiteouts, redirect_dir=on", |root| mv(root, "new", "full")).with(REDIRECT).after(
        |root| {
            make_new(root);
            empty_full(root);
        },
    ),
];
