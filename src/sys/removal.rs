//! Trees that are taken away, however deep they are: below a certain depth, directories move up before they are emptied, so that
//! neither descriptors nor the stack set a limit.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};

use super::dir::{self, Rename};
use crate::error::Errno;
use crate::types::Kind;

type Result<T> = std::result::Result<T, Errno>;

/// So deep they are emptied where they are, each with a descriptor of its own.
const DEEPEST: usize = 64;

/// Takes a name and all that is below it away; false where it is not there. Nobody else may write there meanwhile.
///
/// # Errors
/// The kernel's answer; then some of it may be gone.
pub fn remove_all(parent: impl AsFd, name: &OsStr) -> Result<bool> {
    match open(&parent, name) {
        Ok(top) => {
            let mut clearing = Clearing { top: &top, moved: 0 };
            // What has moved up stands there afterwards.
            while clearing.empty(&top, 0)? {}
            gone(dir::rmdir(parent, name)).map(|()| true)
        }
        Err(Errno::ENOENT) => Ok(false),
        Err(Errno::ENOTDIR | Errno::ELOOP) => gone(dir::unlink(parent, name)).map(|()| true),
        Err(errno) => Err(errno),
    }
}

fn open(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(parent, name, flags, Mode::empty())?)
}

fn gone(removed: Result<()>) -> Result<()> {
    match removed {
        Err(Errno::ENOENT) => Ok(()),
        answer => answer,
    }
}

struct Clearing<'a> {
    top: &'a OwnedFd,
    moved: u64,
}

impl Clearing<'_> {
    /// True where something of it stands in `top` now.
    fn empty(&mut self, directory: &OwnedFd, depth: usize) -> Result<bool> {
        let mut has_moved = false;
        for entry in dir::read(directory)? {
            match entry.kind {
                Some(Kind::Dir) | None => has_moved |= self.remove(directory, &entry.name, depth)?,
                Some(_) => gone(dir::unlink(directory, &entry.name))?,
            }
        }
        Ok(has_moved)
    }

    fn remove(&mut self, parent: &OwnedFd, name: &OsStr, depth: usize) -> Result<bool> {
        let directory = match open(parent, name) {
            Ok(open) => open,
            Err(Errno::ENOTDIR | Errno::ELOOP) => return gone(dir::unlink(parent, name)).map(|()| false),
            Err(errno) => return gone(Err(errno)).map(|()| false),
        };
        if depth >= DEEPEST {
            return self.move_up(parent, name).map(|()| true);
        }
        let has_moved = self.empty(&directory, depth + 1)?;
        gone(dir::rmdir(parent, name)).map(|()| has_moved)
    }

    fn move_up(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        loop {
            let to = OsString::from(format!(".moved-{}", self.moved));
            self.moved += 1;
            match dir::rename(parent, name, self.top, &to, Rename::NoReplace) {
                Err(Errno::EEXIST) => {}
                answer => return answer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::sys::spot::{open_dir, open_dir_at};

    #[test]
    fn no_tree_is_too_deep() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        std::fs::write(&outside, "x").unwrap();
        let root = open_dir(scratch.path()).unwrap();
        let mut at = Arc::clone(&root);
        // Some three at each level, so that much moves up, and more of it once it has.
        for depth in 0..3000 {
            for name in ["a", "b"] {
                dir::mkdir(&at, OsStr::new(name), 0o700).unwrap();
            }
            drop(dir::create(&at, OsStr::new("file"), 0o600).unwrap());
            at = open_dir_at(&at, OsStr::new(if depth % 2 == 0 { "a" } else { "b" })).unwrap();
        }
        dir::symlink(outside.as_os_str(), &at, OsStr::new("link")).unwrap();
        drop(at);
        dir::mkdir(&root, OsStr::new("tree"), 0o700).unwrap();
        let tree = open_dir_at(&root, OsStr::new("tree")).unwrap();
        dir::mkdir(&tree, OsStr::new(".moved-0"), 0o700).unwrap();
        for name in ["a", "b", "file"] {
            dir::rename(&root, OsStr::new(name), &tree, OsStr::new(name), Rename::NoReplace).unwrap();
        }
        assert_eq!([(); 2].map(|()| remove_all(&root, OsStr::new("tree"))), [Ok(true), Ok(false)]);
        symlink("outside", scratch.path().join("link")).unwrap();
        assert_eq!(remove_all(&root, OsStr::new("link")), Ok(true));
        let left: Vec<OsString> = dir::read(&root).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(left, ["outside"]);
    }
}
