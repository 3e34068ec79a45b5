//! The upper that a data partition has for an image.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::data::{Attached, refuse_unfit};
use super::in_use;
use crate::error::{Errno, Error, Result};
use crate::sys::replace::{self, Rights};
use crate::types::{Attr, Stale};
use crate::union::pair::{self, Locks};
use crate::update::base::{Base, Fit, fit};
use crate::update::meta::{Backend, Meta};
use crate::update::uppers::{Generation, Uppers};

/// A generation that may be mounted with an image.
#[derive(Debug)]
pub struct Opened {
    /// All generations of the data partition.
    pub uppers: Uppers,
    /// The one in use.
    pub generation: Generation,
    /// How it goes with the image; [`Fit::ReadOnly`] must be mounted read-only.
    pub fit: Fit,
}

/// The generation in use, where the data partition has one yet.
///
/// # Errors
/// As for [`open`].
pub fn look(data: &Path, base: &Base, stale: Stale) -> Result<Option<Opened>> {
    let Some(uppers) = Uppers::open(data)? else { return Ok(None) };
    let mut generation = uppers.current()?;
    if let Some(confirmed) = confirmed(&uppers, &generation, base) {
        generation = confirmed;
    }
    let fit = fit(generation.number, &generation.meta.base, base, stale)?;
    Ok(Some(Opened { uppers, generation, fit }))
}

/// The generation that a trial of this image made from the one in use. Who configures the image has confirmed it, though power may
/// have failed before the link was changed.
pub(super) fn confirmed(uppers: &Uppers, current: &Generation, base: &Base) -> Option<Generation> {
    if current.meta.base.is_same(base) {
        return None;
    }
    let numbers = uppers.numbers().unwrap_or_default();
    let mut generations = numbers.into_iter().rev().filter_map(|number| uppers.generation(number).ok());
    generations.find(|generation| generation.meta.parent == Some(current.number) && generation.meta.base.is_same(base))
}

/// One that nobody has ever written to is made on whatever image it is first mounted with.
fn rebound(uppers: Uppers, base: &Base, root: &Attr, stale: Stale) -> Result<Opened> {
    let mut generation = uppers.current()?;
    if let Some(confirmed) = confirmed(&uppers, &generation, base) {
        uppers.set_current(confirmed.number)?;
        generation = uppers.current()?;
    }
    if generation.meta.backend.is_none() && !generation.meta.base.is_same(base) {
        generation.meta.base = base.clone();
        let rights = Rights { perm: root.perm, owner: owner(root) };
        let set = replace::open_dir(&generation.upper).and_then(|upper| replace::set_rights(&upper, rights));
        set.map_err(|e| Error::sys("change", &generation.upper, e))?;
        uppers.save(generation.number, &generation.meta)?;
    }
    let fit = fit(generation.number, &generation.meta.base, base, stale)?;
    Ok(Opened { uppers, generation, fit })
}

/// Opens the generation in use for an image whose root directory has these attributes. A data partition without any gets its first,
/// made on this image.
///
/// # Errors
/// Where it was made on another image and `stale` does not allow that, and where it is not whole.
pub fn open(data: &Path, base: &Base, root: &Attr, stale: Stale) -> Result<Opened> {
    if let Some(uppers) = Uppers::open(data)? {
        return rebound(uppers, base, root, stale);
    }
    refuse_unfit(data)?;
    let first = Meta { base: base.clone(), backend: None, parent: None, mounts: 0, parent_mounts: 0, clean: true, used: true };
    // The root of the union shows what the root of the upper has.
    let uppers = Uppers::create(data, &first, Rights { perm: root.perm, owner: owner(root) })?;
    let generation = uppers.current()?;
    Ok(Opened { uppers, generation, fit: Fit::Same })
}

/// Opens the generation of this number, in use or not, for an image.
///
/// # Errors
/// Where it is not there or not whole, and where it was made on another image and `stale` does not allow that.
pub fn open_numbered(data: &Path, number: u64, base: &Base, stale: Stale) -> Result<Opened> {
    let missing = || Error::Refused(format!("there is no upper generation {number}"));
    let uppers = Uppers::open(data)?.ok_or_else(missing)?;
    let generation = uppers.generation(number)?;
    let fit = fit(generation.number, &generation.meta.base, base, stale)?;
    Ok(Opened { uppers, generation, fit })
}

/// The generation that one union has, with the data partition it lies on. Who has it is known by the locks of its upper.
#[derive(Debug)]
pub struct Claim {
    data: Attached,
    opened: Opened,
    /// Who writes, once somebody does.
    writer: OnceLock<Backend>,
}

impl Claim {
    /// Of a generation that was opened on this data partition.
    #[must_use]
    pub const fn new(data: Attached, opened: Opened) -> Self {
        Self { data, opened, writer: OnceLock::new() }
    }

