//! Inodes, basic and extended (`struct squashfs_*_inode`, Linux fs/squashfs/squashfs_fs.h).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::metadata::{Cursor, Position};
use crate::error::Result;
use crate::types::Kind;

/// Names an inode of one image by where it lies: block after the beginning of the inode table, and byte in it. Hard links
/// share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeRef(pub u64);

/// No fragment, no xattrs.
const NONE: u32 = u32::MAX;
/// Longest target of a symbolic link that Linux hands out, in bytes (`PATH_MAX` without the NUL).
const MAX_TARGET: u32 = 4095;
/// What a directory's size counts in addition to its listing.
const DIRECTORY_EXTRA: u32 = 3;

/// One decoded inode. Owner and group are still indexes of the id table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// `st_ino`.
    pub ino: u32,
    /// Permission, set-id and sticky bits.
    pub perm: u32,
    /// Index of the owner's id.
    pub owner: u16,
    /// Index of the group's id.
    pub group: u16,
    /// Seconds since the epoch; unsigned, as the kernel takes it.
    pub mtime: u32,
    /// Link count.
    pub nlink: u32,
    /// Index in the xattr id table.
    pub xattrs: Option<u32>,
    /// What differs by type.
    pub body: Body,
}

/// What differs between inodes by their type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(File),
    /// A symbolic link and its target.
    Symlink(OsString),
    /// A block or character device, with `dev_t` as libc encodes it.
    Device(Kind, u64),
    /// A named pipe or socket.
    Ipc(Kind),
}

/// Where the listing of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Size as stat(2) tells it: 3 more than the listing has bytes.
    pub size: u32,
    /// First metadata block of the listing, after the beginning of the directory table.
    pub block: u32,
    /// First byte in it.
    pub offset: u16,
    /// Inode number of the parent.
    pub parent: u32,
    /// Number of index entries, and where they are.
    pub index: (u16, Position),
}

impl Directory {
    /// Bytes of the listing.
    #[must_use]
    pub const fn listing(&self) -> u32 {
        self.size.saturating_sub(DIRECTORY_EXTRA)
    }
}

/// Where the content of a regular file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// Bytes in holes.
    pub sparse: u64,
    /// Position of the first block, in bytes from the beginning of the image.
    pub start: u64,
    /// Where the end of the file is if it shares a block with other files: entry of the fragment table, and byte in the block.
    pub fragment: Option<(u32, u32)>,
    /// Where the list of block sizes is.
    pub blocks: Position,
}

impl Inode {
    /// Reads the inode at `at`.
    ///
    /// # Errors
    /// `Damage` where there is none.
    pub fn read(at: &mut Cursor<'_>) -> Result<Self> {
        let kind = at.u16()?;
        let perm = u32::from(at.u16()?) & 0o7777;
        let (owner, group) = (at.u16()?, at.u16()?);
        let (mtime, ino) = (at.u32()?, at.u32()?);
        let (nlink, xattrs, body) = match kind {
            1 => directory(at)?,
            2 => file(at)?,
            3 | 10 => symlink(at, kind == 10)?,
            4 | 5 | 11 | 12 => device(at, kind)?,
            6 | 7 | 13 | 14 => ipc(at, kind)?,
            8 => extended_directory(at)?,
            9 => extended_file(at)?,
            _ => return Err(at.damage(format!("no inode has the type {kind}"))),
        };
        let xattrs = (xattrs != NONE).then_some(xattrs);
        Ok(Self { ino, perm, owner, group, mtime, nlink, xattrs, body })
    }

    /// The number of the inode at `at`.
    ///
    /// # Errors
    /// `Damage` where its first bytes cannot be read.
    pub fn number(at: &mut Cursor<'_>) -> Result<u32> {
        // Behind type, permissions, owner, group and time of change, as above.
        let [.., a, b, c, d] = at.array::<16>()?;
        Ok(u32::from_le_bytes([a, b, c, d]))
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match &self.body {
            Body::Directory(_) => Kind::Dir,
            Body::File(_) => Kind::File,
            Body::Symlink(_) => Kind::Symlink,
            Body::Device(kind, _) | Body::Ipc(kind) => *kind,
        }
    }
}

