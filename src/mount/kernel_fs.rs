//! A file system that the kernel reads itself, mounted where nobody sees it: nowhere at all, or on a [`Stage`] where the kernel
//! knows mount(2) only.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;

use super::stage::Stage;
use crate::error::{Errno, Error, Result};
use crate::sys::fs_context::FsContext;
use crate::sys::fuse_mount::Attributes;
use crate::sys::kernel_mount;

/// What is to be mounted.
#[derive(Clone, Debug)]
pub struct KernelFs<'a> {
    /// Name of the driver.
    pub driver: &'a str,
    /// A block device, or a mere name.
    pub source: &'a OsStr,
    /// Options in the driver's own words.
    pub options: &'a [String],
    /// Flags of the mount.
    pub attributes: Attributes,
}

/// Why the kernel mounts something not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its answer.
    pub errno: Errno,
    /// What it has to say, which may be nothing.
    pub said: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.said.is_empty() { self.errno.fmt(f) } else { write!(f, "{} ({})", self.said, self.errno) }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, said: String::new() }
    }
}

impl KernelFs<'_> {
    /// Mounts it, and opens its root. The stage is built where it is needed; once it is gone, the mount lives as long as it is
    /// open or in use.
    ///
    /// # Errors
    /// The kernel's answer for the file system, in `Err` of the inner result; where no stage can be built, the outer one.
    pub fn mount(&self, stage: &mut Option<Stage>) -> Result<std::result::Result<OwnedFd, Refusal>> {
        match FsContext::open(self.driver) {
            Ok(context) => Ok(self.configure(&context, self.attributes.read_only)),
            // Before Linux 5.2, and in sandboxes that have not heard of it.
            Err(Errno::ENOSYS | Errno::EPERM) => self.mount_on(stage),
            Err(errno) => Ok(Err(errno.into())),
        }
    }

    /// The same for a file system that may be mounted elsewhere. All its mounts have one superblock: one that is written to stays so, and
    /// this mount alone is read-only; one that is only read becomes writable, which no read-only mount of it does.
    ///
    /// # Errors
    /// As for [`KernelFs::mount`].
    pub fn mount_shared(&self, stage: &mut Option<Stage>) -> Result<std::result::Result<OwnedFd, Refusal>> {
        let mounted = self.mount(stage)?;
        let Err(Refusal { errno: Errno::EBUSY, .. }) = mounted else { return Ok(mounted) };
        let Ok(context) = FsContext::open(self.driver) else { return Ok(mounted) };
        let shared = self.configure(&context, !self.attributes.read_only);
        Ok(match shared {
            Ok(root) if !self.attributes.read_only => FsContext::make_writable(&root).map(|()| root).map_err(Refusal::from),
            shared => shared,
        })
    }

    fn configure(&self, context: &FsContext, read_only: bool) -> std::result::Result<OwnedFd, Refusal> {
        self.try_configure(context, read_only).map_err(|errno| Refusal { errno, said: context.messages() })
    }

    fn try_configure(&self, context: &FsContext, read_only: bool) -> Result<OwnedFd, Errno> {
        context.string("source", self.source)?;
        for option in self.options {
            match option.split_once('=') {
                Some((name, value)) => context.string(name, OsStr::new(value))?,
                None => context.flag(option)?,
            }
        }
        context.mount_of(read_only, self.attributes)
    }

    fn mount_on(&self, stage: &mut Option<Stage>) -> Result<std::result::Result<OwnedFd, Refusal>> {
        let place = on(stage)?.place()?;
        let options = OsString::from(self.options.join(","));
        let mounted = kernel_mount::mount(self.driver, self.source, &place, self.attributes, &options);
        Ok(mounted.map_err(Refusal::from))
    }
}

/// The stage, built where there is none yet.
///
/// # Errors
/// As for [`Stage::build`].
pub fn on(stage: &mut Option<Stage>) -> Result<&Stage> {
    if stage.is_none() {
        *stage = Some(Stage::build()?);
    }
    stage.as_ref().ok_or_else(|| Error::Refused("there is no stage".to_owned()))
}
