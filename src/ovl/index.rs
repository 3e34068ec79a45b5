//! The index of hard links (`index=on`): for each lower inode with several names that was copied up, a hard link of the upper file,
//! named after the lower inode; and how many names it has in the union (namei.c, `ovl_get_index_name_fh`; util.c,
//! `ovl_set_nlink_common`, `ovl_get_nlink`).

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use super::handle::{self, Decoded, Handle};

/// The name of an inode's entry: its handle in hexadecimal digits; `None` where the handle cannot be stored.
#[must_use]
pub fn name_of(handle: &Handle) -> Option<OsString> {
    handle.encode().map(|value| name_of_value(&value))
}

/// The name of the entry for a stored handle.
#[must_use]
pub fn name_of_value(value: &[u8]) -> OsString {
    let mut name = String::with_capacity(value.len() * 2);
    for byte in value {
        // Writing to a string cannot fail.
        let _always = write!(name, "{byte:02x}");
    }
    name.into()
}

/// The bytes of the handle that an entry is named after; `None` for any other name.
#[must_use]
pub fn value_of(name: &OsStr) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = name.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect()
}

/// The handle that an entry is named after; `None` where the kernel refuses the index for its name (namei.c, `ovl_verify_index`).
#[must_use]
pub fn handle_of(name: &OsStr) -> Option<Handle> {
    match handle::decode(&value_of(name)?) {
        Decoded::Handle(handle) => Some(handle),
        Decoded::Empty | Decoded::Unknown | Decoded::Invalid => None,
    }
}

/// True for what is being made or removed in the index directory.
#[must_use]
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"#")
}

/// Which inode's link count the `nlink` attribute counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The upper file's, its index entry included.
    Upper,
    /// The lower inode's: while the upper's is about to change.
    Lower,
}

/// Value of the `nlink` attribute: names in the union, more or fewer than one of its inodes has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlink {
    /// The inode.
    pub base: Base,
    /// What must be added to its link count.
    pub more: i64,
}

impl Nlink {
    /// What says that there are `union` names while the inode has `real` links.
    #[must_use]
    pub fn new(base: Base, union: u32, real: u32) -> Self {
        Self { base, more: i64::from(union) - i64::from(real) }
    }

    /// The value to be stored.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let base = match self.base {
            Base::Upper => 'U',
            Base::Lower => 'L',
        };
        format!("{base}{:+}", self.more).into_bytes()
    }

    /// Reads a value; `None` where it is none.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (base, number) = value.split_first()?;
        let base = match base {
            b'U' => Base::Upper,
            b'L' => Base::Lower,
            _ => return None,
        };
        let signed = matches!(number.first(), Some(b'+' | b'-'));
        let more = std::str::from_utf8(number).ok().filter(|_| signed)?.parse::<i32>().ok()?;
        Some(Self { base, more: i64::from(more) })
    }

    /// Names in the union; `None` where there are none left, or the value is absurd.
    #[must_use]
    pub fn count(self, upper: u32, lower: u32) -> Option<u32> {
        let real = match self.base {
            Base::Upper => upper,
            Base::Lower => lower,
        };
        u32::try_from(i64::from(real) + self.more).ok().filter(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUASHFS: &str = "00fb1d0001000000000000000000000000000000000300000000000000";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_names() {
        assert_eq!(name_of(&Handle::of_number(3)), Some(SQUASHFS.into()));
        assert_eq!(handle_of(OsStr::new(SQUASHFS)), Some(Handle::of_number(3)));
    }

    #[test]
    fn what_is_no_entry() {
        for name in ["", "0", "00f", "00fb", "name", "\u{e4}\u{e4}", "#12", &SQUASHFS[..56], &SQUASHFS.replace("fb", "fa")] {
            assert_eq!(handle_of(OsStr::new(name)), None, "{name}");
        }
        assert!(is_unfinished(OsStr::new("#2bfa6")));
    }

    #[test]
    fn the_kernels_counts() {
        for (value, base, more) in [("U+0", Base::Upper, 0), ("U-1", Base::Upper, -1), ("L+2", Base::Lower, 2)] {
            let nlink = Nlink { base, more };
            assert_eq!(nlink.encode(), value.as_bytes());
            assert_eq!(Nlink::decode(value.as_bytes()), Some(nlink), "{value}");
        }
        assert_eq!(Nlink::new(Base::Upper, 3, 2).encode(), b"U+1");
        for (value, count) in
            [("U+1", Some(3)), ("L+1", Some(6)), ("U-2", None), ("U-9", None), ("U+2147483647", Some(2_147_483_649))]
        {
            assert_eq!(Nlink::decode(value.as_bytes()).and_then(|nlink| nlink.count(2, 5)), count, "{value}");
        }
    }

    #[test]
    fn what_is_no_count() {
        for value in ["", "U", "U1", "X+1", "U+", "U+x", "U+2147483648", "U+1 ", "u+1"] {
            assert_eq!(Nlink::decode(value.as_bytes()), None, "{value}");
        }
    }
}
