//! What can be wrong with the attributes that the format gives a meaning.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::defect::{Explanation, Repair};

/// Remedy for what lies below no more.
const OTHER_LOWERS: &str = "mount it over the lowers it was written over";

/// What is wrong with an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkDefect {
    /// An opaque mark of this value, which is not `y`.
    OpaqueValue(Vec<u8>),
    /// An attribute of this name, which the mount does not consult, says that the directory is opaque.
    UnseenOpaque(OsString),
    /// An attribute of this name, which the mount does not consult, tells where directories or data are.
    UnseenWay(OsString),
    /// A redirect of this value, which cannot be one.
    RedirectFormat(Vec<u8>),
    /// A redirect to where no lower has a directory.
    RedirectMissing(Vec<u8>),
    /// A redirect on something that has everything it needs.
    RedirectUnused,
    /// A redirect or metacopy attribute in `user.overlay.`, where it is not followed.
    NotForUsers,
    /// A metacopy attribute that cannot be one.
    MetacopyFormat,
    /// No lower has the data.
    MetacopyMissing,
    /// The lower's file has another size.
    MetacopySize {
        /// Bytes that the upper's file claims.
        upper: u64,
        /// Bytes that the lower's file has.
        lower: u64,
    },
    /// The first file whose data are in a lower.
    NeedsMetacopy,
    /// An origin, under this name, that is no file handle.
    OriginBroken(OsString),
    /// An origin with bytes that nobody reads.
    OriginLonger,
    /// An attribute of the format's name space that this program does not know.
    Unknown(OsString),
}

impl MarkDefect {
    pub(super) fn explain(&self) -> Explanation {
        match self {
            Self::OpaqueValue(value) => opaque_value(value),
            Self::UnseenOpaque(name) => Explanation::error(
                "unseen-opaque",
                format!("marked opaque by {name:?}, which this mount does not consult: deleted names come back"),
                "",
            )
            .mended_by(Repair::MarkOpaque),
            Self::UnseenWay(name) => Explanation::error(
                "unseen-way",
                format!("{name:?} tells where its content is, but this mount does not consult it: that content is missing"),
                "mount with the options it was written with",
            ),
            Self::RedirectFormat(value) => {
                let follows = "cannot be one: it cannot be looked up";
                redirect("redirect-format", value, follows, "set the attribute to where the lower has it, or remove it")
            }
            Self::RedirectMissing(value) => {
                let follows = "leads to where no lower has a directory: what was there is missing";
                redirect("redirect-missing", value, follows, OTHER_LOWERS)
            }
            Self::RedirectUnused => {
                Explanation::note("redirect-unused", "a redirect that nobody follows: nothing lies below", "")
            }
            Self::NotForUsers => Explanation::error(
                "not-for-users",
                "redirects and metacopy are not followed in user.overlay: the kernel answers EPERM, haosfs EOPNOTSUPP",
                "copy it from a mount that shows it",
            ),
            Self::MetacopyFormat => {
                Explanation::error("metacopy-format", "its metacopy attribute cannot be one: it cannot be looked up", "")
            }
            Self::MetacopyMissing => Explanation::error(
                "metacopy-missing",
                "only its attributes are here, and no lower has its data: it cannot be looked up",
                OTHER_LOWERS,
            ),
            Self::MetacopySize { upper, lower } => Explanation::error(
                "metacopy-size",
                format!(
                    "it had {upper} bytes when its attributes were copied up, the lower's file has {lower}: other content shows"
                ),
                OTHER_LOWERS,
            ),
            Self::NeedsMetacopy => Explanation::note(
                "needs-metacopy",
                "only its attributes are here (and perhaps of others); its data are in a lower",
                "mount with -o metacopy=on, and never over another lower",
            ),
            Self::OriginBroken(name) => {
                Explanation::warning("origin", "its origin is no file handle: it counts as having none", "")
                    .mended_by(Repair::RemoveAttribute(name.clone()))
            }
            Self::OriginLonger => Explanation::note("origin-longer", "its origin has bytes behind the file handle", ""),
            Self::Unknown(name) => {
                Explanation::note("unknown-mark", format!("{name:?} is an attribute of overlayfs that haosfs does not know"), "")
            }
        }
    }
}

fn redirect(id: &'static str, value: &[u8], follows: &str, remedy: &'static str) -> Explanation {
    Explanation::error(id, format!("its redirect {:?} {follows}", OsStr::from_bytes(value)), remedy)
}

fn opaque_value(value: &[u8]) -> Explanation {
    let remedy = "remove the attribute, or set it to y if the directory shall be opaque";
    let id = "opaque-value";
    if value == b"x" {
        let means = "marked as a directory with whiteouts by attribute, which counts in lowers only";
        return Explanation::warning(id, means, remedy);
    }
    let means = format!("its opaque mark is {:?}, not y: what lies below shows", OsStr::from_bytes(value));
    Explanation::error(id, means, remedy)
}
