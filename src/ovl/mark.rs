//! Extended attributes that mark an object of an upper, whoever wrote them: overlayfs in one of its two name spaces, or
//! fuse-overlayfs in its own (fuse-overlayfs, `utils.h`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::xattr::Namespace;

/// The name space that only fuse-overlayfs consults.
const FUSE_OVERLAYFS: &[u8] = b"user.fuseoverlayfs.";

/// Who consults a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Overlayfs, in mounts that use this name space.
    Overlay(Namespace),
    /// fuse-overlayfs only.
    FuseOverlayfs,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// `opaque`.
    Opaque,
    /// `redirect`.
    Redirect,
    /// `metacopy`.
    Metacopy,
    /// `origin`.
    Origin,
    /// `whiteout`.
    Whiteout,
    /// Anything else of the format, on which neither names nor content depend: `impure`, `nlink`, `upper`, `uuid`, `protattr`.
    Bookkeeping,
    /// Nothing that this program knows.
    Unknown,
}

/// A mark, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Who consults it.
    pub reader: Reader,
    /// What it says.
    pub says: Says,
}

impl Mark {
    /// Reads the name of an attribute; `None` for those that are no marks, the escaped ones of a nested overlay among them.
    #[must_use]
    pub fn parse(name: &OsStr) -> Option<Self> {
        let bytes = name.as_bytes();
        if let Some(rest) = bytes.strip_prefix(FUSE_OVERLAYFS) {
            return Some(Self { reader: Reader::FuseOverlayfs, says: says(rest) });
        }
        let namespaces = [Namespace::Trusted, Namespace::User].into_iter();
        let (namespace, rest) = namespaces.filter_map(|ns| Some((ns, bytes.strip_prefix(ns.prefix().as_bytes())?))).next()?;
        (!rest.starts_with(b"overlay.")).then(|| Self { reader: Reader::Overlay(namespace), says: says(rest) })
    }
}

fn says(suffix: &[u8]) -> Says {
    match suffix {
        b"opaque" => Says::Opaque,
        b"redirect" => Says::Redirect,
        b"metacopy" => Says::Metacopy,
        b"origin" => Says::Origin,
        b"whiteout" => Says::Whiteout,
        b"impure" | b"nlink" | b"upper" | b"uuid" | b"protattr" => Says::Bookkeeping,
        _ => Says::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_other_attributes() {
        let overlay = |ns, says| Some(Mark { reader: Reader::Overlay(ns), says });
        for (name, mark) in [
            ("trusted.overlay.opaque", overlay(Namespace::Trusted, Says::Opaque)),
            ("user.overlay.redirect", overlay(Namespace::User, Says::Redirect)),
            ("trusted.overlay.impure", overlay(Namespace::Trusted, Says::Bookkeeping)),
            ("trusted.overlay.new", overlay(Namespace::Trusted, Says::Unknown)),
            ("user.fuseoverlayfs.opaque", Some(Mark { reader: Reader::FuseOverlayfs, says: Says::Opaque })),
            ("trusted.overlay.overlay.opaque", None),
            ("user.overlayopaque", None),
            ("security.capability", None),
        ] {
            assert_eq!(Mark::parse(OsStr::new(name)), mark, "{name}");
        }
    }
}
