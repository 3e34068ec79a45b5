//! Which file system an image holds, by its magic number; util-linux' libblkid knows the same ones.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};

/// A file system that comes in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The one that haosfs reads itself.
    Squashfs,
    /// The kernel's driver of this name reads it.
    Other(&'static str),
}

/// Name of the driver, position of the magic number in bytes, and the number.
const MAGIC: [(&str, u64, &[u8]); 6] = [
    ("squashfs", 0, b"hsqs"),
    ("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("xfs", 0, b"XFSB"),
    ("ext4", 1080, &[0x53, 0xef]),
    ("btrfs", 65_600, b"_BHRfS_M"),
    ("iso9660", 32_769, b"CD001"),
];

impl Format {
    /// The driver's name.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Other(name) => name,
        }
    }

    /// Looks at an image that begins at byte `offset` of a file or block device. What no number tells is taken for squashfs, whose
    /// reader then says what is wrong with it.
    ///
    /// # Errors
    /// When the file cannot be opened or read.
    pub fn of(image: &Path, offset: u64) -> Result<Self> {
        let file = File::open(image).map_err(|e| Error::sys("open", image, e))?;
        for (driver, at, magic) in MAGIC {
            let mut found = [0; 8];
            let Some(found) = found.get_mut(..magic.len()) else { continue };
            let Some(at) = offset.checked_add(at).filter(|&at| i64::try_from(at).is_ok()) else { continue };
            match file.read_exact_at(found, at) {
                Ok(()) if found == magic => return Ok(if driver == "squashfs" { Self::Squashfs } else { Self::Other(driver) }),
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {}
                Err(e) => return Err(Error::sys("read", image, e)),
            }
        }
        Ok(Self::Squashfs)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn formats_are_told_by_their_numbers() {
        for (driver, at, magic) in MAGIC {
            for offset in [0_u16, 4096] {
                let mut image = tempfile::NamedTempFile::new().unwrap();
                let before = usize::try_from(at).unwrap() + usize::from(offset);
                image.write_all(&vec![0; before]).unwrap();
                image.write_all(magic).unwrap();
                assert_eq!(Format::of(image.path(), offset.into()).unwrap().driver(), driver);
                assert_eq!(Format::of(image.path(), u64::MAX - 3).unwrap(), Format::Squashfs);
            }
        }
        assert!(Format::of(Path::new("/nowhere"), 0).is_err());
    }
}
