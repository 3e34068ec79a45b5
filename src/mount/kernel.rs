//! The backends in which the kernel joins the layers: everything is built where nobody sees it, then placed in one step.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::backend::{Abilities, Ability, Choice};
use super::format::Format;
use super::layers;
use super::mountinfo::{self, MountEntry};
use super::plan::{Layer, LayerKind, MountPlan};
use super::probe::{Facts, probe};
use super::record::Note;
use super::serve::{conclude_unlocked, forget, note, tell_mounted};
use super::stage::Stage;
use super::way::ways;
use super::{image_mount, overlay};
use crate::config::mount_options::Backend as Wanted;
use crate::error::{Errno, Error, Result};
use crate::sys::fs_context::FsContext;
use crate::sys::{fuse_mount, layer};

/// Lower layers as mounts of the kernel's, topmost first; empty where they were not asked for.
#[derive(Debug, Default)]
pub struct Lowers {
    layers: Vec<Arc<OwnedFd>>,
    stage: Option<Stage>,
}

/// Finds out by trying what the kernel can do for a plan. What came into being by that is kept for use.
///
/// # Errors
/// When an image cannot be read at all.
pub fn try_out(plan: &MountPlan) -> Result<(Abilities, Lowers)> {
    let facts = probe();
    // Our daemon finds out by itself, and whoever waits for it can break it off meanwhile.
    let readable = match plan.backend {
        None | Some(Wanted::Fuse) => true,
        Some(_) => plan.lowers.iter().map(is_readable).collect::<Result<Vec<_>>>()?.into_iter().all(|readable| readable),
    };
    let mount = may_mount(&facts);
    let wanted = plan.backend;
    let (overlay, detached) = match &mount {
        Ok(()) if wanted.is_some_and(|wanted| wanted != Wanted::Fuse) => (has_overlay(), builds_detached()),
        _ => (Err("it was not looked for".to_owned()), Ok(())),
    };
    let (images, lowers) = match (&mount, wanted) {
        (Ok(()), Some(Wanted::Auto | Wanted::Kernel)) => split(open_lowers(plan)),
        _ => (Ok(()), Lowers::default()),
    };
    let fuse = ways(&facts).map(drop).map_err(|e| e.to_string());
    Ok((Abilities { mount, overlay, detached, images, readable, fuse }, lowers))
}

fn is_readable(layer: &Layer) -> Result<bool> {
    match layer.kind {
        LayerKind::Image { offset } => Ok(Format::of(&layer.path, offset)? == Format::Squashfs),
        LayerKind::Directory => Ok(true),
    }
}

/// Where the kernel cannot be asked so, its list tells of drivers that are loaded or built in; mount(2) loads others.
pub(super) fn has_overlay() -> Ability {
    match FsContext::open("overlay") {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS | Errno::EPERM) if is_listed("overlay") => Ok(()),
        Err(Errno::ENOSYS | Errno::EPERM) => {
            Err("the kernel has no overlayfs, or it is not loaded (`modprobe overlay`)".to_owned())
        }
        Err(Errno::ENODEV) => Err("the kernel has no overlayfs".to_owned()),
        Err(e) => Err(format!("the kernel's overlayfs cannot be opened: {e}")),
    }
}

/// Whether /proc/filesystems has a driver, which it has where that is loaded or built in.
pub(super) fn is_listed(driver: &str) -> bool {
    let listed = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    listed.lines().any(|line| line.rsplit('\t').next() == Some(driver))
}

/// The kernel reads images for root of the first user namespace alone.
pub(super) fn may_mount(facts: &Facts) -> Ability {
    if facts.may_administer && facts.initial_user_namespace {
        return Ok(());
    }
    Err("only root, outside of a user namespace, may have the kernel mount images".to_owned())
}

pub(super) fn builds_detached() -> Ability {
    match FsContext::open("fuse") {
        Err(e @ (Errno::ENOSYS | Errno::EPERM)) => Err(format!("fsopen(2), which came with Linux 5.2, cannot be used: {e}")),
        _ => Ok(()),
    }
}

