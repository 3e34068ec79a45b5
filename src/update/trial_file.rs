//! Attempts, counted in the name of a file: `IMAGE+LEFT-TRIED`, as systemd-boot counts them (systemd.io, "Automatic Boot
//! Assessment"). A rename is the smallest durable change that there is, on FAT as well.

use std::ffi::OsStr;

use std::os::fd::AsFd;

use super::escape::{escaped, unescaped};
use crate::config::image_source::ImageSource;
use crate::error::Errno;
use crate::sys::data;
use crate::sys::dir::{self, Rename};

/// Attempts of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The image, as haos.ini names it.
    pub image: ImageSource,
    /// Attempts that are left.
    pub left: u32,
    /// Attempts that were made.
    pub tried: u32,
}

impl Count {
    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}+{}-{}", stem(&self.image), self.left, self.tried)
    }

    /// Reads a name; `None` for that of another file.
    #[must_use]
    pub fn parse(name: &OsStr) -> Option<Self> {
        let (stem, numbers) = name.to_str()?.rsplit_once('+')?;
        let (left, tried) = numbers.split_once('-')?;
        let image = ImageSource::parse(&String::from_utf8(unescaped(stem)?).ok()?).ok()?;
        let count = Self { image, left: left.parse().ok()?, tried: tried.parse().ok()? };
        // One image, one name.
        (count.file_name().as_bytes() == name.as_encoded_bytes()).then_some(count)
    }
}

/// Takes away the attempts that an image has left, in the directory of counts.
///
/// # Errors
/// `ENOENT` where the count is another by now, or gone; the kernel's other answers.
pub fn out_of_attempts(directory: impl AsFd, count: &Count) -> Result<(), Errno> {
    let none = Count { left: 0, ..count.clone() };
    let (from, to) = (count.file_name(), none.file_name());
    dir::rename(&directory, OsStr::new(&from), &directory, OsStr::new(&to), Rename::Replace)?;
    data::sync(directory, false)
}

/// An image in the name of a file, also on FAT, which knows neither upper case nor all characters.
#[must_use]
pub fn stem(image: &ImageSource) -> String {
    escaped(image.as_str().as_bytes(), |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> ImageSource {
        ImageSource::parse(text).unwrap()
    }

    #[test]
    fn names_count() {
        for (image, left, tried, name) in [
            ("haos-x86_64_7.1.1.0.squashfs", 3, 0, "haos-x86_64_7.1.1.0.squashfs+3-0"),
            ("images/a+b", 0, 12, "images%2fa%2bb+0-12"),
            ("/srv/\u{e4} 1%", 1, 1, "%2fsrv%2f%c3%a4%201%25+1-1"),
        ] {
            let count = Count { image: source(image), left, tried };
            assert_eq!(count.file_name(), name);
            assert_eq!(Count::parse(OsStr::new(name)), Some(count));
        }
        for name in [
            "",
            "a",
            "a+1",
            "a+1-",
            "a+-1-0",
            "a+01-0",
            "a+1-+0",
            "+1-0",
            "a/b+1-0",
            "a%2+1-0",
            "..+1-0",
            "a+1-0.new",
            ".a+1-0.new",
        ] {
            assert_eq!(Count::parse(OsStr::new(name)), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_was_named_is_read(name in "[^/\\x00\"'][^/\\x00]{0,40}", left: u32, tried: u32) {
            if let Ok(image) = ImageSource::parse(&name) {
                let count = Count { image, left, tried };
                prop_assert_eq!(Count::parse(OsStr::new(&count.file_name())), Some(count));
            }
        }
    }
}
