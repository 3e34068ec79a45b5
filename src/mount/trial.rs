//! Generations of the upper, as a trial of an image makes, uses and leaves them.

use std::ffi::OsStr;
use std::path::Path;

use super::appliance::base_and_root;
use super::data::{Attached, DataPlace, ballast, locate};
use super::generation::{self, lock_if_free};
use super::image_choice;
use super::layers::open_lower_at;
use crate::config::image_source::ImageSource;
use crate::config::mount_options::Access;
use crate::config::store::Stored;
use crate::error::{Error, Result};
use crate::ovl::xattr::Namespace;
use crate::sys::daemon;
use crate::types::{Atime, Stale};
use crate::union::lower::Lower;
use crate::union::pair::Locks;
use crate::update::base::Base;
use crate::update::hidden_upper::HiddenUpper;
use crate::update::meta::Meta;
use crate::update::rebase::{Request, rebase};
use crate::update::uppers::{Generation, Uppers};

fn attach(stored: &Stored, home: &Path) -> Result<Attached> {
    let partition = &stored.config.data_partition;
    Attached::attach(locate(partition, home)?, partition, Access::ReadWrite, Atime::Never)
}

/// The uppers of a configuration whose directory is `home`; `None` where nothing was mounted yet.
fn open(stored: &Stored, home: &Path) -> Result<Option<(Attached, Uppers)>> {
    let data = attach(stored, home)?;
    let uppers = Uppers::open(data.path()).map_err(|e| data.told(e))?;
    Ok(uppers.map(|uppers| (data, uppers)))
}

/// Tries out whether the data partition can be mounted.
///
/// # Errors
/// Why it cannot.
pub fn reach_data(stored: &Stored, place: DataPlace, access: Access) -> Result<()> {
    Attached::attach(place, &stored.config.data_partition, access, Atime::Never).map(drop)
}

/// Gives room free that is kept for a boot, where there is no other.
///
/// # Errors
/// Where the data partition cannot be mounted.
pub fn release_room(stored: &Stored, home: &Path) -> Result<()> {
    let data = attach(stored, home)?;
    ballast::release_if_full(data.path());
    Ok(())
}

/// Keeps room on the data partition for the next boot, now that this one has its root: whatever runs on it may fill the rest.
///
/// # Errors
/// Where there is none, or the data partition cannot be written.
pub fn keep_room(stored: &Stored, home: &Path) -> Result<()> {
    let data = attach(stored, home)?;
    ballast::keep(data.path()).map_err(|e| data.told(e))
}

/// Makes the generation that a trial of an image runs on from the one in use, so that it has all that was changed up to now; returns its
/// number. One that is there stays, unless `anew` or the one in use was mounted since. Where nothing was mounted yet, the first one is
/// made on the system image, to which a failure leads.
///
/// # Errors
/// [`Error::Refused`] where the upper in use is mounted; where one of the images, the data partition or the upper cannot be read,
/// and where there is no room. Then nothing is changed but that what is not finished may be left, which the next attempt removes.
pub fn prepare(stored: &Stored, home: &Path, image: &ImageSource, anew: bool) -> Result<u64> {
    let data = attach(stored, home)?;
    ballast::release_if_full(data.path());
    let uppers = Uppers::open(data.path()).and_then(|uppers| match uppers {
        Some(uppers) => Ok(uppers),
        None => {
            let (base, root) = base_and_root(&image_choice::find(&stored.config.system_image, home)?)?;
            generation::open(data.path(), &base, &root, Stale::Refuse).map(|opened| opened.uppers)
        }
    });
    uppers.and_then(|uppers| prepare_on(&data, &uppers, stored, home, image, anew)).map_err(|e| data.told(e))
}