type Parts = (u32, u32, Body);

fn directory(at: &mut Cursor<'_>) -> Result<Parts> {
    let (block, nlink) = (at.u32()?, at.u32()?);
    let (size, offset) = (u32::from(at.u16()?), at.u16()?);
    let parent = at.u32()?;
    Ok((nlink, NONE, Body::Directory(Directory { size, block, offset, parent, index: (0, at.position()) })))
}

fn extended_directory(at: &mut Cursor<'_>) -> Result<Parts> {
    let (nlink, size, block, parent) = (at.u32()?, at.u32()?, at.u32()?, at.u32()?);
    let (count, offset) = (at.u16()?, at.u16()?);
    let xattrs = at.u32()?;
    Ok((nlink, xattrs, Body::Directory(Directory { size, block, offset, parent, index: (count, at.position()) })))
}

fn file(at: &mut Cursor<'_>) -> Result<Parts> {
    let start = u64::from(at.u32()?);
    let fragment = (at.u32()?, at.u32()?);
    let size = u64::from(at.u32()?);
    let body = File { size, sparse: 0, start, fragment: present(fragment), blocks: at.position() };
    Ok((1, NONE, Body::File(body)))
}

fn extended_file(at: &mut Cursor<'_>) -> Result<Parts> {
    let (start, size, sparse) = (at.u64()?, at.u64()?, at.u64()?);
    let nlink = at.u32()?;
    let fragment = (at.u32()?, at.u32()?);
    let xattrs = at.u32()?;
    if i64::try_from(size).is_err() {
        return Err(at.damage(format!("a file of {size} bytes is impossible")));
    }
    let body = File { size, sparse, start, fragment: present(fragment), blocks: at.position() };
    Ok((nlink, xattrs, Body::File(body)))
}

fn present(fragment: (u32, u32)) -> Option<(u32, u32)> {
    (fragment.0 != NONE).then_some(fragment)
}

fn symlink(at: &mut Cursor<'_>, extended: bool) -> Result<Parts> {
    let (nlink, len) = (at.u32()?, at.u32()?);
    if len == 0 || len > MAX_TARGET {
        return Err(at.damage(format!("a symbolic link to {len} bytes is impossible")));
    }
    let target = at.bytes(len as usize)?;
    if target.contains(&0) {
        return Err(at.damage("the target of a symbolic link has a NUL in it"));
    }
    let xattrs = if extended { at.u32()? } else { NONE };
    Ok((nlink, xattrs, Body::Symlink(OsString::from_vec(target))))
}

fn device(at: &mut Cursor<'_>, kind: u16) -> Result<Parts> {
    let (nlink, device) = (at.u32()?, at.u32()?);
    let xattrs = if kind > 7 { at.u32()? } else { NONE };
    let kind = if matches!(kind, 4 | 11) { Kind::Block } else { Kind::Char };
    Ok((nlink, xattrs, Body::Device(kind, decode_device(device))))
}

fn ipc(at: &mut Cursor<'_>, kind: u16) -> Result<Parts> {
    let nlink = at.u32()?;
    let xattrs = if kind > 7 { at.u32()? } else { NONE };
    let kind = if matches!(kind, 6 | 13) { Kind::Fifo } else { Kind::Socket };
    Ok((nlink, xattrs, Body::Ipc(kind)))
}

/// Turns the kernel's 32-bit device number (`new_encode_dev`, Linux include/linux/kdev_t.h: 12 bits of major between the lower
/// 8 and the upper 12 bits of minor) into the C library's `dev_t`.
const fn decode_device(device: u32) -> u64 {
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xf_ff00;
    libc::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::decode_device;

    #[test]
    fn device_numbers_are_split_as_the_kernel_does() {
        for (stored, major, minor) in
            [(0x0103, 1, 3), (0, 0, 0), (0x0050_0801, 8, 0x501), (0xffff_ffff, 0xfff, 0xf_ffff), (0x1000_0fff, 0xf, 0x1_00ff)]
        {
            assert_eq!(decode_device(stored), libc::makedev(major, minor), "{stored:#x}");
        }
    }
}
