//! What can be wrong with the names and objects of an upper.

use std::ffi::OsString;

use super::defect::{Explanation, Repair};
use super::facts::Twin;

/// What is wrong with a name or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameDefect {
    /// Something else is mounted there.
    MountedInside,
    /// So deep that it was not looked at.
    TooDeep,
    /// What the lower layers say to it is an error.
    Below(String),
    /// A whiteout of a name that no lower has.
    OrphanWhiteout,
    /// A whiteout in a directory that nothing lies below.
    PureWhiteout,
    /// A file that the whiteout attribute makes a whiteout, but in lowers only.
    XattrWhiteout,
    /// A whiteout of aufs or fuse-overlayfs.
    ForeignWhiteout {
        /// The name it hides.
        hides: OsString,
        /// What stands under that name in the same directory.
        twin: Twin,
        /// Something lies below that name, for all that is known.
        needed: bool,
    },
    /// A file by which aufs or fuse-overlayfs mark a directory opaque; the attribute says so, too, or nothing lies below.
    SpareOpaqueFile,
    /// A file by which aufs or fuse-overlayfs mark a directory opaque.
    ForeignOpaque {
        /// The directory is the root of the upper, which cannot be opaque.
        root: bool,
    },
    /// A file of theirs by its name, but it is not empty.
    ForeignWithData,
    /// What aufs keeps for itself.
    AufsOwn,
}

impl NameDefect {
    pub(super) fn explain(&self) -> Explanation {
        match self {
            Self::MountedInside => Explanation::error(
                "mounted-inside",
                "something is mounted here: a mount of the upper shows what lies beneath it; not looked into",
                "unmount it",
            ),
            Self::TooDeep => Explanation::error("too-deep", "too deep to be looked at, with all below it", ""),
            Self::Below(why) => Explanation::error("lower", format!("the lower layers cannot be asked: {why}"), ""),
            Self::OrphanWhiteout => {
                Explanation::note("orphan-whiteout", "a whiteout that hides nothing: no lower has the name", "")
                    .mended_by(Repair::Unlink)
            }
            Self::PureWhiteout => Explanation::warning(
                "pure-whiteout",
                "a whiteout where nothing lies below: the kernel lists the name, but cannot show what it is",
                "",
            )
            .mended_by(Repair::Unlink),
            Self::XattrWhiteout => Explanation::error(
                "xattr-whiteout",
                "a whiteout by attribute, which counts in lowers only: the kernel lists the name, but cannot show what it is, and \
                 haosfs shows an empty file",
                "",
            )
            .mended_by(Repair::ReplaceByWhiteout),
            Self::ForeignWhiteout { hides, twin, needed } => foreign_whiteout(hides, *twin, *needed),
            Self::SpareOpaqueFile => Explanation::error(
                "foreign-opaque",
                "an opaque mark of fuse-overlayfs or aufs, which shows as a file; the directory hides what it should without it",
                "",
            )
            .mended_by(Repair::Unlink),
            Self::ForeignOpaque { root } => Explanation::error(
                "foreign-opaque",
                "an opaque mark of fuse-overlayfs or aufs, which shows as a file: what lies below the directory comes back",
                if *root { "the root of an upper cannot be opaque: mount it without the lowers" } else { "" },
            )
            .mended_by((!*root).then_some(Repair::MarkParentOpaque)),
            Self::ForeignWithData => Explanation::warning(
                "foreign-with-data",
                "named like a whiteout of fuse-overlayfs or aufs, but not empty: it shows as a file",
                "find out what it is",
            ),
            Self::AufsOwn => Explanation::warning("aufs", "kept by aufs for itself: it shows as a file", "remove it"),
        }
    }
}

fn foreign_whiteout(hides: &OsString, twin: Twin, needed: bool) -> Explanation {
    let (repair, remedy) = match twin {
        Twin::Directory => (None, "a directory of that name is there, too: mark it opaque, or remove this file"),
        Twin::Other => (Some(Repair::Unlink), ""),
        Twin::Absent if needed => (Some(Repair::Whiteout(hides.clone())), ""),
        Twin::Absent => (Some(Repair::Unlink), ""),
    };
    let means = format!("a whiteout of fuse-overlayfs or aufs, which shows as a file, while {hides:?} is not hidden by it");
    Explanation::error("foreign-whiteout", means, remedy).mended_by(repair)
}
