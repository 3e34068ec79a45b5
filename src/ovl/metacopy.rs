//! The `metacopy` attribute of an upper file that has attributes only, while its data are in a lower (overlayfs.h,
//! `struct ovl_metacopy`).

/// Version of the value that has one at all.
const VERSION: u8 = 0;
/// Bytes before the digest, and the most a digest has (`FS_VERITY_MAX_DIGEST_SIZE`).
const HEAD: usize = 4;
const DIGEST_MAX: usize = 64;

/// True for a value that the format allows: none at all, or a version, its own length, flags, and an fs-verity digest with its
/// algorithm. The digest is not compared, as the kernel does with `verity=off`.
#[must_use]
pub fn is_valid(value: &[u8]) -> bool {
    match value {
        [] => true,
        [version, len, flags, ..] => {
            *version == VERSION
                && usize::from(*len) == value.len()
                && *flags == 0
                && (HEAD..=HEAD + DIGEST_MAX).contains(&value.len())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_the_format() {
        assert!(is_valid(b""));
        assert!(is_valid(&[0, 4, 0, 0]));
        assert!(is_valid(&[&[0, 36, 0, 1][..], &[7; 32]].concat()));
        for bad in [&[0][..], &[0, 4, 0], &[1, 4, 0, 0], &[0, 5, 0, 0], &[0, 4, 1, 0]] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        assert!(!is_valid(&[&[0, 69, 0, 1][..], &[7; 65]].concat()));
    }
}
