//! `-o remount`, and `umount -r`.

use std::path::Path;

use crate::config::mount_options::Access;
use crate::config::remount::{Claim, Remount};
use crate::error::Result;
use crate::mount::{self, Standing};

/// Whether to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Yes.
    Real,
    /// Only the checks.
    DryRun,
}

/// Makes the union at `mountpoint` read-only or writable.
///
/// # Errors
/// Whatever stands in the way; [`crate::error::Error::Refused`] where more than that is asked for.
pub fn run(mountpoint: &Path, remount: &Remount, manner: Manner) -> Result<()> {
    let union = Standing::at(mountpoint)?;
    remount.check(|claim| is_so(&union, claim))?;
    match (remount.access, manner) {
        (Some(access), Manner::Real) => mount::change_access(&union, access),
        _ => Ok(()),
    }
}

/// Makes it read-only, whatever else it is.
///
/// # Errors
/// As for [`run`].
pub fn read_only(mountpoint: &Path) -> Result<()> {
    mount::change_access(&Standing::at(mountpoint)?, Access::ReadOnly)
}

fn is_so(union: &Standing, claim: Claim) -> bool {
    match claim {
        Claim::Nosuid(nosuid) => union.attributes.nosuid == nosuid,
        Claim::Nodev(nodev) => union.attributes.nodev == nodev,
        Claim::Noexec(noexec) => union.attributes.noexec == noexec,
        Claim::Nosymfollow(nosymfollow) => union.attributes.nosymfollow == nosymfollow,
        Claim::Sync(sync) => union.attributes.sync == sync,
        Claim::Atime(atime) => union.attributes.atime == atime,
        Claim::AllowOther => union.entry.super_options.split(|&b| b == b',').any(|option| option == b"allow_other"),
    }
}
