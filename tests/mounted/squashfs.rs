//! Squashfs images by mksquashfs, and the kernel's mount of them.

use std::path::Path;
use std::process::Command;

use super::mount::{Mount, run};

/// Packs the tree `from` into the image `to` with extra arguments of mksquashfs.
pub fn pack(from: &Path, to: &Path, args: &[&str]) {
    run(Command::new("mksquashfs").arg(from).arg(to).args(["-noappend", "-no-progress", "-quiet"]).args(args));
}

/// Mounts an image by the kernel's squashfs.
pub fn mount(image: &Path, at: &Path) -> Mount {
    Mount::new(&["-t", "squashfs", "-o", "loop,ro"], image, at)
}
