//! `haosfs umount`.

use std::path::Path;

use crate::error::Result;
use crate::mount;

/// Unmounts; see [`mount::unmount`].
///
/// # Errors
/// As there.
pub fn run(mountpoint: &Path, lazy: bool) -> Result<()> {
    mount::unmount(mountpoint, lazy)
}
