//! Names by which aufs, and fuse-overlayfs where it may not make devices, mark a layer: ordinary files to everybody else
//! (aufs.5, "whiteout"; fuse-overlayfs, `OPAQUE_WHITEOUT`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Begins a whiteout's name.
const WHITEOUT: &[u8] = b".wh.";
/// Begins the names of what aufs keeps for itself, but for the mark of an opaque directory.
const OWN: &[u8] = b".wh..wh.";

/// What a name means to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignName<'a> {
    /// It hides this name.
    Whiteout(&'a OsStr),
    /// Its directory is opaque.
    Opaque,
    /// One of aufs' own files.
    Own,
}

impl<'a> ForeignName<'a> {
    /// Reads a name; `None` for ordinary ones.
    #[must_use]
    pub fn parse(name: &'a OsStr) -> Option<Self> {
        let bytes = name.as_bytes();
        match bytes.strip_prefix(WHITEOUT)? {
            b".wh..opq" | b".opq" => Some(Self::Opaque),
            _ if bytes.starts_with(OWN) => Some(Self::Own),
            b"" | b"." | b".." => None,
            hidden => Some(Self::Whiteout(OsStr::from_bytes(hidden))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for (name, means) in [
            (".wh.motd", Some(ForeignName::Whiteout(OsStr::new("motd")))),
            (".wh..hidden", Some(ForeignName::Whiteout(OsStr::new(".hidden")))),
            (".wh..wh..opq", Some(ForeignName::Opaque)),
            (".wh..opq", Some(ForeignName::Opaque)),
            (".wh..wh.aufs", Some(ForeignName::Own)),
            (".wh.", None),
            (".wh..", None),
            (".wh...", None),
            ("a.wh.b", None),
        ] {
            assert_eq!(ForeignName::parse(OsStr::new(name)), means, "{name}");
        }
    }
}
