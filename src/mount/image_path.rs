//! Paths within an image: symbolic links are followed inside it and never lead out (path_resolution(7) with the image's root
//! as `/`).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use crate::error::{Errno, Error, Result};
use crate::types::Kind;
use crate::union::lower::{Lower, LowerId};

/// Most symbolic links on one path, as in the kernel (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// Go to its target.
    Follow,
    /// It is what was asked for.
    Keep,
}

/// The inode at `path`.
///
/// # Errors
/// `ENOENT`, `ENOTDIR` or `ELOOP` with the path; damage of the image.
pub fn resolve(lower: &dyn Lower, path: &Path, last: LastLink) -> Result<LowerId> {
    let at_path = |errno| Error::sys("find in the image", path, errno);
    let mut here = Vec::new();
    let mut rest = reversed_names(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let directory = here.last().copied().unwrap_or_else(|| lower.root());
        let entry = match lower.lookup(directory, &name) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(at_path(Errno::ENOENT)),
            Err(Error::Expected(errno)) => return Err(at_path(errno)),
            Err(e) => return Err(e),
        };
        if entry.kind != Kind::Symlink || (rest.is_empty() && last == LastLink::Keep) {
            here.push(entry.id);
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(at_path(Errno::ELOOP));
        }
        let target = lower.readlink(entry.id)?;
        if target.as_bytes().starts_with(b"/") {
            here.clear();
        }
        rest.extend(reversed_names(Path::new(&target)));
    }
    Ok(here.last().copied().unwrap_or_else(|| lower.root()))
}

/// Names and `..` of a path, last one first.
fn reversed_names(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(OsString::from_vec(name.as_bytes().to_vec())),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}
