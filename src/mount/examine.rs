//! What this machine offers this user, and what would be taken of it.

use super::backend::{Abilities, Ability, Choice, choose};
use super::kernel;
use super::plan::MountPlan;
use super::probe::{Facts, probe};
use super::upper_facts::{self, UpperFacts};
use super::way::ways;
use crate::config::mount_options::{Backend as Wanted, MountOptions};
use crate::error::{Errno, Result};
use crate::sys::fs_context::FsContext;
use crate::sys::loop_device;

/// Everything that decides who joins the layers of squashfs images.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Rights and programs.
    pub facts: Facts,
    /// overlayfs.
    pub overlay: Ability,
    /// The kernel's squashfs.
    pub squashfs: Ability,
    /// Loop devices.
    pub loops: Ability,
    /// fsopen(2).
    pub mount_api: Ability,
    /// A FUSE mount.
    pub fuse: Ability,
    /// What a haos.ini would be mounted by; an error where nothing can.
    pub automatic: std::result::Result<Choice, String>,
}

/// Looks at the machine.
#[must_use]
pub fn examine() -> Examination {
    let facts = probe();
    let overlay = kernel::has_overlay();
    let squashfs = has_squashfs();
    let loops = if loop_device::available() { Ok(()) } else { Err("there are no loop devices, or not for this user".to_owned()) };
    let mount_api = kernel::builds_detached();
    let fuse = ways(&facts).map(drop).map_err(|e| e.to_string());
    let can = Abilities {
        mount: kernel::may_mount(&facts),
        overlay: overlay.clone(),
        detached: mount_api.clone(),
        images: squashfs.clone().and_then(|()| loops.clone()),
        readable: true,
        fuse: fuse.clone(),
    };
    let automatic = choose(Some(Wanted::Auto), &MountOptions::default(), false, &can).map_err(|e| e.to_string());
    Examination { facts, overlay, squashfs, loops, mount_api, fuse, automatic }
}

/// `EPERM` says nothing of the file system.
fn has_squashfs() -> Ability {
    match FsContext::open("squashfs") {
        Ok(_) => Ok(()),
        Err(Errno::ENODEV) => Err("the kernel has no squashfs".to_owned()),
        Err(e @ (Errno::EPERM | Errno::ENOSYS)) => {
            kernel::is_listed("squashfs").then_some(()).ok_or_else(|| format!("it cannot be told whether the kernel has it: {e}"))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Who would join the layers of a plan, and what its upper can hold.
///
/// # Errors
/// What would stand in the way of the mount.
pub fn examine_plan(plan: &MountPlan) -> Result<(Choice, Option<UpperFacts>)> {
    let (can, _lowers) = kernel::try_out(plan)?;
    let choice = choose(plan.backend, &plan.options, false, &can)?;
    let upper = plan.upper.as_ref().map(|upper| upper_facts::probe(&upper.work)).transpose()?;
    Ok((choice, upper))
}
