//! How haos.ini names an image.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// The folder beside the ini file in which images may stand, too.
pub const IMAGES: &str = "images";

/// A name beside the ini file or in `images/`, or an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource(String);

impl ImageSource {
    /// Reads the value.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(value: &str) -> Result<Self, String> {
        let components: Vec<Component<'_>> = Path::new(value).components().collect();
        let is_name = match components.as_slice() {
            [Component::Normal(_)] => !value.ends_with('/'),
            [Component::Normal(folder), Component::Normal(_)] => *folder == IMAGES && !value.ends_with('/'),
            [Component::RootDir, _, ..] => !value.ends_with('/'),
            _ => false,
        };
        if value.starts_with(['"', '\'']) {
            return Err(format!("{value}: write it without quotes"));
        }
        if is_name {
            return Ok(Self(value.to_owned()));
        }
        let found = if value.is_empty() { "it is empty" } else { value };
        Err(format!("{found}: expected the name of an image beside this file or in {IMAGES}/, or an absolute path"))
    }

    /// Where the image may be, first choice first, with the ini file in `directory`.
    #[must_use]
    pub fn candidates(&self, directory: &Path) -> Vec<PathBuf> {
        let beside = directory.join(&self.0);
        if self.0.contains('/') { vec![beside] } else { vec![beside, directory.join(IMAGES).join(&self.0)] }
    }

    /// True for one on a device, which is there, or has its link, when the kernel and udev like.
    #[must_use]
    pub fn is_device(&self) -> bool {
        Path::new(&self.0).starts_with("/dev")
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_absolute_paths_lead_to_files() {
        for (value, candidates) in [
            ("a.squashfs", &["/haos/a.squashfs", "/haos/images/a.squashfs"][..]),
            ("images/a.squashfs", &["/haos/images/a.squashfs"]),
            ("/srv/a b", &["/srv/a b"]),
            ("/dev/sda3", &["/dev/sda3"]),
        ] {
            let found = ImageSource::parse(value).unwrap().candidates(Path::new("/haos"));
            assert_eq!(found, candidates.iter().map(PathBuf::from).collect::<Vec<_>>(), "{value}");
            assert_eq!(ImageSource::parse(value).unwrap().is_device(), value == "/dev/sda3", "{value}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for value in ["", ".", "..", "../a", "./a", "a/", "a/b", "images/a/b", "images/..", "/", "/a/", "\"a\""] {
            assert!(ImageSource::parse(value).is_err(), "{value}");
        }
    }
}
