//! The `redirect` attribute: under which other name, or by which way from the root, the layers below have what stands here
//! (overlayfs.rst, "redirect_dir"; util.c, `ovl_get_redirect_xattr`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Longest value that is written, in bytes (overlayfs module parameter `redirect_max`).
pub const REDIRECT_MAX: usize = 256;

/// A way to an object in the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Another name in the same directory.
    Name(OsString),
    /// Components from the root of the lower layers; at least one.
    Path(Vec<OsString>),
}

impl Redirect {
    /// Reads a value; `None` where it is none that the format allows: empty, with empty components, `.` or `..`, a NUL, or a
    /// slash in a mere name.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        if let Some(path) = value.strip_prefix(b"/") {
            let parts = path.split(|byte| *byte == b'/');
            return parts.map(component).collect::<Option<Vec<_>>>().map(Self::Path);
        }
        component(value).map(Self::Name)
    }

    /// The value that stands for it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Name(name) => name.as_bytes().to_vec(),
            Self::Path(parts) => parts.iter().flat_map(|part| [b"/", part.as_bytes()]).flatten().copied().collect(),
        }
    }

    /// As a path, for messages.
    #[must_use]
    pub fn shown(&self) -> PathBuf {
        OsString::from_vec(self.encode()).into()
    }

    /// True where it counts from the root.
    #[must_use]
    pub const fn is_absolute(&self) -> bool {
        matches!(self, Self::Path(_))
    }

    /// Where the layers below have what this way leads to, once a layer has shown a redirect on the component that `rest`
    /// components follow (namei.c, `ovl_check_redirect`).
    #[must_use]
    pub fn follow(&self, found: Self, rest: usize) -> Self {
        let parts = match self {
            Self::Name(_) => return found,
            Self::Path(parts) => parts,
        };
        let at = parts.len().saturating_sub(rest);
        let behind = parts.get(at..).unwrap_or_default();
        let before = match found {
            Self::Path(start) => start,
            Self::Name(name) => {
                let mut start = parts.get(..at.saturating_sub(1)).unwrap_or_default().to_vec();
                start.push(name);
                start
            }
        };
        Self::Path([&before, behind].concat())
    }
}

fn component(bytes: &[u8]) -> Option<OsString> {
    let valid = !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
    valid.then(|| OsString::from_vec(bytes.to_vec()))
}

impl From<&OsStr> for Redirect {
    fn from(name: &OsStr) -> Self {
        Self::Name(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(value: &str) -> Redirect {
        Redirect::parse(value.as_bytes()).unwrap()
    }

    #[test]
    fn values_go_in_and_come_out() {
        for value in ["d1", "/mv", "/a/b c/d", "/..a"] {
            assert_eq!(redirect(value).encode(), value.as_bytes(), "{value}");
        }
        assert!(redirect("/mv").is_absolute());
        assert!(!redirect("mv").is_absolute());
    }

    #[test]
    fn what_the_format_forbids_is_no_redirect() {
        for value in [&b""[..], b"/", b"//a", b"/a/", b"/a//b", b"a/b", b".", b"..", b"/a/../b", b"a\0b"] {
            assert_eq!(Redirect::parse(value), None, "{value:?}");
        }
    }

    #[test]
    fn redirects_met_on_the_way_change_the_rest_of_it() {
        let table = [
            ("x", "y", 0, "y"),
            ("x", "/a/b", 0, "/a/b"),
            ("/a/b/c", "z", 0, "/a/b/z"),
            ("/a/b/c", "z", 2, "/z/b/c"),
            ("/a/b/c", "z", 1, "/a/z/c"),
            ("/a/b/c", "/m/n", 1, "/m/n/c"),
            ("/a/b/c", "/m", 0, "/m"),
        ];
        for (way, found, rest, then) in table {
            assert_eq!(redirect(way).follow(redirect(found), rest), redirect(then), "{way} {found} {rest}");
        }
    }
}
