//! What an upper holds, in words: the marks of overlayfs' on-disk format (Documentation/filesystems/overlayfs.rst, "whiteouts
//! and opaque directories").

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Room for the value of a mark, in bytes.
const MARK: usize = 16;

/// What an entry of an upper means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A file that was written or made here, with its size in bytes.
    File(u64),
    /// A symbolic link that was made here.
    Symlink,
    /// A directory whose entries are joined with those below.
    Directory,
    /// A directory that hides whatever lies below.
    Opaque,
    /// Hides the name below.
    Whiteout,
}

impl Meaning {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::File(size) => format!("file, {size} bytes"),
            Self::Symlink => "symbolic link".to_owned(),
            Self::Directory => "directory, joined with the image's".to_owned(),
            Self::Opaque => "opaque directory: hides the image's".to_owned(),
            Self::Whiteout => "whiteout: hides the image's file".to_owned(),
        }
    }
}

/// Every entry of the upper with its meaning; paths relative to it, in order.
///
/// # Errors
/// When the upper cannot be read.
pub fn list(upper: &Path) -> Result<Vec<(PathBuf, Meaning)>> {
    let mut entries = Vec::new();
    let mut waiting = vec![upper.to_owned()];
    while let Some(directory) = waiting.pop() {
        let failed = |e: io::Error| Error::sys("list", &directory, e);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let meaning = meaning(&path).map_err(failed)?;
            if matches!(meaning, Meaning::Directory | Meaning::Opaque) {
                waiting.push(path.clone());
            }
            entries.push((path.strip_prefix(upper).unwrap_or(&path).to_owned(), meaning));
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

fn meaning(path: &Path) -> io::Result<Meaning> {
    let found = fs::symlink_metadata(path)?;
    let file_type = found.file_type();
    Ok(if file_type.is_char_device() && found.rdev() == 0 {
        Meaning::Whiteout
    } else if file_type.is_dir() {
        if is_marked(path, "opaque") { Meaning::Opaque } else { Meaning::Directory }
    } else if file_type.is_symlink() {
        Meaning::Symlink
    } else if found.len() == 0 && is_marked(path, "whiteout") {
        Meaning::Whiteout
    } else {
        Meaning::File(found.len())
    })
}

/// `trusted.` is written by root, `user.` by ordinary users.
fn is_marked(path: &Path, mark: &str) -> bool {
    ["trusted", "user"].into_iter().any(|space| {
        let mut value = [0; MARK];
        rustix::fs::lgetxattr(path, format!("{space}.overlay.{mark}"), &mut value[..]).is_ok_and(|length| length > 0)
    })
}
