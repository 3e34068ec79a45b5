//! Loop devices (loop(4)): files as read-only block devices that vanish with their last user.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use crate::error::Errno;

/// Where the kernel gives out loop devices.
pub const CONTROL: &str = "/dev/loop-control";

// include/uapi/linux/loop.h
const LOOP_SET_FD: libc::Ioctl = 0x4C00;
const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_SET_STATUS64: libc::Ioctl = 0x4C04;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// How often another process may take the free device that we were told of before we give up.
const TRIES: usize = 64;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device in use. It goes when this is dropped and nothing is mounted from it.
#[derive(Debug)]
pub struct LoopDevice {
    /// Its node.
    pub path: PathBuf,
    _open: File,
}

/// True where loop devices can be had.
#[must_use]
pub fn available() -> bool {
    control().is_ok()
}

/// Makes a file a read-only block device from byte `offset` on: without the page cache in between where the file's file system
/// can (it would hold everything twice).
///
/// # Errors
/// `ENOENT` without the driver, `EACCES` without the right, the kernel's answers.
pub fn attach(image: BorrowedFd<'_>, offset: u64) -> Result<LoopDevice, Errno> {
    let control = control()?;
    for _ in 0..TRIES {
        // SAFETY: this request takes no argument.
        let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        // Written to by nobody, but the kernel sets read-only devices up through writable descriptors, too, only.
        let device = match OpenOptions::new().read(true).write(true).open(&path) {
            // It was another's meanwhile, and is being let go (drivers/block/loop.c, `lo_open`).
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => continue,
            answer => answer?,
        };
        match configure(&device, image, offset) {
            Ok(()) => return Ok(LoopDevice { path, _open: device }),
            Err(Errno::EBUSY) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EBUSY)
}

fn configure(device: &File, image: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
    let mut answer = Err(Errno::EINVAL);
    for flags in [READ_ONLY | AUTOCLEAR | DIRECT_IO, READ_ONLY | AUTOCLEAR] {
        let config = Config {
            fd: u32::try_from(image.as_raw_fd()).map_err(|_| Errno::EBADF)?,
            block_size: 0,
            info: info(offset, flags),
            reserved: [0; 8],
        };
        // SAFETY: the kernel reads one `loop_config`, whose layout `Config` has.
        answer = checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop);
        if !matches!(answer, Err(Errno::EINVAL | Errno::ENOTTY)) {
            return answer;
        }
    }
    // Before Linux 5.8 it takes two steps.
    match answer {
        Err(Errno::EINVAL | Errno::ENOTTY) => configure_in_steps(device, image, offset),
        answer => answer,
    }
}

fn configure_in_steps(device: &File, image: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
    // SAFETY: this request takes a descriptor as its argument.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD, image.as_raw_fd()) })?;
    let info = info(offset, READ_ONLY | AUTOCLEAR);
    // SAFETY: the kernel reads one `loop_info64`, whose layout `Info` has.
    let answer = checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_STATUS64, &raw const info) });
    if answer.is_err() {
        // SAFETY: this request takes no argument. Should it fail, the device stays, and the error is reported all the same.
        unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD) };
    }
    answer.map(drop)
}

const fn info(offset: u64, flags: u32) -> Info {
    Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    }
}

fn control() -> Result<File, Errno> {
    Ok(OpenOptions::new().read(true).write(true).open(CONTROL)?)
}

fn checked(answer: libc::c_int) -> Result<libc::c_int, Errno> {
    if answer < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_the_kernel_s() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }
}
