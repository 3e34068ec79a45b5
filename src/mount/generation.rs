//! The upper that a data partition has for an image.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::data::Attached;
use crate::error::{Errno, Error, Result};
use crate::sys::replace::Rights;
use crate::types::{Attr, Stale};
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
    let generation = uppers.current()?;
    let fit = fit(generation.number, &generation.meta.base, base, stale)?;
    Ok(Some(Opened { uppers, generation, fit }))
}

/// Opens the generation in use for an image whose root directory has these attributes. A data partition without any gets its first,
/// made on this image.
///
/// # Errors
/// Where it was made on another image and `stale` does not allow that, and where it is not whole.
pub fn open(data: &Path, base: &Base, root: &Attr, stale: Stale) -> Result<Opened> {
    if let Some(found) = look(data, base, stale)? {
        return Ok(found);
    }
    let first = Meta { base: base.clone(), backend: None, parent: None, clean: true };
    // The root of the union shows what the root of the upper has.
    let uppers = Uppers::create(data, &first, Rights { perm: root.perm, owner: owner(root) })?;
    let generation = uppers.current()?;
    Ok(Opened { uppers, generation, fit: Fit::Same })
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

    /// Notes who writes to the upper from now on. The upper must be locked.
    ///
    /// # Errors
    /// Where the data partition is full or cannot be written: then it is no place for an upper.
    pub fn begin(&self, backend: Backend) -> Result<()> {
        let generation = &self.opened.generation;
        if !generation.meta.clean {
            tracing::warn!("upper generation {} was not unmounted cleanly", generation.number);
        }
        let _first_stays = self.writer.set(backend);
        self.save(&Meta { backend: Some(backend), clean: false, ..generation.meta.clone() })
    }

    /// Notes that everything was written out and nobody writes any more. Nothing happens where nobody has begun.
    ///
    /// # Errors
    /// What writing it answers.
    pub fn end(&self) -> Result<()> {
        let Some(&backend) = self.writer.get() else { return Ok(()) };
        self.save(&Meta { backend: Some(backend), clean: true, ..self.opened.generation.meta.clone() })
    }

    fn save(&self, meta: &Meta) -> Result<()> {
        self.opened.uppers.save(self.opened.generation.number, meta).map_err(|e| match e.errno() {
            Errno::ENOSPC | Errno::EDQUOT => {
                let data = self.data.shown();
                Error::Refused(format!("data partition {data} is full ({}): make room, or mount with -o ro", e.errno()))
            }
            _ => self.data.told(e),
        })
    }
}

/// Notes that the generation `number` was unmounted in order by whoever had it last.
///
/// # Errors
/// Where it is not there or cannot be written.
pub fn unmounted(data: &Attached, number: u64) -> Result<()> {
    let at_data = |e| data.told(e);
    let Some(uppers) = Uppers::open(data.path()).map_err(at_data)? else { return Ok(()) };
    let generation = uppers.generation(number).map_err(at_data)?;
    uppers.save(number, &Meta { clean: true, ..generation.meta }).map_err(at_data)
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
        let refusal = open(data, &base(2), &attr, Stale::Refuse).unwrap_err().to_string();
        assert!(refusal.contains("upper generation 1 was made on a.squashfs"), "{refusal}");
        assert_eq!(open(data, &base(2), &attr, Stale::ReadOnly).unwrap().fit, Fit::ReadOnly);
        assert_eq!(open(data, &base(2), &attr, Stale::Allow).unwrap().fit, Fit::Allowed);
        let second = Meta { base: base(2), parent: Some(1), ..first.generation.meta };
        let number = first.uppers.add(&second, Rights { perm: 0o755, owner: None }).unwrap();
        first.uppers.set_current(number).unwrap();
        assert_eq!(open(data, &base(2), &attr, Stale::Refuse).unwrap().generation.number, 2);
        assert!(open(data, &base(1), &attr, Stale::Refuse).is_err());
    }
}
