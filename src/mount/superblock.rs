//! Builds the FUSE superblock of a plan in one of the ways, and places or removes it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::fusermount;
use super::given;
use super::plan::MountPlan;
use super::probe::Facts;
use super::way::{Way, no_way};
use crate::error::{Errno, Error, Result};
use crate::sys::fuse_mount::{self, Parameters};

/// A superblock that waits for its daemon.
pub struct Superblock {
    /// /dev/fuse, bound to the superblock.
    pub device: OwnedFd,
    /// Where it is.
    pub place: Place,
}

/// Where a superblock is before its daemon answers.
pub enum Place {
    /// Mounted nowhere; dropping it removes it.
    Detached(OwnedFd),
    /// Already at the mountpoint: whoever looks waits for the daemon.
    Mounted,
    /// Mounted by whoever opened the device for this process.
    Given,
    /// The same as `Mounted`, put there by fusermount3 at this path.
    MountedByHelper(PathBuf),
}

/// Tries the ways in order; a refusal for lack of rights or of the system call leads to the next, and so does one of what mount(2)
/// takes and its successors do not: sources of 256 bytes or more (fs/fsopen.c, `SYSCALL_DEFINE5(fsconfig)`).
///
/// # Errors
/// What the last way answered.
pub fn build(plan: &MountPlan, ways: &[Way], facts: &Facts) -> Result<Superblock> {
    if let Some(number) = given::descriptor(&plan.mountpoint) {
        return Ok(Superblock { device: given::take(number)?, place: Place::Given });
    }
    let mut refusal = None;
    for way in ways {
        match build_one(plan, *way, facts) {
            Err(e) if matches!(e.errno(), Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => {
                tracing::debug!(?way, "{e}");
                refusal = Some(e);
            }
            answer => return answer,
        }
    }
    Err(match refusal {
        Some(e) if e.errno() == Errno::EPERM => Error::Refused(format!("{e}: {}", no_way(facts))),
        Some(e) => e,
        None => Error::Refused(no_way(facts)),
    })
}

fn build_one(plan: &MountPlan, way: Way, facts: &Facts) -> Result<Superblock> {
    let parameters = parameters(plan, facts);
    if let (Way::Fusermount, Some(program)) = (way, &facts.fusermount) {
        let device = fusermount::mount(program, &parameters, &plan.mountpoint)?;
        return Ok(Superblock { device, place: Place::MountedByHelper(program.clone()) });
    }
    let device = fuse_mount::open_device().map_err(|e| Error::sys("open", fuse_mount::DEVICE, errno(e)))?;
    let place = match way {
        Way::Detached => {
            let detached = fuse_mount::build_detached(&device, &parameters)
                .map_err(|e| Error::sys("build the mount for", &plan.mountpoint, errno(e)))?;
            Place::Detached(detached)
        }
        Way::OneStep | Way::Fusermount => {
            fuse_mount::mount_at(&device, &parameters, &plan.mountpoint)
                .map_err(|e| Error::sys("mount on", &plan.mountpoint, errno(e)))?;
            Place::Mounted
        }
    };
    Ok(Superblock { device, place })
}

/// As root the kernel checks permissions for everyone; an ordinary user's mount is for that user unless asked otherwise.
fn parameters<'a>(plan: &'a MountPlan, facts: &Facts) -> Parameters<'a> {
    Parameters {
        source: &plan.source,
        uid: facts.euid,
        gid: rustix::process::getegid().as_raw(),
        allow_other: plan.options.allow_other || facts.euid == 0,
        default_permissions: true,
        attributes: plan.attributes,
    }
}

impl Place {
    /// Makes the union visible at the mountpoint, where it is not yet. The descriptor of a detached mount is closed by that:
    /// kept, it would make every unmount `EBUSY`.
    ///
    /// # Errors
    /// What move_mount(2) answers; the detached mount is then gone.
    pub fn attach(self, mountpoint: &Path) -> Result<Self> {
        match self {
            Self::Detached(detached) => {
                fuse_mount::attach(&detached, mountpoint).map_err(|e| Error::sys("mount on", mountpoint, errno(e)))?;
                Ok(Self::Mounted)
            }
            mounted => Ok(mounted),
        }
    }

    /// Takes the mount away again, if it is at the mountpoint.
    ///
    /// # Errors
    /// `EBUSY` while in use and not `lazy`.
    pub fn remove(&self, mountpoint: &Path, lazy: bool) -> Result<()> {
        match self {
            Self::Given if !lazy => Err(Error::Refused("only who mounted the union can unmount it".to_owned())),
            Self::Detached(_) | Self::Given => Ok(()),
            Self::Mounted => fuse_mount::unmount(mountpoint, lazy).map_err(|e| Error::sys("unmount", mountpoint, errno(e))),
            Self::MountedByHelper(program) => fusermount::unmount(program, mountpoint, lazy),
        }
    }
}

/// The crate's errno for rustix's.
pub fn errno(e: rustix::io::Errno) -> Errno {
    Errno(e.raw_os_error())
}
