//! /proc/self/mountinfo (proc_pid_mountinfo(5)), as far as it concerns our mounts.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};
use crate::sys::fuse_mount::TYPE;
use crate::sys::proc;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Its number, of this mount alone.
    pub id: u32,
    /// `major:minor` of the superblock; unique on the machine while it lives.
    pub device: String,
    /// Where it stands.
    pub mountpoint: PathBuf,
    /// Its type with subtype.
    pub fs_type: OsString,
    /// Its source.
    pub source: OsString,
    /// The user whose mount it is (`user_id=` of a FUSE superblock).
    pub user: Option<u32>,
    /// The options of its superblock, with their escapes.
    pub super_options: Vec<u8>,
}

impl MountEntry {
    /// Layers and owner of the superblock, which stay the same as long as it lives, wherever it is mounted: a remount changes other
    /// options, and so do defaults of the kernel's module.
    #[must_use]
    pub fn made_of(&self) -> OsString {
        let stays = |option: &&[u8]| {
            ["lowerdir", "upperdir=", "workdir=", "user_id="].iter().any(|name| option.starts_with(name.as_bytes()))
        };
        OsString::from_vec(self.super_options.split(|&b| b == b',').filter(stays).collect::<Vec<_>>().join(&b','))
    }
}

/// The haosfs mount that one sees at exactly this path, which must be canonical.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read.
pub fn haosfs_at(mountpoint: &Path) -> Result<Option<MountEntry>> {
    Ok(mount_at(mountpoint)?.filter(|mount| mount.fs_type == OsStr::new(TYPE)))
}

/// The mount of any type that one sees at exactly this path, which must be canonical.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read.
pub fn mount_at(mountpoint: &Path) -> Result<Option<MountEntry>> {
    let id = id_at(mountpoint);
    let table = table()?;
    Ok(topmost_at(&table, mountpoint, id))
}

/// The number of the mount that a path leads into. No file system is asked for it, which may not answer.
fn id_at(path: &Path) -> Option<u32> {
    let there = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let facts = fs::read_to_string(proc::path(&format!("self/fdinfo/{}", there.as_raw_fd()))).ok()?;
    facts.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

fn table() -> Result<Vec<u8>> {
    let file = proc::path("self/mountinfo");
    fs::read(&file).map_err(|e| Error::sys("read", file, e))
}

/// Where mounts stand that one sees here, in the order in which they were mounted.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read.
pub fn all() -> Result<Vec<MountEntry>> {
    let table = table()?;
    Ok(table.split(|&b| b == b'\n').filter_map(parse_line).collect())
}

/// Where a superblock that was unmounted here is mounted still: at another place, or in another mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// A process that sees it.
    pub pid: u32,
    /// Where that process sees it.
    pub mountpoint: PathBuf,
}

/// Looks through the mounts of every process that we may look at for the superblock of this one. Our own come first.
#[must_use]
pub fn elsewhere(gone: &MountEntry) -> Option<Elsewhere> {
    let is_one =
        |mount: &MountEntry| mount.fs_type == gone.fs_type && mount.source == gone.source && mount.made_of() == gone.made_of();
    elsewhere_as(&gone.device, is_one)
}

/// The same for a device number and whatever else must be true: such numbers are used again.
#[must_use]
pub fn elsewhere_as(device: &str, what: impl Fn(&MountEntry) -> bool) -> Option<Elsewhere> {
    let own = std::process::id();
    let listed = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    std::iter::once(own).chain(listed).find_map(|pid| {
        // A process that has gone, or is another user's, tells nothing.
        let table = fs::read(format!("/proc/{pid}/mountinfo")).ok()?;
        let mount = table.split(|&b| b == b'\n').filter_map(parse_line).find(|mount| mount.device == device && what(mount))?;
        Some(Elsewhere { pid, mountpoint: mount.mountpoint })
    })
}

/// Where the kernel's overlayfs has a directory that `is_one` knows as upper or work directory. Only mounts of this mount namespace
/// are known.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read.
pub fn overlay_with(is_one: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
    let table = table()?;
    Ok(overlay_in(&table, is_one))
}

fn overlay_in(table: &[u8], is_one: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let overlays = table.split(|&b| b == b'\n').filter_map(parse_line).filter(|mount| mount.fs_type == "overlay");
    overlays.filter(|mount| writable_directories(&mount.super_options).any(|used| is_one(&used))).map(|m| m.mountpoint).next()
}

/// A comma within a value stands there in octal digits, too. The kernel shows a path as mount(2) was given it: where a relative one
/// began cannot be told, and it says nothing of what has that name here.
fn writable_directories(super_options: &[u8]) -> impl Iterator<Item = PathBuf> {
    let values = super_options
        .split(|&b| b == b',')
        .filter_map(|option| option.strip_prefix(b"upperdir=").or_else(|| option.strip_prefix(b"workdir=")));
    values.map(|value| PathBuf::from(unescape(value))).filter(|path| path.is_absolute())
}

