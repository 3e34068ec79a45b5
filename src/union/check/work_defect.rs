//! What can be wrong with a work directory.

use std::ffi::OsString;

use super::defect::{Explanation, Repair};
use crate::ovl::xattr::Namespace;

/// What is wrong in or beside the work directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkDefect {
    /// An unfinished object, or a whiteout kept to make others of.
    Leftover,
    /// The directory of unfinished objects cannot be read, as the kernel leaves it.
    Closed,
    /// A feature says that the upper must not be mounted.
    Incompat(OsString),
    /// An index, with this many entries.
    Index(usize),
    /// A name in the index that is no file handle in hexadecimal digits.
    IndexName,
    /// An index entry whose file has no other name.
    IndexStale,
    /// Both files stand there that tell which marks were written.
    BothMarkers,
    /// The marker names one name space, but the marks of the upper are of this one only.
    MarkerDisagrees(Namespace),
    /// The marker says `trusted.overlay.`, but the mount would use `user.overlay.`.
    MarkerRefuses,
    /// The marker says `user.overlay.`.
    WrittenByUser,
}

impl WorkDefect {
    pub(super) fn explain(&self) -> Explanation {
        match self {
            Self::Leftover => {
                Explanation::note("leftover", "left in the work directory by the last mount", "the next mount removes it")
                    .mended_by(Repair::Purge)
            }
            Self::Closed => Explanation::note(
                "closed-work",
                "cannot be read by this user: the kernel's overlayfs leaves it with mode 0; what is in it was not looked at",
                "the next mount opens it",
            ),
            Self::Incompat(feature) => Explanation::error(
                "incompat",
                format!("the upper was last used with the feature {feature:?} and not unmounted cleanly: every mount is refused"),
                "remove it once you trust the upper",
            ),
            Self::Index(entries) => Explanation::note(
                "index",
                format!("an index of hard links with {entries} entries, written with index=on"),
                "mount with index=on, and only over the same lower",
            ),
            Self::IndexName => Explanation::warning(
                "index-name",
                "no name that the kernel gives to an index entry: it refuses a mount with index=on",
                "mount with index=off, or find out what it is",
            ),
            Self::IndexStale => Explanation::note(
                "index-stale",
                "its file has no name in the upper",
                "a mount with index=on removes it, or shows it by names that the lower has",
            ),
            Self::BothMarkers => Explanation::warning(
                "both-markers",
                "haosfs.trustedxattr and haosfs.userxattr both stand here; haosfs believes the first",
                "remove the one that is wrong",
            ),
            Self::MarkerDisagrees(found) => Explanation::warning(
                "marker",
                format!("the marker file beside work does not name {}*, but the upper has such marks only", found.prefix()),
                "mount with the options it was written with, and remove the marker if it is wrong",
            ),
            Self::MarkerRefuses => Explanation::error(
                "marker-refuses",
                "the upper was written with trusted.overlay marks, so haosfs refuses to mount it with userxattr",
                "mount it as root and without userxattr",
            ),
            Self::WrittenByUser => Explanation::note(
                "written-by-user",
                "the upper was written with user.overlay marks",
                "the kernel's overlayfs must be mounted with -o userxattr",
            ),
        }
    }
}
