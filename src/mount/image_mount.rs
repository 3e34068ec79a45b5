//! An image as a read-only mount of the kernel's that nobody sees: what overlayfs, or a directory lower, is given for it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::format::Format;
use super::kernel_fs::KernelFs;
use super::stage::Stage;
use crate::error::{Errno, Error, Result};
use crate::sys::fuse_mount::Attributes;
use crate::sys::loop_device;

/// Mounts the image that begins at byte `offset` of a file or block device. A loop device that it takes for this ends with the
/// mount.
///
/// # Errors
/// [`Error::Refused`]: what the kernel lacks for it, or has to say.
pub fn mount(image: &Path, offset: u64, format: Format, stage: &mut Option<Stage>) -> Result<OwnedFd> {
    let driver = format.driver();
    let file = File::open(image).map_err(|e| Error::sys("open", image, e))?;
    let is_device = file.metadata().is_ok_and(|found| found.file_type().is_block_device());
    let looped = if is_device && offset == 0 { None } else { Some(attach(&file, image, offset)?) };
    let source = looped.as_ref().map_or(image, |device| device.path.as_path());
    let attributes = Attributes { read_only: true, ..Attributes::default() };
    let mounted = KernelFs { driver, source: source.as_os_str(), options: &[], attributes }.mount(stage)?;
    mounted.map_err(|refusal| match refusal.errno {
        Errno::ENODEV => Error::Refused(format!("the kernel has no {driver}")),
        _ => Error::Refused(format!("the kernel's {driver} does not mount {}: {refusal}", image.display())),
    })
}

fn attach(file: &File, image: &Path, offset: u64) -> Result<loop_device::LoopDevice> {
    loop_device::attach(file.as_fd(), offset).map_err(|e| match e {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO | Errno::EACCES => {
            Error::Refused(format!("there are no loop devices ({}: {e})", loop_device::CONTROL))
        }
        e => Error::sys("make a loop device of", image, e),
    })
}
