//! `-o remount`: a union that stands becomes read-only, or writable again.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::mountinfo::{MountEntry, haosfs_at};
use super::record::{self, Record};
use super::superblock::errno;
use super::unmount::canonical;
use crate::config::mount_options::Access;
use crate::error::{Error, Result};
use crate::sys::fuse_mount::{self, Attributes};
use crate::sys::union_ioctl;

/// A union as it is mounted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its canonical path.
    pub mountpoint: PathBuf,
    /// What mountinfo says of it.
    pub entry: MountEntry,
    /// What was noted of it, where the kernel joins the layers.
    pub record: Option<Record>,
    /// The flags of the mount.
    pub attributes: Attributes,
}

impl Standing {
    /// Looks at the union that is mounted here.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is none.
    pub fn at(asked: &Path) -> Result<Self> {
        let mountpoint = canonical(asked)?;
        let kept = record::kept_by_kernel(&mountpoint)?.map(|(entry, record, _)| (entry, Some(record)));
        let Some((entry, record)) = kept.or(haosfs_at(&mountpoint)?.map(|entry| (entry, None))) else {
            return Err(Error::Refused(format!("{} is not a haosfs mount, which alone can be remounted", asked.display())));
        };
        let attributes = fuse_mount::attributes_of(&mountpoint).map_err(|e| Error::sys("look at", asked, errno(e)))?;
        Ok(Self { mountpoint, entry, record, attributes })
    }

    /// Whether the daemon has an upper, so that the union can be written.
    ///
    /// # Errors
    /// What opening the root answers, or the ioctl, which a daemon of an older version does not know.
    pub fn has_upper(&self) -> Result<bool> {
        match &self.record {
            // One that is shown by a read-only union is a lower.
            Some(record) => Ok(record.upper.is_some() && record.generation.as_ref().is_none_or(|kept| kept.writable)),
            None => self.ask(union_ioctl::has_upper),
        }
    }

    /// Has the daemon know of the remount, and make durable what was written, where nothing more is to be.
    fn tell(&self, read_only: bool) -> Result<()> {
        self.ask(|root| match union_ioctl::tell_access(root, read_only) {
            // A daemon of an older version.
            Err(rustix::io::Errno::NOTTY) => Ok(()),
            told => told,
        })?;
        if read_only { self.ask(union_ioctl::synchronise) } else { Ok(()) }
    }

    fn ask<T>(&self, question: impl FnOnce(&File) -> rustix::io::Result<T>) -> Result<T> {
        let root = File::open(&self.mountpoint).map_err(|e| Error::sys("open", &self.mountpoint, e))?;
        question(&root).map_err(|e| Error::sys("ask the daemon of", &self.mountpoint, errno(e)))
    }
}

/// Makes the union read-only or writable; nothing else changes. Read-only, all that was written is durable in the upper.
///
/// # Errors
/// [`Error::Refused`] where it has no upper, files are open for writing, or this user may not mount.
pub fn change_access(union: &Standing, access: Access) -> Result<()> {
    let shown = union.mountpoint.display();
    let read_only = access == Access::ReadOnly;
    if !read_only && !union.has_upper()? {
        return Err(Error::Refused(format!("{shown} has no upper directory, so it stays read-only")));
    }
    fuse_mount::remount(&union.mountpoint, Attributes { read_only, ..union.attributes }).map_err(|e| match e {
        rustix::io::Errno::BUSY => {
            Error::Refused(format!("{shown} is busy: files are open for writing (`fuser -vm {shown}` lists who has them)"))
        }
        rustix::io::Errno::PERM => Error::Refused(format!("only root may remount {shown}")),
        e => Error::sys("remount", &union.mountpoint, errno(e)),
    })?;
    // The kernel has handed all it held to the daemon, but tells it nothing of the remount.
    match (read_only, &union.record) {
        (_, None) => union.tell(read_only),
        (false, Some(_)) => Ok(()),
        (true, Some(_)) => union.ask(|root| rustix::fs::syncfs(root)),
    }
}
