//! From a plan to an opened union, before anything is mounted.

use std::path::Path;
use std::sync::Arc;

use super::plan::{self, Layer, LayerKind, MountPlan};
use crate::config::mount_options::{Fsync, MountOptions, RedirectDir, Uuid, Xino};
use crate::error::Result;
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
    let upper = plan
        .upper
        .as_ref()
        .map(|u| Upper::open(&u.upper, &u.work, prefix(&plan.options), upper_atime(&plan.attributes)))
        .transpose()?;
    Ok(Arc::new(Union::new(lowers, upper, union_options(&plan.options))?))
}

/// Opens one lower by itself: an image or a directory.
///
/// # Errors
/// [`crate::error::Error::Refused`] where it is neither; what opening it answers.
pub fn open_lower_at(path: &Path) -> Result<Box<dyn Lower>> {
    open_lower(&plan::layer(path)?, &MountOptions::default(), 1)
}

fn open_lower(layer: &Layer, options: &MountOptions, images: usize) -> Result<Box<dyn Lower>> {
    Ok(match layer.kind {
        LayerKind::Image { offset } => {
            Box::new(SquashfsLower::new(Image::open(&layer.path, &image_options(options, offset, images))?))
        }
        LayerKind::Directory => Box::new(DirLower::open(&layer.path)?),
    })
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
    if options.uid.is_none() && options.gid.is_none() {
        return None;
    }
    let uid = options.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let gid = options.gid.unwrap_or_else(|| rustix::process::getegid().as_raw());
    Some((uid, gid))
}