fn split(opened: Result<Lowers>) -> (Ability, Lowers) {
    match opened {
        Ok(lowers) => (Ok(()), lowers),
        Err(e) => (Err(e.to_string()), Lowers::default()),
    }
}

fn open_lowers(plan: &MountPlan) -> Result<Lowers> {
    let mut lowers = Lowers::default();
    for lower in &plan.lowers {
        lowers.layers.push(match lower.kind {
            LayerKind::Image { offset } => {
                let format = Format::of(&lower.path, offset)?;
                image_mount::mount(&lower.path, offset, format, &mut lowers.stage).map(Arc::new)?
            }
            LayerKind::Directory => {
                layer::open_lower(&lower.path).map_err(|e| Error::sys("open lower directory", &lower.path, e))?
            }
        });
    }
    Ok(lowers)
}

/// Mounts a plan by the kernel alone.
///
/// # Errors
/// What stands in the way, as for the daemon, and `EINTR` where this `is_interrupted` meanwhile; nothing is then left mounted, but for
/// what somebody else has covered by then.
pub fn mount(plan: &MountPlan, mut lowers: Lowers, choice: &Choice, is_interrupted: impl Fn() -> bool) -> Result<()> {
    let layers: Vec<_> = lowers.layers.iter().map(|lower| lower.as_fd()).collect();
    let placed = place(plan, &layers, &mut lowers.stage, choice);
    if is_interrupted() {
        let is_gone = match placed {
            Ok((mount, note)) => withdraw(plan, &mount, note.as_ref()),
            Err(e) => {
                tracing::debug!("{e}");
                true
            }
        };
        if is_gone {
            conclude_unlocked(plan);
        }
        return Err(Error::sys("finish mounting", &plan.mountpoint, Errno::EINTR));
    }
    placed.inspect_err(|_| conclude_unlocked(plan))?;
    tell_mounted(plan, choice);
    Ok(())
}

/// Takes a mount away that was just made, whoever looks at it already. False where it stays: another one may lie on it.
fn withdraw(plan: &MountPlan, mount: &MountEntry, note: Option<&Note>) -> bool {
    let shown = plan.mountpoint.display();
    let unmounted = match mountinfo::mount_at(&plan.mountpoint) {
        Ok(Some(found)) if found.device == mount.device => {
            fuse_mount::unmount(&plan.mountpoint, true).map_err(|e| format!("{shown}: {e}"))
        }
        Ok(_) => Err(format!("{shown} shows another mount")),
        Err(e) => Err(e.to_string()),
    };
    match &unmounted {
        Ok(()) => forget(note),
        Err(e) => tracing::warn!("what was just mounted stays: {e}"),
    }
    unmounted.is_ok()
}

/// Has overlayfs join these layers with the plan's upper, and notes that the mount is ours.
///
/// # Errors
/// What stands in the way; nothing is then left mounted.
pub fn place(
    plan: &MountPlan,
    lowers: &[BorrowedFd<'_>],
    stage: &mut Option<Stage>,
    choice: &Choice,
) -> Result<(MountEntry, Option<Note>)> {
    // The daemon's own checks of the upper, and its locks until the kernel's overlayfs has it.
    let _upper = layers::open_upper(plan, choice.backend)?;
    let union = overlay::mount(plan, lowers, stage)?;
    let mount = entry_of(&union, plan).inspect_err(|_| {
        if let Err(e) = fuse_mount::unmount(&plan.mountpoint, true) {
            tracing::warn!("{}: {e}", plan.mountpoint.display());
        }
    })?;
    let note = note(&mount, plan, choice);
    Ok((mount, note))
}

/// By its device number: another mount may have come to lie on it already.
fn entry_of(union: &OwnedFd, plan: &MountPlan) -> Result<MountEntry> {
    let stat = rustix::fs::fstat(union).map_err(|e| Error::sys("stat", &plan.mountpoint, e))?;
    let device = format!("{}:{}", rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let found = mountinfo::all()?.into_iter().rev().find(|mount| mount.device == device && mount.mountpoint == plan.mountpoint);
    found.ok_or_else(|| Error::Refused(format!("{} does not show the mount", plan.mountpoint.display())))
}
