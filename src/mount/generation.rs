//! The upper that a data partition has for an image.

use std::path::Path;

use crate::error::Result;
use crate::sys::replace::Rights;
use crate::types::Attr;
use crate::update::base::{Base, Fit, Stale, fit};
use crate::update::meta::Meta;
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

/// Opens the generation in use for an image whose root directory has these attributes. A data partition without any gets its first,
/// made on this image.
///
/// # Errors
/// Where it was made on another image and `stale` does not allow that, and where it is not whole.
pub fn open(data: &Path, base: &Base, root: &Attr, stale: Stale) -> Result<Opened> {
    let uppers = match Uppers::open(data)? {
        Some(uppers) => uppers,
        None => {
            let first = Meta { base: base.clone(), backend: None, parent: None, clean: true };
            // The root of the union shows what the root of the upper has.
            Uppers::create(data, &first, Rights { perm: root.perm, owner: owner(root) })?
        }
    };
    let generation = uppers.current()?;
    let fit = fit(generation.number, &generation.meta.base, base, stale)?;
    Ok(Opened { uppers, generation, fit })
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
