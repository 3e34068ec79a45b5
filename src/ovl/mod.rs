//! The on-disk contract shared with the kernel's overlayfs: names and encodings only (fs/overlayfs/overlayfs.h, overlayfs.rst).

pub mod metacopy;
pub mod redirect;
pub mod xattr;

/// Directory inside the work directory that holds unfinished objects; the kernel uses the same (super.c, `ovl_make_workdir`).
pub const WORK: &str = "work";

/// Directory inside [`WORK`]: any entry in it makes a mount impossible until somebody has looked (super.c, `ovl_workdir_create`).
pub const INCOMPAT: &str = "incompat";
