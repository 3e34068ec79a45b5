//! `/dev/fd/N` as the mountpoint: mount.fuse3(8) with `drop_privileges` has mounted already, and gives the opened /dev/fuse.

use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use crate::error::{Error, Result};
use crate::sys::given;

/// Descriptors below are standard input, output and error.
const LOWEST: RawFd = 3;

/// The descriptor that a mountpoint stands for.
#[must_use]
pub fn descriptor(mountpoint: &Path) -> Option<RawFd> {
    let number = mountpoint.strip_prefix("/dev/fd").ok()?.to_str()?.parse().ok()?;
    (number >= LOWEST).then_some(number)
}

/// Takes the device over.
///
/// # Errors
/// `EBADF` where it is not open; [`Error::Refused`] where it is something else.
pub fn take(number: RawFd) -> Result<OwnedFd> {
    let name = || format!("/dev/fd/{number}");
    let device = given::take(number).map_err(|e| Error::sys("take over", name(), e))?;
    // Character device 10:229 (Documentation/admin-guide/devices.txt).
    let found = rustix::fs::fstat(&device).map_err(|e| Error::sys("take over", name(), e))?;
    let is_device = rustix::fs::FileType::from_raw_mode(found.st_mode).is_char_device();
    if !is_device || found.st_rdev != rustix::fs::makedev(10, 229) {
        return Err(Error::Refused(format!("mountpoint {}: this descriptor is not /dev/fuse", name())));
    }
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_descriptors_are_such_mountpoints() {
        for (path, number) in
            [("/dev/fd/5", Some(5)), ("/dev/fd/1", None), ("/dev/fd/x", None), ("/mnt", None), ("/dev/fd", None)]
        {
            assert_eq!(descriptor(Path::new(path)), number, "{path}");
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(file);
        assert!(take(number).unwrap_err().to_string().contains("is not /dev/fuse"));
        // No test beside this one can have opened such a number.
        assert_eq!(take(i32::MAX).unwrap_err().errno(), crate::error::Errno::EBADF);
    }
}
