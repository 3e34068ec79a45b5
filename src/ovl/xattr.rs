//! Extended attributes of the overlay format: names, and the escape that keeps a nested overlay's own apart.
//!
//! What a user sets as `trusted.overlay.X` is stored as `trusted.overlay.overlay.X`; reading strips exactly one level
//! (xattrs.c, `ovl_xattr_escape_name`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::error::Errno;

/// Which of the two name spaces a mount consults; only one counts (params.c, option `userxattr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Namespace {
    /// `trusted.overlay.`, for mounts by root.
    #[default]
    Trusted,
    /// `user.overlay.`, for mounts without privilege over the host.
    User,
}

/// A private attribute of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    /// `y` on a directory: nothing below it shows through. `x` on a lower directory: it may hold xattr whiteouts.
    Opaque,
    /// On a zero-size regular file of a lower: it hides its name.
    Whiteout,
    /// Another name under which the lower part is found.
    Redirect,
    /// The upper file has attributes only, its data are in a lower.
    Metacopy,
    /// Which lower inode it was copied up from ([`super::handle`]); empty where that inode could not be found again.
    Origin,
    /// `y` on a directory of the upper: entries in it may have an origin.
    Impure,
    /// How many names a file of the index has in the union ([`super::index::Nlink`]).
    Nlink,
    /// On the index: the handle of the root of the upper that it belongs to.
    Upper,
    /// On the root of the upper: the union's own UUID, 16 bytes.
    Uuid,
    /// Flags of chattr(1) that a file or directory has without its inode in the upper having them.
    Protattr,
}

impl Private {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Whiteout => "whiteout",
            Self::Redirect => "redirect",
            Self::Metacopy => "metacopy",
            Self::Origin => "origin",
            Self::Impure => "impure",
            Self::Nlink => "nlink",
            Self::Upper => "upper",
            Self::Uuid => "uuid",
            Self::Protattr => "protattr",
        }
    }
}

/// Longest attribute name (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;

impl Namespace {
    /// The prefix, with its final dot.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }

    /// The full name of a private attribute.
    #[must_use]
    pub fn name(self, private: Private) -> OsString {
        format!("{}{}", self.prefix(), private.suffix()).into()
    }

    /// True for names that belong to the format itself or to a nested overlay: every one under the prefix.
    fn is_ours(self, name: &OsStr) -> bool {
        name.as_bytes().starts_with(self.prefix().as_bytes())
    }

    /// Where a name that a user gives is stored.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the escaped name is too long (as the kernel's).
    pub fn escape(self, name: &OsStr) -> Result<OsString, Errno> {
        if !self.is_ours(name) {
            return Ok(name.to_owned());
        }
        let rest = name.as_bytes().get(self.prefix().len()..).unwrap_or_default();
        let stored = [self.prefix().as_bytes(), b"overlay.", rest].concat();
        if stored.len() > NAME_MAX { Err(Errno::EOPNOTSUPP) } else { Ok(OsString::from_vec(stored)) }
    }

    /// What a user sees of a stored name; `None` for the format's own.
    #[must_use]
    pub fn unescape(self, stored: &OsStr) -> Option<OsString> {
        if !self.is_ours(stored) {
            return Some(stored.to_owned());
        }
        let rest = stored.as_bytes().get(self.prefix().len()..)?.strip_prefix(b"overlay.")?;
        Some(OsString::from_vec([self.prefix().as_bytes(), rest].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: [Private; 10] = [
        Private::Opaque,
        Private::Whiteout,
        Private::Redirect,
        Private::Metacopy,
        Private::Origin,
        Private::Impure,
        Private::Nlink,
        Private::Upper,
        Private::Uuid,
        Private::Protattr,
    ];

    #[test]
    fn a_user_never_meets_a_private_name() {
        for ns in [Namespace::Trusted, Namespace::User] {
            for private in PRIVATE {
                assert_eq!(ns.unescape(&ns.name(private)), None, "{private:?}");
            }
        }
    }

    #[test]
    fn names_go_in_and_come_out() {
        let table = [
            (Namespace::Trusted, "trusted.overlay.opaque", "trusted.overlay.overlay.opaque"),
            (Namespace::Trusted, "trusted.overlay.overlay.x", "trusted.overlay.overlay.overlay.x"),
            (Namespace::Trusted, "user.overlay.opaque", "user.overlay.opaque"),
            (Namespace::Trusted, "trusted.overlayfoo", "trusted.overlayfoo"),
            (Namespace::Trusted, "trusted.overlay.", "trusted.overlay.overlay."),
            (Namespace::User, "user.overlay.opaque", "user.overlay.overlay.opaque"),
            (Namespace::User, "trusted.overlay.opaque", "trusted.overlay.opaque"),
            (Namespace::User, "security.capability", "security.capability"),
        ];
        for (ns, seen, stored) in table {
            assert_eq!(ns.escape(OsStr::new(seen)), Ok(stored.into()), "{seen}");
            assert_eq!(ns.unescape(OsStr::new(stored)), Some(seen.into()), "{stored}");
        }
    }

    #[test]
    fn a_name_too_long_to_escape_is_refused() {
        let name = format!("trusted.overlay.{}", "x".repeat(239));
        assert_eq!(Namespace::Trusted.escape(OsStr::new(&name)), Err(Errno::EOPNOTSUPP));
    }
}
