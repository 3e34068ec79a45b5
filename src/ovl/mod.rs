//! The on-disk contract shared with the kernel's overlayfs: names and encodings only (fs/overlayfs/overlayfs.h, overlayfs.rst).

pub mod foreign;
pub mod handle;
pub mod index;
pub mod mark;
pub mod metacopy;
pub mod origin;
pub mod protect;
pub mod redirect;
pub mod xattr;

/// Directory inside the work directory that holds unfinished objects; the kernel uses the same (super.c, `ovl_make_workdir`).
pub const WORK: &str = "work";

/// Directory inside [`WORK`]: any entry in it makes a mount impossible until somebody has looked (super.c, `ovl_workdir_create`).
pub const INCOMPAT: &str = "incompat";

/// Directory beside [`WORK`] where the kernel keeps a hard link of every file that it copied up with `index=on` (super.c,
/// `ovl_get_indexdir`).
pub const INDEX: &str = "index";
