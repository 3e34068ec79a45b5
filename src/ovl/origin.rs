//! The `origin` attribute: the file handle of the lower inode that an upper one was copied up from (overlayfs.h, `struct ovl_fb`).

use super::handle::{self, Decoded};

/// Whether a value can be what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Empty (copied up from an inode that has no handle), or a handle.
    Sound,
    /// A handle with bytes behind it, which nobody reads.
    Longer,
    /// Too short, or with another magic number: the kernel warns of it and goes on as if it were not there (namei.c,
    /// `ovl_get_fh`).
    Broken,
}

/// Looks at the head of a value and at its length only; whether the handle leads anywhere is not asked.
#[must_use]
pub fn shape(value: &[u8]) -> Shape {
    match handle::decode(value) {
        Decoded::Invalid => Shape::Broken,
        _ if handle::length(value).is_some_and(|length| value.len() > length) => Shape::Longer,
        _ => Shape::Sound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_the_format() {
        let squashfs = [&[0, 0xfb, 29, 0, 1][..], &[0; 16], &[3, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(shape(b""), Shape::Sound);
        assert_eq!(shape(&squashfs), Shape::Sound);
        assert_eq!(shape(&squashfs[..28]), Shape::Broken);
        assert_eq!(shape(&[&squashfs[..], b"x"].concat()), Shape::Longer);
        for broken in [&[0][..], &[0, 0xfb], &[0, 0xfb, 3], &[0, 0xfb, 20, 0], &[&[0, 0xfa, 21][..], &[0; 18]].concat()] {
            assert_eq!(shape(broken), Shape::Broken, "{broken:?}");
        }
    }
}
