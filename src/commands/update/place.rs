//! Where an image is put.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Advice;
use sha2::{Digest, Sha256};

use super::outcome::{Failure, NO_ROOM};
use super::progress::Progress;
use crate::config::image_source::IMAGES;
use crate::error::{Errno, Error, Result};
use crate::sys::replace::{self, Rights};
use crate::sys::{data, dir, lock};
use crate::update::garbage::unfinished;

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// Bytes that are left for haos.ini and `trial/`.
const SPARE: u64 = 1 << 20;

/// A place for an image.
pub struct Place {
    directory: PathBuf,
    open: OwnedFd,
    name: OsString,
}

impl Place {
    /// Beside haos.ini, or in `images/` where that is; or where a file of this name stands already.
    ///
    /// # Errors
    /// What opening the directory answers.
    pub fn new(home: &Path, name: OsString) -> Result<Self> {
        let images = home.join(IMAGES);
        let beside = home.join(&name).exists() || !images.is_dir();
        let directory = if beside { home.to_owned() } else { images };
        let open = replace::open_dir(&directory).map_err(|e| Error::sys("open", &directory, e))?;
        Ok(Self { directory, open, name })
    }

    /// The image's path.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// The path of the copy that is not finished.
    pub fn unfinished(&self) -> PathBuf {
        self.directory.join(unfinished(&self.name))
    }

    /// Checks that so many bytes go in.
    ///
    /// # Errors
    /// Where they do not.
    pub fn room_for(&self, size: u64) -> Result<(), Failure> {
        let space = data::space(&self.open).map_err(|e| Error::sys("look for room in", &self.directory, e))?;
        let free = space.bavail.saturating_mul(space.frsize);
        let left = fs::metadata(self.unfinished()).map_or(0, |left| left.blocks().saturating_mul(512));
        let wanted = size.saturating_add(SPARE);
        if free.saturating_add(left) >= wanted {
            return Ok(());
        }
        let shown = self.directory.display();
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let error = Error::Refused(format!(
            "{shown} has {} MiB free, and {} MiB are needed; `haosfs update gc` removes images that nobody needs",
            free >> 20,
            mib(wanted)
        ));
        Err(Failure { code: NO_ROOM, error })
    }

    /// Copies a file here, under its unfinished name, durably; returns the copy, and the SHA-256 of what was written. Who could not read
    /// the file, or what has `rights`, cannot read the copy. For as long as it is open nobody else takes it away.
    ///
    /// # Errors
    /// [`Error::Refused`] where somebody else is copying one of this name; what reading and writing answer. Then nothing of it is left, as
    /// far as that can be.
    pub fn copy(&self, from: &mut File, path: &Path, size: u64, rights: Rights) -> Result<(OwnedFd, [u8; 32])> {
        let name = unfinished(&self.name);
        let failed = |e| Error::sys("write", self.unfinished(), e);
        let busy = || Error::Refused(format!("{}: another update is being copied there", self.unfinished().display()));
        if !remove_left(&self.open, &name).map_err(failed)? {
            return Err(busy());
        }
        let to = dir::create(&self.open, &name, 0o600).map_err(failed)?;
        // Before that was locked somebody may have taken it for what was left.
        if lock::exclusive(&to) == Err(Errno::EAGAIN) || !is_open(&to, &self.unfinished()) {
            return Err(busy());
        }
        let perm = from.metadata().map_or(0o600, |found| found.mode() & rights.perm & 0o777 | 0o600);
        let copied = pour(from, path, &to, size).and_then(|digest| {
            match replace::set_rights(&to, Rights { perm, ..rights }) {
                // FAT has one mode for all.
                Ok(()) | Err(Errno::EPERM) => {}
                Err(e) => return Err(failed(e)),
            }
            data::sync(&to, false).map_err(failed)?;
            // What is verified then comes from the disk, as far as the kernel likes.
            let _ = rustix::fs::fadvise(&to, 0, None, Advice::DontNeed);
            Ok(digest)
        });
        match copied {
            Ok(digest) => Ok((to, digest)),
            Err(e) => {
                self.discard();
                Err(e)
            }
        }
    }

    /// Takes the unfinished copy away.
    pub fn discard(&self) {
        // What stays is taken away by the next copy.
        let _ = dir::unlink(&self.open, &unfinished(&self.name));
    }

