//! What the file system of an upper can hold, found out by doing it in a directory that goes again.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ovl::xattr::{Namespace, Private};
use crate::sys::dir::{self, Rename};
use crate::sys::spot::{Spot, open_dir};
use crate::types::Kind;

/// Features that an upper needs, or makes use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperFacts {
    /// Character devices 0:0; needed.
    pub whiteouts: bool,
    /// `RENAME_WHITEOUT`; needed.
    pub rename_whiteout: bool,
    /// `RENAME_EXCHANGE`; needed.
    pub rename_exchange: bool,
    /// Attributes of root's (`trusted.`); these or the user's are needed.
    pub trusted_xattrs: bool,
    /// Attributes of users (`user.`).
    pub user_xattrs: bool,
    /// `O_TMPFILE`.
    pub tmpfile: bool,
    /// Listings tell types.
    pub d_type: bool,
}

impl UpperFacts {
    /// Whether all that is needed is there.
    #[must_use]
    pub const fn suffice(&self) -> bool {
        self.whiteouts && self.rename_whiteout && self.rename_exchange && (self.trusted_xattrs || self.user_xattrs)
    }
}

/// Tries everything out in a new directory within `place`, which must be on the same file system.
///
/// # Errors
/// Where nothing can be made there.
pub fn probe(place: &Path) -> Result<UpperFacts> {
    let path = place.join(format!(".haosfs-probe.{}", std::process::id()));
    fs::create_dir(&path).map_err(|e| Error::sys("try out", place, e))?;
    let found = try_out(&path);
    fs::remove_dir_all(&path).map_err(|e| Error::sys("remove", &path, e))?;
    found
}

fn try_out(path: &Path) -> Result<UpperFacts> {
    let directory = open_dir(path).map_err(|e| Error::sys("open", path, e))?;
    let name = OsStr::new;
    let renames = |from: &str, to: &str, how| dir::rename(&directory, name(from), &directory, name(to), how).is_ok();
    let mut can = UpperFacts {
        whiteouts: dir::mknod(&directory, name("whiteout"), Kind::Char, 0, 0).is_ok(),
        rename_whiteout: false,
        rename_exchange: false,
        trusted_xattrs: false,
        user_xattrs: false,
        tmpfile: false,
        d_type: false,
    };
    let made = dir::mkdir(&directory, name("directory"), 0o700).and_then(|()| dir::create(&directory, name("file"), 0o600));
    made.map_err(|e| Error::sys("write to", path, e))?;
    can.rename_exchange = renames("file", "directory", Rename::Exchange);
    can.rename_whiteout = renames("file", "moved", Rename::Whiteout);
    let at = Spot::Fd(Arc::clone(&directory));
    let marks = |namespace: Namespace| at.set_xattr(&namespace.name(Private::Opaque), b"y", 0).is_ok();
    (can.trusted_xattrs, can.user_xattrs) = (marks(Namespace::Trusted), marks(Namespace::User));
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    can.tmpfile = rustix::fs::openat(&directory, ".", flags, rustix::fs::Mode::RUSR).is_ok();
    let listed = dir::read(&directory).map_err(|e| Error::sys("list", path, e))?;
    can.d_type = !listed.is_empty() && listed.iter().all(|entry| entry.kind.is_some());
    Ok(can)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let found = probe(scratch.path()).unwrap();
        assert!(found.d_type && found.rename_exchange, "{found:?}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        assert!(probe(&scratch.path().join("none")).is_err());
    }

    #[test]
    fn either_kind_of_attributes_will_do() {
        let all = UpperFacts {
            whiteouts: true,
            rename_whiteout: true,
            rename_exchange: true,
            trusted_xattrs: false,
            user_xattrs: true,
            tmpfile: false,
            d_type: false,
        };
        assert!(all.suffice());
        assert!(!UpperFacts { user_xattrs: false, ..all }.suffice());
        assert!(!UpperFacts { whiteouts: false, ..all }.suffice());
    }
}
