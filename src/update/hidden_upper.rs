//! A generation that is gone for everybody, under a hidden name until its files are: that takes long, and nobody shall wait for it.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Errno, Error, Result};
use crate::sys::data::OFlags;
use crate::sys::spot::Spot;
use crate::sys::{dir, lock, removal, replace};

/// What such names begin with; the number follows, which no other generation has ever.
const PREFIX: &str = ".removed-";

/// One that this process takes away.
#[derive(Debug)]
pub struct HiddenUpper {
    parent: Arc<OwnedFd>,
    name: OsString,
    path: PathBuf,
    /// Locked for as long as that lasts: two would be in each other's way.
    _home: OwnedFd,
}

/// The hidden name of a generation.
#[must_use]
pub fn name_of(number: u64) -> OsString {
    format!("{PREFIX}{number}").into()
}

impl HiddenUpper {
    /// All in a directory of uppers, but those that another process takes away.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn all(uppers: &Path) -> Result<Vec<Self>> {
        let failed = |errno| Error::sys("list", uppers, errno);
        let parent = Arc::new(replace::open_dir(uppers).map_err(failed)?);
        let names = dir::read(&parent).map_err(failed)?.into_iter().map(|entry| entry.name);
        let hidden = names.filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        let opened = hidden.map(|name| match open(&parent, &name) {
            Ok(home) => Ok(Some(Self { parent: Arc::clone(&parent), path: uppers.join(&name), name, _home: home })),
            Err(Errno::EAGAIN | Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::sys("open", uppers.join(name), errno)),
        });
        opened.filter_map(Result::transpose).collect()
    }

    /// Takes its files away.
    ///
    /// # Errors
    /// What the kernel answers; then what is left is there to be taken away once more.
    pub fn clear(self) -> Result<()> {
        removal::remove_all(&self.parent, &self.name).map(drop).map_err(|errno| Error::sys("remove", self.path, errno))
    }
}

fn open(parent: &Arc<OwnedFd>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let home = Spot::at(parent, name).open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    lock::exclusive(&home)?;
    Ok(home)
}
