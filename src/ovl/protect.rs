//! The `protattr` attribute: flags of chattr(1) that the union shows of a file or directory, while its inode in the upper does not
//! have them, for then it could not be linked or marked (util.c, `ovl_check_protattr`, `ovl_set_protattr`).

/// The flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Data can only be appended; of a directory, names can only be added.
    pub append: bool,
    /// Nothing can be changed.
    pub immutable: bool,
}

impl Protection {
    /// Reads a value. Letters that nobody knows do not count, as in the kernel's.
    #[must_use]
    pub fn decode(value: &[u8]) -> Self {
        Self { append: value.contains(&b'a'), immutable: value.contains(&b'i') }
    }

    /// The value to be stored; `None` where there is nothing to say.
    #[must_use]
    pub const fn encode(self) -> Option<&'static [u8]> {
        match (self.append, self.immutable) {
            (false, false) => None,
            (true, false) => Some(b"a"),
            (false, true) => Some(b"i"),
            (true, true) => Some(b"ai"),
        }
    }

    /// True where one of the flags is set.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.append || self.immutable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_the_format() {
        for (append, immutable) in [(true, false), (false, true), (true, true)] {
            let protection = Protection { append, immutable };
            assert_eq!(protection.encode().map(Protection::decode), Some(protection));
            assert!(protection.is_any());
        }
        assert_eq!(Protection::default().encode(), None);
        assert_eq!(Protection::decode(b"xiz"), Protection { append: false, immutable: true });
        assert!(!Protection::decode(b"").is_any());
    }
}