fn prepare_on(data: &Attached, uppers: &Uppers, stored: &Stored, home: &Path, image: &ImageSource, anew: bool) -> Result<u64> {
    let current = in_use(uppers, stored, home)?;
    let path = image_choice::find(image, home)?;
    let (base, _) = base_and_root(&path)?;
    if current.meta.base.is_same(&base) {
        return Ok(current.number);
    }
    for generation in generations(uppers).iter().filter(|generation| is_trial(generation, current.number, image)) {
        if !anew && generation.meta.base.is_same(&base) {
            if generation.meta.parent_mounts == current.meta.mounts {
                return Ok(generation.number);
            }
            // A boot in between that could not be counted has run on it.
            tracing::warn!("generation {} was written to since {} was made from it", current.number, generation.number);
        }
        remove(data, uppers, generation)?;
    }
    let Some(_locks) = lock_if_free(data, &current)? else {
        return Err(Error::Refused(format!("upper generation {} is in use by a mount; unmount that first", current.number)));
    };
    let old = image_of(&current, stored, home);
    if old.is_none() {
        tracing::warn!("the image of generation {} is not there: all of its upper is taken for changed", current.number);
    }
    let new = open_lower_at(&path)?;
    let namespace = if rustix::process::geteuid().is_root() { Namespace::Trusted } else { Namespace::User };
    let request = Request { upper: &current.upper, old: old.as_deref(), new: &*new, namespace };
    if let Err(e) = daemon::raise_limits() {
        tracing::debug!("the limit of open files stays as it is: {e}");
    }
    let meta = Meta {
        base,
        backend: current.meta.backend,
        parent: Some(current.number),
        mounts: 0,
        parent_mounts: current.meta.mounts,
        clean: true,
        used: false,
    };
    uppers.derive(&current, &meta, true, |into, ground| {
        let report = rebase(&request, into, ground)?;
        tracing::info!(
            "{} names are kept of generation {}, {} are left to the new image, {} were changed by both",
            report.kept,
            current.number,
            report.left_out,
            report.conflicts.len()
        );
        Ok(report.text(current.number, &current.meta.base, &meta.base))
    })
}

/// Notes of a generation for a trial that nothing was written since to the one that it was made of, though that was mounted.
///
/// # Errors
/// Where the data partition cannot be read or written.
pub fn catch_up(stored: &Stored, home: &Path, number: u64) -> Result<()> {
    let Some((data, uppers)) = open(stored, home)? else { return Ok(()) };
    let mounts = uppers.current().map(|current| current.meta.mounts);
    let noted = mounts.and_then(|parent_mounts| {
        let meta = uppers.generation(number)?.meta;
        uppers.save(number, &Meta { parent_mounts, ..meta })
    });
    noted.map_err(|e| data.told(e))
}

/// The generation in use, which is that of the system image: power may have failed after that was confirmed, or before somebody went back
/// from it.
fn in_use(uppers: &Uppers, stored: &Stored, home: &Path) -> Result<Generation> {
    let current = uppers.current()?;
    let base = image_choice::find(&stored.config.system_image, home).and_then(|path| base_and_root(&path));
    match base.ok().and_then(|(base, _)| generation::confirmed(uppers, &current, &base)) {
        Some(confirmed) => {
            uppers.set_current(confirmed.number)?;
            uppers.current()
        }
        None => Ok(current),
    }
}

/// The image that a generation was made on, where it is the system image.
fn image_of(generation: &Generation, stored: &Stored, home: &Path) -> Option<Box<dyn Lower>> {
    let path = image_choice::find(&stored.config.system_image, home).ok()?;
    let (base, _) = base_and_root(&path).ok()?;
    if generation.meta.base.is_same(&base) { open_lower_at(&path).ok() } else { None }
}

/// Which generation an image goes with.
#[derive(Debug)]
#[must_use]
pub enum InUse {
    /// One that was made on it, or that nobody has written to.
    Its,
    /// This one, which was made on another image, as none was made on it: the next mount decides about that.
    Anothers(u64),
}

/// Makes the generation that was made on an image the one in use. Where there is none, or nobody has written to any, nothing
/// changes.
///
/// # Errors
/// Where the image, the data partition or a generation cannot be read, and what writing the link answers.
pub fn take_into_use(stored: &Stored, home: &Path, image: &ImageSource) -> Result<InUse> {
    let Some((data, uppers)) = open(stored, home)? else { return Ok(InUse::Its) };
    let path = image_choice::find(image, home)?;
    let (base, _) = base_and_root(&path)?;
    let told = |e| data.told(e);
    let current = uppers.current().map_err(told)?;
    if current.meta.base.is_same(&base) {
        return Ok(InUse::Its);
    }
    let all = generations(&uppers);
    let made_on: Vec<&Generation> = all.iter().filter(|generation| generation.meta.base.is_same(&base)).collect();
    let child = made_on.iter().rfind(|generation| generation.meta.parent == Some(current.number));
    let parent = made_on.iter().find(|generation| current.meta.parent == Some(generation.number));
    match child.or(parent).or(made_on.last()) {
        Some(generation) => uppers.set_current(generation.number).map(|()| InUse::Its).map_err(told),
        None if current.meta.backend.is_none() => Ok(InUse::Its),
        None => {
            tracing::warn!(
                "no upper was made on {image}; generation {}, made on {}, stays in use",
                current.number,
                current.meta.base.name.display()
            );
            Ok(InUse::Anothers(current.number))
        }
    }
}

