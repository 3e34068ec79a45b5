//! `haosfs umount`.

use std::path::Path;

use crate::error::Result;
use crate::mount::{self, Daemon};

/// Unmounts; see [`mount::unmount`]. Says so where the union is not gone altogether.
///
/// # Errors
/// As there.
pub fn run(mountpoint: &Path, lazy: bool) -> Result<()> {
    if let Daemon::GoesOn(at) = mount::unmount(mountpoint, lazy)? {
        eprintln!(
            "haosfs: {} is unmounted, but process {} still sees the union at {}: its daemon goes on, and its upper stays in use",
            mountpoint.display(),
            at.pid,
            at.mountpoint.display()
        );
    }
    Ok(())
}