    /// Gives the copy its name, durably.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn finish(&self, copy: OwnedFd) -> Result<()> {
        let moved = replace::take_place(&self.open, &unfinished(&self.name), copy, &self.name);
        moved.map_err(|e| Error::sys("move the image to", self.path(), e))
    }

    /// Copies files that belong to the image here, under their own names, durably: so it can be checked again.
    ///
    /// # Errors
    /// What reading and writing answer.
    pub fn copy_beside(&self, files: &[PathBuf], rights: Rights) -> Result<()> {
        let is_there = |file: &&PathBuf| file.file_name().is_some_and(|name| is_one_file(file, &self.directory.join(name)));
        for file in files.iter().filter(|file| !is_there(file)) {
            let bytes = fs::read(file).map_err(|e| Error::sys("read", file, e))?;
            let name = file.file_name().unwrap_or_default();
            let written = replace::file(&self.open, name, &bytes, rights);
            written.map_err(|e| Error::sys("write", self.directory.join(name), e))?;
        }
        Ok(())
    }

    /// Makes a file that stands here already durable.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn make_durable(&self, file: &File) -> Result<()> {
        data::sync(file, false).and_then(|()| self.sync()).map_err(|e| Error::sys("synchronise", self.path(), e))
    }

    fn sync(&self) -> Result<(), Errno> {
        data::sync(&self.open, false)
    }
}

/// Whether what is open has this name.
pub fn is_open(file: impl AsFd, path: &Path) -> bool {
    let named = fs::metadata(path).map(|named| (named.dev(), named.ino()));
    rustix::fs::fstat(file).is_ok_and(|open| named.is_ok_and(|named| named == (open.st_dev, open.st_ino)))
}

/// Takes away what somebody has left unfinished; false where he is still at it.
///
/// # Errors
/// The kernel's answer.
pub fn remove_left(directory: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    let left = dir::look_into(directory, name);
    if left.as_ref().err() == Some(&Errno::ENOENT) {
        return Ok(true);
    }
    if is_held(&left) {
        return Ok(false);
    }
    // With the lock: nobody else begins a copy that this would take away.
    dir::unlink(directory, name).map(|()| true)
}

/// Whether somebody is copying or checking a file. If not, nobody does while it is open. Whatever cannot be opened is nobody's image.
pub fn is_held(file: &Result<OwnedFd, Errno>) -> bool {
    file.as_ref().is_ok_and(|file| lock::exclusive(file) == Err(Errno::EAGAIN))
}

fn pour(from: &mut File, path: &Path, to: &OwnedFd, size: u64) -> Result<[u8; 32]> {
    let (mut hash, mut done, mut buffer) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    let mut progress = Progress::new("copying", size);
    loop {
        let read = from.read(&mut buffer).map_err(|e| Error::sys("read", path, e))?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(hash.finalize().into());
        }
        hash.update(bytes);
        let written = data::write_at(to, bytes, done).map_err(|e| Error::sys("write the copy of", path, e))?;
        if written < read {
            return Err(Error::sys("write the copy of", path, Errno::ENOSPC));
        }
        done += written as u64;
        progress.at(done);
    }
}

/// The SHA-256 of a file.
///
/// # Errors
/// What reading it answers.
pub fn digest_of(path: &Path) -> Result<[u8; 32]> {
    let size = fs::metadata(path).map_err(|e| Error::sys("read", path, e))?.len();
    digest_of_start(path, size)
}

/// The same of the first bytes, or of all where there are fewer.
///
/// # Errors
/// What reading them answers.
pub fn digest_of_start(path: &Path, size: u64) -> Result<[u8; 32]> {
    let failed = |e| Error::sys("read", path, e);
    let mut file = File::open(path).map_err(failed)?.take(size);
    let mut progress = Progress::new("reading", size);
    let (mut hash, mut done, mut buffer) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(buffer.get(..read).unwrap_or_default());
        done += read as u64;
        progress.at(done);
    }
}

/// Whether both names lead to one file.
pub fn is_one_file(a: &Path, b: &Path) -> bool {
    let inode = |path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    inode(a).is_some_and(|a| inode(b) == Some(a))
}