    /// The data partition.
    #[must_use]
    pub const fn data(&self) -> &Attached {
        &self.data
    }

    /// The generation, as it was opened.
    #[must_use]
    pub const fn generation(&self) -> &Generation {
        &self.opened.generation
    }

    /// How it goes with the image.
    #[must_use]
    pub const fn fit(&self) -> Fit {
        self.opened.fit
    }

    /// The upper and its work directory, as this process reaches them.
    #[must_use]
    pub fn directories(&self) -> (PathBuf, PathBuf) {
        (self.opened.generation.upper.clone(), self.opened.generation.work.clone())
    }

    /// Takes the upper for this process, for as long as this value lives, without writing to it.
    ///
    /// # Errors
    /// [`Error::Refused`] where somebody writes to it.
    pub fn hold(&self) -> Result<Locks> {
        let held = lock_if_free(&self.data, &self.opened.generation).map_err(|e| self.data.told(e))?;
        held.ok_or_else(|| {
            Error::Refused(format!("{}: its upper is in use by another mount; unmount that first", self.data.shown()))
        })
    }

    /// Notes who writes to the upper from now on. The upper must be locked.
    ///
    /// # Errors
    /// Where the data partition is full or cannot be written: then it is no place for an upper.
    pub fn begin(&self, backend: Backend) -> Result<()> {
        let now = self.read()?;
        match (now.clean, now.backend) {
            (false, Some(Backend::Fuse)) => tracing::warn!("the daemon that had the upper last did not end in order"),
            // umount(8) and power cuts look the same.
            (false, _) => tracing::info!("whether the upper was unmounted in order is not known"),
            (true, _) => {}
        }
        let _first_stays = self.writer.set(backend);
        self.save(&Meta { backend: Some(backend), mounts: now.mounts.saturating_add(1), clean: false, ..now })
    }

    /// Notes that everything was written out and nobody writes any more. Nothing happens where nobody has begun. The upper must be
    /// locked still.
    ///
    /// # Errors
    /// What writing it answers.
    pub fn end(&self) -> Result<()> {
        let Some(&backend) = self.writer.get() else { return Ok(()) };
        self.save(&Meta { backend: Some(backend), clean: true, ..self.read()? })
    }

    /// The same once nobody holds the locks any more, unless somebody else has taken the upper since.
    ///
    /// # Errors
    /// As for [`Claim::end`].
    pub fn end_unlocked(&self) -> Result<()> {
        let lock = lock_if_free(&self.data, &self.opened.generation)?;
        lock.map_or(Ok(()), |_locks| self.end())
    }

    fn read(&self) -> Result<Meta> {
        let read = self.opened.uppers.generation(self.opened.generation.number);
        read.map(|generation| generation.meta).map_err(|e| self.data.told(e))
    }

    fn save(&self, meta: &Meta) -> Result<()> {
        self.opened.uppers.save(self.opened.generation.number, meta).map_err(|e| match e.errno() {
            Errno::ENOSPC | Errno::EDQUOT => {
                let data = self.data.shown();
                Error::Full(format!("data partition {data} is full ({}): make room, or mount with -o ro", e.errno()))
            }
            _ => self.data.told(e),
        })
    }
}

/// Notes that the generation `number`, whose upper is this inode, was unmounted in order by whoever had it last.
///
/// # Errors
/// Where it is not there or cannot be written.
pub fn unmounted(data: &Attached, number: u64, inode: Option<(u64, u64)>) -> Result<()> {
    let at_data = |e| data.told(e);
    let missing = || Error::Refused(format!("{} has no uppers", data.shown()));
    let uppers = Uppers::open(data.path()).map_err(at_data)?.ok_or_else(missing)?;
    let generation = uppers.generation(number).map_err(at_data)?;
    let found = fs::metadata(&generation.upper).map_err(|e| at_data(Error::sys("stat", &generation.upper, e)))?;
    if inode.is_some_and(|inode| inode != (found.dev(), found.ino())) {
        return Err(Error::Refused(format!("{} has become another partition", data.shown())));
    }
    let Some(_locks) = lock_if_free(data, &generation)? else { return Ok(()) };
    let meta = uppers.generation(number).map_err(at_data)?.meta;
    uppers.save(number, &Meta { clean: true, ..meta }).map_err(at_data)
}

/// Takes the upper of a generation on this data partition; `None` where somebody has it. A union that has just been unmounted is
/// waited for.
pub(super) fn lock_if_free(data: &Attached, generation: &Generation) -> Result<Option<Locks>> {
    let (upper, work) = (&*generation.upper, &*generation.work);
    let dirs = [pair::open("upper", upper)?, pair::open("work", work)?];
    let Some(locks) = Locks::take_if_free([upper, work], [&dirs[0], &dirs[1]])? else { return Ok(None) };
    Ok(in_use::refuse(&dirs, Some(data)).is_ok().then_some(locks))
}

