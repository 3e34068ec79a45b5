//! Makes inodes beneath a directory, each relative to the descriptor of its parent.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as Refusal;

use crate::error::{Errno, Error, Result};
use crate::types::{Attr, Kind};
use crate::union::lower::{Lower, LowerId, Seek};

/// Bytes written at once; blocks of this size that are all zero become holes.
const STEP: usize = 1 << 17;

/// Where the image's inodes are made.
pub struct Target<'a> {
    /// The image.
    pub lower: &'a dyn Lower,
    /// The directory that nothing may leave.
    pub root: OwnedFd,
}

/// How an inode was made.
pub enum Made {
    /// A file, still open.
    Open(OwnedFd),
    /// Anything else, as an `O_PATH` descriptor.
    Pinned(OwnedFd),
    /// Not at all: device nodes need CAP_MKNOD.
    Forbidden,
}

impl Target<'_> {
    /// Makes a directory, or joins one that is there; until its attributes are set it is ours alone.
    ///
    /// # Errors
    /// `ENOTDIR` or `ELOOP` when the name is taken by something else.
    pub fn directory(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<OwnedFd> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Refusal::EXIST) => {}
            Err(e) => return Err(failed("make directory", path, e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|e| failed("open directory", path, e))
    }

    /// Gives an inode that was made before, as `first` beneath the root, another name.
    ///
    /// # Errors
    /// `EEXIST`, `EMLINK` and the like.
    pub fn link(&self, first: &Path, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        let first_name = first.file_name().unwrap_or_default();
        let directory = match first.parent().filter(|p| !p.as_os_str().is_empty()) {
            None => self.root.as_fd().try_clone_to_owned().map_err(|e| Error::sys("link", path, e))?,
            Some(directory) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                rustix::fs::openat2(&self.root, directory, flags, Mode::empty(), resolve).map_err(|e| failed("link", path, e))?
            }
        };
        rustix::fs::linkat(directory, first_name, parent, name, AtFlags::empty()).map_err(|e| failed("link", path, e))
    }

    /// Makes anything but a directory, with its content.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken; damage of the image.
    pub fn inode(&self, parent: &OwnedFd, name: &OsStr, id: LowerId, attr: &Attr, path: &Path) -> Result<Made> {
        let file_type = match attr.kind {
            Kind::File | Kind::Dir => return self.file(parent, name, id, attr.size, path).map(Made::Open),
            Kind::Symlink => {
                let target = self.lower.readlink(id)?;
                rustix::fs::symlinkat(target, parent, name).map_err(|e| failed("make symbolic link", path, e))?;
                return pin(parent, name, FileType::Symlink, 0, path).map(Made::Pinned);
            }
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
        };
        match rustix::fs::mknodat(parent, name, file_type, Mode::RUSR | Mode::WUSR, attr.rdev) {
            Ok(()) => pin(parent, name, file_type, attr.rdev, path).map(Made::Pinned),
            Err(Refusal::PERM) if matches!(attr.kind, Kind::Char | Kind::Block) => Ok(Made::Forbidden),
            Err(e) => Err(failed("make node", path, e)),
        }
    }

    fn file(&self, parent: &OwnedFd, name: &OsStr, id: LowerId, size: u64, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed("make file", path, e))?;
        let file = File::from(made);
        let written = |e| Error::sys("write", path, e);
        file.set_len(size).map_err(written)?;
        let mut offset = 0;
        while offset < size {
            offset = match self.lower.seek(id, offset, Seek::Data) {
                Ok(data) => data,
                Err(e) if e.errno() == Errno::ENXIO => break,
                Err(e) => return Err(e),
            };
            let bytes = self.lower.read(id, offset, STEP)?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|&b| b != 0) {
                file.write_all_at(&bytes, offset).map_err(written)?;
            }
            if !self.lower.is_intact(&bytes) {
                return Err(Error::sys("read", path, Errno::EIO));
            }
            offset += bytes.len() as u64;
        }
        Ok(file.into())
    }
}

/// Takes hold of what was made a moment ago, so that whatever else takes its name gets none of its attributes. A link that
/// somebody put there is not followed, and nothing but a new inode of ours is taken.
fn pin(parent: &OwnedFd, name: &OsStr, file_type: FileType, rdev: Dev, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pinned = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|e| failed("open", path, e))?;
    let stat = rustix::fs::fstat(&pinned).map_err(|e| failed("look at", path, e))?;
    let is_device = matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice);
    let is_ours = FileType::from_raw_mode(stat.st_mode) == file_type
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_nlink == 1
        && (!is_device || stat.st_rdev == rdev);
    if is_ours { Ok(pinned) } else { Err(Error::Refused(format!("{}: somebody put something else there", path.display()))) }
}

/// The kernel's refusal, with what was being done.
pub fn failed(doing: &'static str, path: &Path, refusal: Refusal) -> Error {
    Error::sys(doing, path, Errno(refusal.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_the_place_of_a_new_inode_is_not_taken_for_it() {
        let scratch = tempfile::tempdir().unwrap();
        let parent = OwnedFd::from(File::open(scratch.path()).unwrap());
        let pin = |name: &str| pin(&parent, OsStr::new(name), FileType::Fifo, 0, Path::new(name));
        let make = |name: &str| rustix::fs::mknodat(&parent, name, FileType::Fifo, Mode::RUSR, 0).unwrap();
        make("made");
        pin("made").unwrap();
        rustix::fs::symlinkat("made", &parent, "link").unwrap();
        std::fs::write(scratch.path().join("file"), "").unwrap();
        make("of-two-names");
        rustix::fs::linkat(&parent, "of-two-names", &parent, "second", AtFlags::empty()).unwrap();
        for name in ["link", "file", "second"] {
            assert!(matches!(pin(name), Err(Error::Refused(_))), "{name}");
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(scratch.path().join("made"), Some(1), None).unwrap();
            assert!(matches!(pin("made"), Err(Error::Refused(_))));
        }
    }
}
