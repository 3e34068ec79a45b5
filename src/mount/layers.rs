//! From a plan to an opened union, before anything is mounted.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use super::backend::Backend;
use super::data::Attached;
use super::format::Format;
use super::plan::{self, Layer, LayerKind, MountPlan, UpperPlan};
use super::{image_mount, in_use};
use crate::config::mount_options::{Fsync, MountOptions, RedirectDir, Uuid, Xino};
use crate::error::{Error, Result};
use crate::image::{self, Image};
use crate::sys::fuse_mount::Attributes;
use crate::types::Atime;
use crate::union::lower::Lower;
use crate::union::{self, DirLower, SquashfsLower, Union, Upper};

/// Opens every layer of the plan and joins them.
///
/// # Errors
/// What opening an image, a directory or the upper answers.
pub fn open(plan: &MountPlan) -> Result<Arc<Union>> {
    let images = plan.lowers.iter().filter(|layer| matches!(layer.kind, LayerKind::Image { .. })).count();
    let lowers = plan.lowers.iter().map(|layer| open_lower(layer, &plan.options, images)).collect::<Result<Vec<_>>>()?;
    let union = Union::new(lowers, open_upper(plan, Backend::Fuse)?, union_options(&plan.options))?;
    union.set_read_only(plan.attributes.read_only);
    Ok(Arc::new(union))
}

/// Opens and locks the upper of a plan, where it has one, clears its work directory, and notes who writes to it from now on.
///
/// # Errors
/// What opening it answers.
pub fn open_upper(plan: &MountPlan, backend: Backend) -> Result<Option<Upper>> {
    let Some(asked) = &plan.upper else { return Ok(None) };
    let may_take = |both: &_| in_use::refuse(both, data_of(asked));
    let upper = Upper::open(&asked.upper, &asked.work, prefix(&plan.options), upper_atime(&plan.attributes), may_take)
        .map_err(|e| told(asked, e))?;
    if let Some(claim) = asked.claim.as_ref().filter(|_| !plan.attributes.read_only) {
        claim.begin(backend.recorded())?;
    }
    Ok(Some(upper))
}

/// Opens what a mount would open, as far as that changes nothing, and closes it again. What the kernel is to mount, it has mounted.
///
/// # Errors
/// As for [`open`].
pub fn look(plan: &MountPlan, backend: Backend) -> Result<()> {
    if backend != Backend::Kernel {
        open_lowers(plan)?;
    }
    let Some(asked) = &plan.upper else { return Ok(()) };
    Upper::look(&asked.upper, &asked.work, |both| in_use::refuse(both, data_of(asked))).map_err(|e| told(asked, e))
}

/// Joins the lowers of the plan alone, to be read only.
///
/// # Errors
/// What opening an image or a directory answers.
pub fn open_lowers(plan: &MountPlan) -> Result<Arc<Union>> {
    let below = MountPlan { upper: None, ..plan.clone() };
    open(&below)
}

/// Opens one lower by itself: an image or a directory.
///
/// # Errors
/// [`crate::error::Error::Refused`] where it is neither; what opening it answers.
pub fn open_lower_at(path: &Path) -> Result<Box<dyn Lower>> {
    open_lower(&plan::layer(path)?, &MountOptions::default(), 1)
}

pub(super) fn open_lower(layer: &Layer, options: &MountOptions, images: usize) -> Result<Box<dyn Lower>> {
    Ok(match layer.kind {
        LayerKind::Image { offset } => match Format::of(&layer.path, offset)? {
            Format::Squashfs => Box::new(SquashfsLower::new(Image::open(&layer.path, &image_options(options, offset, images))?)),
            // A directory to us. The layer holds its root open, and by that the mount.
            other => {
                let mut stage = None;
                let mount = image_mount::mount(&layer.path, offset, other, &mut stage)?;
                Box::new(DirLower::open(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd())))?)
            }
        },
        LayerKind::Directory => Box::new(DirLower::open(&layer.path)?),
    })
}

fn data_of(asked: &UpperPlan) -> Option<&Attached> {
    asked.claim.as_ref().map(|claim| claim.data())
}

fn told(asked: &UpperPlan, e: Error) -> Error {
    match &asked.claim {
        Some(claim) => claim.data().told(e),
        None => e,
    }
}

/// What is not said is shared: several images together take no more memory than one.
fn image_options(options: &MountOptions, offset: u64, images: usize) -> image::Options {
    let default = image::Options::default();
    let share = |budget: u64| budget / u64::try_from(images).unwrap_or(u64::MAX).max(1);
    image::Options {
        offset,
        data_cache: options.data_cache.unwrap_or_else(|| share(default.data_cache)),
        metadata_cache: options.metadata_cache.unwrap_or_else(|| share(default.metadata_cache)),
        listing_cache: options.listing_cache.unwrap_or_else(|| share(default.listing_cache)),
    }
}

fn union_options(options: &MountOptions) -> union::Options {
    let fsync = match options.fsync {
        Fsync::Auto => union::Durability::Auto,
        Fsync::Strict => union::Durability::Strict,
        Fsync::Volatile => union::Durability::Volatile,
    };
    let redirect_dir = match (options.redirect_dir, options.metacopy) {
        (Some(RedirectDir::On), _) | (None, true) => union::RedirectDir::On,
        (Some(RedirectDir::NoFollow), _) => union::RedirectDir::NoFollow,
        (Some(RedirectDir::Follow) | None, _) => union::RedirectDir::Follow,
    };
    let index = match options.index {
        None => union::IndexMode::Unsaid,
        Some(false) => union::IndexMode::Off,
        Some(true) => union::IndexMode::On,
    };
    union::Options {
        owner: owner(options),
        fsync,
        redirect_dir,
        metacopy: options.metacopy,
        xino: options.xino == Xino::On,
        index,
        uuid: match options.uuid {
            Uuid::Null => union::UuidMode::Null,
            Uuid::Off => union::UuidMode::Off,
            Uuid::Auto => union::UuidMode::Auto,
            Uuid::On => union::UuidMode::On,
        },
        userxattr: options.userxattr,
    }
}

/// What the mount says of its files holds for those of the upper, whatever the mount below them says (as in the kernel's).
const fn upper_atime(attributes: &Attributes) -> Atime {
    if attributes.read_only { Atime::Never } else { attributes.atime }
}

const fn prefix(options: &MountOptions) -> union::Prefix {
    if options.userxattr { union::Prefix::User } else { union::Prefix::Auto }
}

/// Where only one of `uid=` and `gid=` is given, the other is that of the mounting process.
fn owner(options: &MountOptions) -> Option<(u32, u32)> {
    if !options.squashes_owner() {
        return None;
    }
    let uid = options.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let gid = options.gid.unwrap_or_else(|| rustix::process::getegid().as_raw());
    Some((uid, gid))
}