/// Later lines lie on top of earlier ones, unless what one sees, which has this number, was mounted on a directory above since.
fn topmost_at(table: &[u8], mountpoint: &Path, seen: Option<u32>) -> Option<MountEntry> {
    let is_seen = |mount: &MountEntry| mount.mountpoint == mountpoint && seen.is_none_or(|id| mount.id == id);
    table.split(|&b| b == b'\n').rev().filter_map(parse_line).find(is_seen)
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw`, with any number of optional fields before the dash.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&b| b == b' ');
    let id = OsStr::from_bytes(fields.next()?).to_str()?.parse().ok()?;
    let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
    let mountpoint = PathBuf::from(unescape(fields.nth(1)?));
    let mut after_dash = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = unescape(after_dash.next()?);
    let source = unescape(after_dash.next()?);
    let super_options = after_dash.next().unwrap_or_default().to_vec();
    let user = user_id(&super_options);
    Some(MountEntry { id, device, mountpoint, fs_type, source, user, super_options })
}

fn user_id(super_options: &[u8]) -> Option<u32> {
    let digits = super_options.split(|&b| b == b',').find_map(|option| option.strip_prefix(b"user_id="))?;
    OsStr::from_bytes(digits).to_str()?.parse().ok()
}

/// Space, tab, newline and backslash stand there as a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match octal(rest) {
            Some((value, after)) => {
                plain.push(value);
                rest = after;
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

fn octal(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (b'\\', digits) = bytes.split_first().map(|(b, r)| (*b, r))? else { return None };
    let (digits, rest) = digits.split_at_checked(3)?;
    let value = u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok()?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        40 22 0:50 / /mnt/a\\040b rw - fuse.haosfs /img/x\\134y.sqfs rw,user_id=1000,group_id=7\n\
        41 22 0:51 / /mnt/c rw shared:7 master:2 - fuse.haosfs none rw\n\
        42 41 0:52 / /mnt/c rw - tmpfs tmpfs rw\n";

    #[test]
    fn the_topmost_mount_of_a_path_is_found() {
        let topmost = |path: &str| topmost_at(TABLE, Path::new(path), None);
        let spaced = topmost("/mnt/a b").unwrap();
        assert_eq!((spaced.device.as_str(), spaced.source.as_os_str()), ("0:50", OsStr::new("/img/x\\y.sqfs")));
        assert_eq!(spaced.fs_type, OsStr::new("fuse.haosfs"));
        assert_eq!(spaced.user, Some(1000));
        assert_eq!(topmost("/mnt/c").unwrap().fs_type, OsStr::new("tmpfs"));
        assert_eq!(topmost("/mnt"), None);
        let seen = |id| topmost_at(TABLE, Path::new("/mnt/c"), Some(id)).map(|mount| mount.id);
        assert_eq!([41, 42, 22].map(seen), [Some(41), Some(42), None]);
    }

    #[test]
    fn overlays_are_known_by_their_directories() {
        let table = b"40 22 0:50 / /a rw - overlay o rw,lowerdir=/l:/u,upperdir=/up\\054per,workdir=/w,uuid=on\n\
            41 22 0:51 / /b rw - fuse.haosfs o rw,upperdir=/u\n";
        let overlay_of = |path: &str| overlay_in(table, |used| used == Path::new(path));
        assert_eq!(overlay_of("/up,per"), Some("/a".into()));
        assert_eq!(overlay_of("/w"), Some("/a".into()));
        assert_eq!((overlay_of("/u"), overlay_of("/l")), (None, None));
        let relative = b"40 22 0:50 / /a rw - overlay o rw,lowerdir=l,upperdir=up,workdir=./w\n";
        assert_eq!(overlay_in(relative, |_| true), None);
        let made_of = |table: &[u8]| parse_line(table).unwrap().made_of();
        assert_eq!(made_of(table), "lowerdir=/l:/u,upperdir=/up\\054per,workdir=/w");
        assert_eq!(made_of(b"41 22 0:50 / /a ro - fuse.haosfs o ro,sync,user_id=0,group_id=0"), "user_id=0");
    }

    #[test]
    fn broken_lines_are_passed_over() {
        for line in [&b""[..], b"1 2", b"1 2 0:1 / /x rw", b"1 2 0:1 / /x rw -", b"1 2 0:1 / /x rw - t"] {
            assert_eq!(parse_line(line), None);
        }
        assert_eq!(unescape(b"a\\04"), OsStr::new("a\\04"));
        assert_eq!(unescape(b"a\\9zz"), OsStr::new("a\\9zz"));
    }
}