/// Only root may give files away.
fn owner(root: &Attr) -> Option<(u32, u32)> {
    rustix::process::geteuid().is_root().then_some((root.uid, root.gid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spot::{Spot, open_dir};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_generation_goes_with_its_image() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o1775)).unwrap();
        let attr = Spot::Fd(open_dir(&root).unwrap()).stat().unwrap().attr;
        let base = |digest| Base { name: "a.squashfs".into(), version: None, size: 9, digest: [digest; 32] };
        let data = scratch.path();
        let first = open(data, &base(1), &attr, Stale::Refuse).unwrap();
        assert_eq!((first.generation.number, first.fit), (1, Fit::Same));
        assert_eq!(fs::metadata(&first.generation.upper).unwrap().mode() & 0o7777, 0o1775);
        assert_eq!(open(data, &base(1), &attr, Stale::Refuse).unwrap().generation, first.generation);
        let written = Meta { backend: Some(Backend::Fuse), ..first.generation.meta.clone() };
        assert_eq!(rebound(first.uppers, &base(2), &attr, Stale::Refuse).unwrap().fit, Fit::Same, "nobody has written to it");
        let first = open(data, &base(1), &attr, Stale::Refuse).unwrap();
        first.uppers.save(1, &written).unwrap();
        let refusal = open(data, &base(2), &attr, Stale::Refuse).unwrap_err().to_string();
        assert!(refusal.contains("upper generation 1 was made on a.squashfs"), "{refusal}");
        assert_eq!(open(data, &base(2), &attr, Stale::ReadOnly).unwrap().fit, Fit::ReadOnly);
        assert_eq!(open(data, &base(2), &attr, Stale::Allow).unwrap().fit, Fit::Allowed);
        let second = Meta { base: base(2), parent: Some(1), ..written };
        assert_eq!(first.uppers.add(&second, Rights { perm: 0o755, owner: None }).unwrap(), 2);
        assert_eq!(look(data, &base(2), Stale::Refuse).unwrap().unwrap().generation.number, 2);
        assert_eq!(first.uppers.current().unwrap().number, 1, "who only looks changes nothing");
        assert_eq!(open(data, &base(2), &attr, Stale::Refuse).unwrap().generation.number, 2);
        assert!(open(data, &base(1), &attr, Stale::Refuse).is_err());
    }

    /// A device's name may be another partition's by the time its union is unmounted, with an upper that somebody else wrote to.
    #[test]
    fn an_upper_of_another_partition_is_not_noted_as_clean() {
        let scratch = tempfile::tempdir().unwrap();
        let data = Attached::again(scratch.path(), None, &[]).unwrap();
        let attr = Spot::Fd(open_dir(scratch.path()).unwrap()).stat().unwrap().attr;
        let base = Base { name: "a.squashfs".into(), version: None, size: 9, digest: [1; 32] };
        let opened = open(data.path(), &base, &attr, Stale::Refuse).unwrap();
        let used = Meta { backend: Some(Backend::Kernel), clean: false, ..opened.generation.meta };
        let found = fs::metadata(&opened.generation.upper).unwrap();
        let (own, clean) = ((found.dev(), found.ino()), || opened.uppers.generation(1).unwrap().meta.clean);
        for other in [(own.0, own.1 + 1), (own.0 + 1, own.1)] {
            opened.uppers.save(1, &used).unwrap();
            let refused = unmounted(&data, 1, Some(other)).unwrap_err().to_string();
            assert!(refused.ends_with(" has become another partition") && !clean(), "{refused}");
        }
        for known in [Some(own), None] {
            opened.uppers.save(1, &used).unwrap();
            unmounted(&data, 1, known).unwrap();
            assert!(clean());
        }
    }

    /// The daemon of a union ends after the unmounting; a trial that is prepared or left at once must not take its upper for used.
    #[test]
    fn an_upper_is_free_once_its_daemon_has_ended() {
        let scratch = tempfile::tempdir().unwrap();
        let data = Attached::again(scratch.path(), None, &[]).unwrap();
        let attr = Spot::Fd(open_dir(scratch.path()).unwrap()).stat().unwrap().attr;
        let base = Base { name: "a.squashfs".into(), version: None, size: 9, digest: [1; 32] };
        let generation = open(data.path(), &base, &attr, Stale::Refuse).unwrap().generation;
        let held = lock_if_free(&data, &generation).unwrap().unwrap();
        let ending = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            drop(held);
        });
        let locks = lock_if_free(&data, &generation).unwrap();
        assert!(locks.is_some());
        assert!(lock_if_free(&data, &generation).unwrap().is_none());
        ending.join().unwrap();
    }
}
