//! Copy-up, by every operation that needs one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, XattrFlags, fallocate, setxattr};

use crate::case::{Case, Loose};

/// Writes at the end.
pub fn append(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(b"appended")
}

fn truncate(path: &Path, size: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(size)
}

fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn set_note(path: &Path) -> io::Result<()> {
    Ok(setxattr(path, "user.note", b"changed", XattrFlags::empty())?)
}

/// Looks both names up: they are then linked in the upper, too.
fn look_at_links(root: &Path) {
    ["link-a", "link-b"].into_iter().for_each(|name| assert!(fs::metadata(root.join(name)).unwrap().is_file()));
}

pub const FILES: &[Case] = &[
    Case::new("write", |root| append(&root.join("file"))),
    Case::new("write, fsync=strict", |root| append(&root.join("file"))).with(&["fsync=strict"]),
    Case::new("write into a hole", |root| {
        OpenOptions::new().write(true).open(root.join("sparse"))?.write_all_at(b"changed", 20_000)
    }),
    Case::new("write deep down", |root| append(&root.join("deep/a/b/c/file"))),
    Case::new("write two levels down, fsync=strict", |root| append(&root.join("other/sub/file"))).with(&["fsync=strict"]),
    Case::new("truncate to nothing", |root| truncate(&root.join("file"), 0)),
    Case::new("open with O_TRUNC", |root| OpenOptions::new().write(true).truncate(true).open(root.join("file")).map(drop)),
    Case::new("truncate to a part", |root| truncate(&root.join("file"), 77)),
    Case::new("allocate", |root| {
        let file = OpenOptions::new().write(true).open(root.join("file"))?;
        Ok(fallocate(file, FallocateFlags::empty(), 0, 20_000)?)
    }),
    Case::new("chmod", |root| chmod(&root.join("file"), 0o600)),
    Case::new("chown", |root| chown(root.join("file"), Some(9), Some(9))),
    Case::new("setxattr", |root| set_note(&root.join("file"))),
    Case::new("utimens", |root| {
        let past = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
        OpenOptions::new().write(true).open(root.join("file"))?.set_modified(past)
    }),
];

pub const OTHERS: &[Case] = &[
    Case::new("write to a hard link", |root| append(&root.join("link-a"))).after(look_at_links).but(Loose::Links),
    Case::new("write to one name of a hard link", |root| append(&root.join("link-b"))).but(Loose::Links),
    Case::new("look up the other name", |root| fs::metadata(root.join("link-b")).map(drop))
        .after(|root| append(&root.join("link-a")).unwrap())
        .but(Loose::Links),
    Case::new("chown of a symbolic link", |root| lchown(root.join("symlink"), Some(9), Some(9))),
    Case::new("chmod of a fifo", |root| chmod(&root.join("fifo"), 0o600)),
    Case::new("chmod of a directory", |root| chmod(&root.join("full"), 0o700)),
    Case::new("setxattr of a directory below another", |root| set_note(&root.join("full/inner"))),
];

fn written(root: &Path) {
    append(&root.join("file")).unwrap();
}

/// An answer of fsync(2) is the upper's.
pub const SYNCHRONISED: &[Case] = &[
    Case::new("fsync of a file", |root| File::open(root.join("file"))?.sync_all()).after(written),
    Case::new("fdatasync of a file", |root| File::open(root.join("file"))?.sync_data()).after(written),
    Case::new("fsync of a directory", |root| File::open(root.join("full"))?.sync_all())
        .after(|root| fs::write(root.join("full/new"), "new").unwrap()),
];

const METACOPY: &[&str] = &["metacopy=on"];

fn apart(root: &Path) {
    chmod(&root.join("file"), 0o600).unwrap();
}

pub const APART: &[Case] = &[
    Case::new("chmod alone", |root| chmod(&root.join("file"), 0o600)).with(METACOPY),
    Case::new("chown of a sparse file alone", |root| chown(root.join("sparse"), Some(9), None)).with(METACOPY),
    Case::new("append to attributes", |root| append(&root.join("file"))).with(METACOPY).after(apart).but(Loose::Times),
    Case::new("truncate attributes to nothing", |root| truncate(&root.join("file"), 0))
        .with(METACOPY)
        .after(apart)
        .but(Loose::Times),
    Case::new("truncate attributes to a part", |root| truncate(&root.join("file"), 77))
        .with(METACOPY)
        .after(apart)
        .but(Loose::Times),
    Case::new("setxattr of attributes", |root| set_note(&root.join("file"))).with(METACOPY).after(apart),
    Case::new("rename attributes", |root| fs::rename(root.join("file"), root.join("renamed")))
        .with(METACOPY)
        .after(apart)
        .but(Loose::Times),
    Case::new("link attributes", |root| fs::hard_link(root.join("file"), root.join("linked")))
        .with(METACOPY)
        .after(apart)
        .but(Loose::Times),
    Case::new("remove attributes", |root| fs::remove_file(root.join("file"))).with(METACOPY).after(apart),
];