/// Takes away what was made for a trial of an image. The image itself may be gone.
///
/// # Errors
/// Where the data partition cannot be read or written.
pub fn discard(stored: &Stored, home: &Path, image: &ImageSource) -> Result<()> {
    let Some((data, uppers)) = open(stored, home)? else { return Ok(()) };
    let told = |e| data.told(e);
    let current = uppers.current().map_err(told)?.number;
    for generation in generations(&uppers) {
        if is_trial(&generation, current, image) {
            remove(&data, &uppers, &generation).map_err(told)?;
        }
    }
    Ok(())
}

/// True for one that was made for a trial of this image, and has not been in use: nobody has gone back from it to this one in use.
fn is_trial(generation: &Generation, current: u64, image: &ImageSource) -> bool {
    let meta = &generation.meta;
    meta.parent == Some(current) && Some(meta.base.name.as_os_str()) == file_name(image) && !meta.used
}

/// Takes away every generation that is neither in use, nor the last of one of these images, nor the last of one that was in use: that is
/// where a rollback leads, whatever was tried since. Nobody finds them any more, but their files are there. With `dry_run` none goes.
///
/// # Errors
/// Where the data partition cannot be read or written.
pub fn collect(stored: &Stored, home: &Path, images: &[&ImageSource], dry_run: bool) -> Result<Collected> {
    let mut collected = Collected::default();
    let Some((data, uppers)) = open(stored, home)? else { return Ok(collected) };
    let told = |e| data.told(e);
    let current = uppers.current().map_err(told)?.number;
    let all = generations(&uppers);
    let kept: Vec<u64> = images.iter().flat_map(|image| lasts(&all, image, home)).chain([current]).collect();
    for generation in all.iter().filter(|generation| !kept.contains(&generation.number)) {
        if !dry_run {
            let Some(locks) = lock(&data, generation).map_err(told)? else { continue };
            uppers.hide(generation.number).map_err(told)?;
            collected.locks.push(locks);
        }
        collected.numbers.push(generation.number);
    }
    if !dry_run {
        collected.hidden = uppers.hidden().map_err(told)?;
    }
    collected.data = Some(data);
    Ok(collected)
}

/// Generations that were taken away, and whose files are there still: to remove these takes as long as there are many.
#[derive(Debug, Default)]
pub struct Collected {
    numbers: Vec<u64>,
    /// Also those that were left by somebody who was killed.
    hidden: Vec<HiddenUpper>,
    /// Whoever was about to mount one finds it in use.
    locks: Vec<Locks>,
    data: Option<Attached>,
}

impl Collected {
    /// Removes the files, and returns the numbers of the generations. What is left after an error is collected the next time.
    ///
    /// # Errors
    /// Where the data partition cannot be written.
    pub fn clear(self) -> Result<Vec<u64>> {
        let Self { numbers, hidden, locks: _locks, data } = self;
        let cleared = hidden.into_iter().try_for_each(HiddenUpper::clear);
        match (cleared, data) {
            (Ok(()), _) => Ok(numbers),
            (Err(e), Some(data)) => Err(data.told(e)),
            (Err(e), None) => Err(e),
        }
    }
}

/// The last ones of an image, of all and of those that were in use. Two images may have one name, and one image two; one that is gone
/// or was replaced is known by its name.
fn lasts(all: &[Generation], image: &ImageSource, home: &Path) -> Vec<u64> {
    let base = image_choice::find(image, home).and_then(|path| base_and_root(&path)).ok();
    let by_base = |made_on: &Base| base.as_ref().is_some_and(|(base, _)| made_on.is_same(base));
    let by_name = |made_on: &Base| Some(made_on.name.as_os_str()) == file_name(image);
    let last = |is_its: &dyn Fn(&Base) -> bool, used: bool| {
        let found = all.iter().rfind(|generation| is_its(&generation.meta.base) && (generation.meta.used || !used));
        found.map(|generation| generation.number)
    };
    [last(&by_base, false), last(&by_base, true), last(&by_name, false), last(&by_name, true)].into_iter().flatten().collect()
}

/// Those that can be read, ascending.
fn generations(uppers: &Uppers) -> Vec<Generation> {
    let numbers = uppers.numbers().unwrap_or_default();
    numbers.into_iter().filter_map(|number| uppers.generation(number).ok()).collect()
}

/// Where it is in use, it stays.
fn remove(data: &Attached, uppers: &Uppers, generation: &Generation) -> Result<()> {
    let Some(_locks) = lock(data, generation)? else { return Ok(()) };
    uppers.remove(generation.number)
}

/// `None` where it is in use.
fn lock(data: &Attached, generation: &Generation) -> Result<Option<Locks>> {
    let locks = lock_if_free(data, generation)?;
    if locks.is_none() {
        tracing::warn!("upper generation {} is in use by a mount, and stays", generation.number);
    }
    Ok(locks)
}

fn file_name(image: &ImageSource) -> Option<&OsStr> {
    Path::new(image.as_str()).file_name()
}
