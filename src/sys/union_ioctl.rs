//! What a daemon is asked through any file or directory of its union, wherever it is mounted: ioctls of our own. The numbers are
//! made by the rule of `<asm-generic/ioctl.h>` from a letter that the kernel's ioctl-number.rst leaves free.
#![allow(unsafe_code)]

use std::fs::File;

use rustix::io::Result;
use rustix::ioctl::{Getter, NoArg, ioctl, opcode};

/// Kinds of requests that a daemon may count.
pub const REQUEST_KINDS: usize = 48;

/// The letter of our own.
const GROUP: u8 = 0xF8;

/// Answers an int: 1 where the union has an upper, else 0.
pub const HAS_UPPER: u32 = opcode::read::<u32>(GROUP, 1);
/// Makes durable what was written to the upper.
pub const SYNCHRONISE: u32 = opcode::none(GROUP, 2);
/// Answers how many requests of each kind were sent, as 64-bit numbers.
pub const REQUESTS: u32 = opcode::read::<[u64; REQUEST_KINDS]>(GROUP, 3);
/// Tells that the mount has become read-only.
pub const READ_ONLY: u32 = opcode::none(GROUP, 5);
/// Tells that the mount has become writable.
pub const WRITABLE: u32 = opcode::none(GROUP, 6);

/// Answers how many blocks of images were decompressed, and how many were found decompressed in pages of the kernel.
pub const BLOCKS: u32 = opcode::read::<[u64; 2]>(GROUP, 4);

/// Whether the union of `file` has an upper.
///
/// # Errors
/// `ENOTTY` where the daemon does not know the question.
pub fn has_upper(file: &File) -> Result<bool> {
    // SAFETY: the daemon's answer to this number is one int, as the kernel's copy into the getter's value assumes.
    let answer: u32 = unsafe { ioctl(file, Getter::<HAS_UPPER, u32>::new()) }?;
    Ok(answer != 0)
}

/// Makes durable what was written to the upper of the union of `file`.
///
/// # Errors
/// What the upper's file system answers.
pub fn synchronise(file: &File) -> Result<()> {
    // SAFETY: this number carries no argument in either direction.
    unsafe { ioctl(file, NoArg::<SYNCHRONISE>::new()) }
}

/// Tells the daemon of the union of `file` what its mount is from now on.
///
/// # Errors
/// `ENOTTY` where the daemon does not know of that, `EPERM` for whoever may not tell it.
pub fn tell_access(file: &File, read_only: bool) -> Result<()> {
    // SAFETY: neither number carries an argument in either direction.
    unsafe { if read_only { ioctl(file, NoArg::<READ_ONLY>::new()) } else { ioctl(file, NoArg::<WRITABLE>::new()) } }
}

/// How many requests of each kind the daemon of the union of `file` was sent.
///
/// # Errors
/// `ENOTTY` where the daemon does not know the question.
pub fn requests(file: &File) -> Result<[u64; REQUEST_KINDS]> {
    // SAFETY: the daemon's answer to this number is so many 64-bit numbers, as the kernel's copy into the getter's value assumes.
    unsafe { ioctl(file, Getter::<REQUESTS, [u64; REQUEST_KINDS]>::new()) }
}

/// How many blocks of images the daemon of the union of `file` has decompressed, and found decompressed in pages of the kernel.
///
/// # Errors
/// `ENOTTY` where the daemon does not know the question.
pub fn blocks(file: &File) -> Result<[u64; 2]> {
    // SAFETY: the daemon's answer to this number is two 64-bit numbers, as the kernel's copy into the getter's value assumes.
    unsafe { ioctl(file, Getter::<BLOCKS, [u64; 2]>::new()) }
}
