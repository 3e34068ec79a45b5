//! Which image an upper was made on, and whether another may lie below it.
//!
//! An upper holds whole copies of files. When the image below is replaced by a newer one, those copies go on hiding the newer files,
//! and the kernel's overlayfs says nothing of it. So an upper belongs to its image.

use std::ffi::OsString;

use super::version::Version;
use crate::error::{Error, Result};
use crate::types::Stale;

/// An image as an upper remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its file's name.
    pub name: OsString,
    /// Its version, where the name tells.
    pub version: Option<Version>,
    /// Bytes from its beginning to its end, without padding.
    pub size: u64,
    /// SHA-256 of its superblock and tables: of every name, attribute and place of data in it.
    pub digest: [u8; 32],
}

impl Base {
    /// Whether both are one image, whatever its file is called. Names that tell two versions are believed: the digest has no data in
    /// it, and of an image that was built reproducibly, data may be all that a new version changes.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let one_version = self.version.is_none() || other.version.is_none() || self.version == other.version;
        self.size == other.size && self.digest == other.digest && one_version
    }

    fn told(&self) -> String {
        let name = self.name.display();
        self.version.as_ref().map_or_else(|| name.to_string(), |version| format!("{name} (version {version})"))
    }
}

/// How an upper and an image go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The upper was made on this image.
    Same,
    /// On another, which was allowed.
    Allowed,
    /// On another; the union must be read-only.
    ReadOnly,
}

/// Whether `image` may lie below the upper of this generation, which was made on `base`.
///
/// # Errors
/// [`Error::Refused`] where they are not one image and nothing else was asked for; it says what to do.
pub fn fit(generation: u64, base: &Base, image: &Base, stale: Stale) -> Result<Fit> {
    match stale {
        _ if base.is_same(image) => Ok(Fit::Same),
        Stale::Allow => Ok(Fit::Allowed),
        Stale::ReadOnly => Ok(Fit::ReadOnly),
        Stale::Refuse => {
            let other = if base.name == image.name { "another image of that name" } else { "another image" };
            Err(Error::Refused(format!(
                "upper generation {generation} was made on {}, and {} is {other}: its copies of files would hide the newer ones; \
                 mount the image it was made on, look at it with stale=ro, or accept that with stale=allow",
                base.told(),
                image.told()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str, size: u64, digest: u8) -> Base {
        let version = name.strip_prefix("haos-x86_64_").and_then(Version::parse);
        Base { name: name.into(), version, size, digest: [digest; 32] }
    }

    #[test]
    fn an_upper_belongs_to_its_image() {
        let old = base("haos-x86_64_7.1.0.0", 10, 1);
        for (image, stale, expected) in [
            (base("haos-x86_64_7.1.0.0", 10, 1), Stale::Refuse, Some(Fit::Same)),
            (base("renamed", 10, 1), Stale::Refuse, Some(Fit::Same)),
            (base("renamed", 10, 1), Stale::ReadOnly, Some(Fit::Same)),
            (base("haos-x86_64_7.1.1.0", 10, 1), Stale::Refuse, None),
            (base("haos-x86_64_7.1.0.0", 10, 2), Stale::Refuse, None),
            (base("haos-x86_64_7.1.0.0", 11, 1), Stale::Refuse, None),
            (base("haos-x86_64_7.1.1.0", 10, 2), Stale::Refuse, None),
            (base("haos-x86_64_7.1.1.0", 10, 2), Stale::Allow, Some(Fit::Allowed)),
            (base("haos-x86_64_7.1.1.0", 10, 2), Stale::ReadOnly, Some(Fit::ReadOnly)),
        ] {
            assert_eq!(fit(1, &old, &image, stale).ok(), expected, "{image:?} {stale:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let old = base("haos-x86_64_7.1.0.0", 10, 1);
        let message = fit(3, &old, &base("haos-x86_64_7.1.1.0", 10, 2), Stale::Refuse).unwrap_err().to_string();
        for words in [
            "generation 3 was made on haos-x86_64_7.1.0.0 (version 7.1.0.0)",
            "haos-x86_64_7.1.1.0 (version 7.1.1.0) is another image",
            "stale=ro",
            "stale=allow",
        ] {
            assert!(message.contains(words), "{message}");
        }
        let message = fit(3, &old, &base("haos-x86_64_7.1.0.0", 10, 2), Stale::Refuse).unwrap_err().to_string();
        assert!(message.contains("another image of that name"), "{message}");
    }
}
