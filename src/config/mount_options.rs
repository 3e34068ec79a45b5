//! The vocabulary of `-o`: kernel overlayfs' layers, mount(8)'s flags and our own options, as one value.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::option_list::{name_and_value, split_unescaped, unescape};
use super::size::{parse_digits, parse_size};
use crate::error::{Error, Result};
use crate::types::{Atime, KernelCheck, Latency, Stale};

/// How durable a copy-up is before it becomes visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// As the upper's file system needs it.
    #[default]
    Auto,
    /// Always flushed.
    Strict,
    /// Never flushed: for uppers that are thrown away.
    Volatile,
}

/// Renames of directories that live in a lower; the kernel's words for it (overlayfs.rst, "redirect_dir").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectDir {
    /// `on`: they are renamed.
    On,
    /// `off`, `follow`: renaming one is refused; those renamed before are followed.
    Follow,
    /// `nofollow`: those renamed before are refused, too.
    NoFollow,
}

/// Whether origins are followed on a lower without UUID, too; numbers of inodes are always unique over all layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xino {
    /// No.
    Off,
    /// No.
    #[default]
    Auto,
    /// Yes.
    On,
}

/// The union's own UUID, kept with the upper; the kernel's words for it (overlayfs.rst, "UUID and fsid").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uuid {
    /// `null`: none is made.
    #[default]
    Null,
    /// `off`: the same, and file handles name no file system where all layers are on one.
    Off,
    /// `auto`: an upper that is new gets one.
    Auto,
    /// `on`: every upper gets one.
    On,
}

/// Who joins the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's overlayfs where it can, else our daemon.
    Auto,
    /// The kernel's overlayfs over images that the kernel reads.
    Kernel,
    /// The kernel's overlayfs over images that our daemon reads.
    Hybrid,
    /// Our daemon.
    Fuse,
}

/// Whether the union may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// `rw`; without an upper the union is read-only all the same.
    #[default]
    ReadWrite,
    /// `ro`.
    ReadOnly,
}

/// Everything `-o` can say. What is not said is `None`, `false` or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `lowerdir=`: images or directories, topmost first.
    pub lowerdir: Vec<PathBuf>,
    /// `upperdir=`.
    pub upperdir: Option<PathBuf>,
    /// `workdir=`.
    pub workdir: Option<PathBuf>,
    /// `ro`, `rw`.
    pub access: Access,
    /// `nosuid`.
    pub nosuid: bool,
    /// `nodev`.
    pub nodev: bool,
    /// `noexec`.
    pub noexec: bool,
    /// `nosymfollow`.
    pub nosymfollow: bool,
    /// `sync`.
    pub sync: bool,
    /// `relatime`, `strictatime`, `noatime`.
    pub atime: Atime,
    /// `allow_other`.
    pub allow_other: bool,
    /// `offset=`: bytes before the image in its file.
    pub offset: Option<u64>,
    /// `uid=`, `squash_to_uid=`: the owner that every file shows.
    pub uid: Option<u32>,
    /// `gid=`, `squash_to_gid=`: the group that every file shows.
    pub gid: Option<u32>,
    /// `fsync=`, `volatile`.
    pub fsync: Fsync,
    /// `redirect_dir=`.
    pub redirect_dir: Option<RedirectDir>,
    /// `metacopy=on`: a change of attributes alone copies no data, and files copied up so are read.
    pub metacopy: bool,
    /// `userxattr`: marks in `user.overlay.` rather than `trusted.overlay.`.
    pub userxattr: bool,
    /// `data_cache=`: bytes of decompressed file data.
    pub data_cache: Option<u64>,
    /// `metadata_cache=`: bytes of decompressed metadata.
    pub metadata_cache: Option<u64>,
    /// `listing_cache=`: bytes of decoded directories.
    pub listing_cache: Option<u64>,
    /// `xino=`.
    pub xino: Xino,
    /// `index=`: hard links of a lower stay one file, or may part; `None` where an upper that has an index is refused.
    pub index: Option<bool>,
    /// `uuid=`.
    pub uuid: Uuid,
    /// `backend=`; `None` is automatic for a haos.ini, and our daemon for anything else.
    pub backend: Option<Backend>,
    /// `stale=`: what to do where the upper of a haos.ini was made on another image.
    pub stale: Stale,
    /// `kernel_check=`.
    pub kernel_check: KernelCheck,
    /// `threads=`: 1 to 256.
    pub threads: Option<usize>,
    /// `cpu_latency=`: microseconds from 0 to 1000.
    pub cpu_latency: Latency,
    /// `fsname=`: the source shown in mountinfo.
    pub fsname: Option<OsString>,
    /// `rootfs`: the union is, or becomes, the root file system, and its daemon is kept alive to the end.
    pub rootfs: bool,
    /// Unknown options are passed over rather than refused (mount(8)'s `-s`); this is not itself an option of `-o`.
    pub sloppy: bool,
    /// Names of the options that were passed over.
    pub passed_over: Vec<String>,
}

/// What mount(8) and fstab hand on and a file system has no use for.
const IGNORED: [&str; 23] = [
    "defaults",
    "nofail",
    "_netdev",
    "user",
    "users",
    "owner",
    "group",
    "auto",
    "noauto",
    "nouser",
    "dirsync",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "default_permissions",
    "diratime",
    "nodiratime",
    "norelatime",
    "loud",
    "silent",
];

/// Kernel overlayfs' features that this union does not have; switched off they need nothing.
const ABSENT: [&str; 2] = ["nfs_export", "verity"];

/// Most threads that `threads=` takes.
const MOST_THREADS: u64 = 256;
/// Most microseconds that `cpu_latency=` takes: no processor needs longer.
const MOST_LATENCY: u32 = 1000;

impl MountOptions {
    /// Checks what only the whole list tells: features that need each other (params.c, `ovl_fs_params_verify`).
    ///
    /// # Errors
    /// [`Error::Refused`], naming both options.
    pub fn check(&self) -> Result<()> {
        if self.metacopy && self.redirect_dir.is_some_and(|redirect| redirect != RedirectDir::On) {
            return Err(refused("metacopy=on", "needs redirect_dir=on"));
        }
        if self.userxattr && (self.metacopy || self.redirect_dir == Some(RedirectDir::On)) {
            return Err(refused("userxattr", "excludes redirect_dir=on and metacopy=on, whose marks anyone could set"));
        }
        Ok(())
    }

    /// True where files show another owner than they have (`uid=`, `gid=`).
    #[must_use]
    pub const fn squashes_owner(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }

    /// Reads one `-o` argument into `self`; later items win over earlier ones.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the option and what was expected.
    pub fn read(&mut self, list: &OsStr) -> Result<()> {
        split_unescaped(list.as_bytes(), b',')
            .into_iter()
            .filter(|item| !item.is_empty())
            .try_for_each(|item| self.read_item(item))
    }

    fn read_item(&mut self, item: &[u8]) -> Result<()> {
        let (name, value) = name_and_value(item);
        let name = String::from_utf8_lossy(name).into_owned();
        match value {
            None => self.read_flag(&name),
            Some(value) => self.read_valued(&name, value),
        }
    }

    fn read_flag(&mut self, name: &str) -> Result<()> {
        match name {
            "ro" => self.access = Access::ReadOnly,
            "rw" => self.access = Access::ReadWrite,
            "suid" | "nosuid" => self.nosuid = name == "nosuid",
            "dev" | "nodev" => self.nodev = name == "nodev",
            "exec" | "noexec" => self.noexec = name == "noexec",
            "symfollow" | "nosymfollow" => self.nosymfollow = name == "nosymfollow",
            "async" | "sync" => self.sync = name == "sync",
            "noatime" => self.atime = Atime::Never,
            "strictatime" => self.atime = Atime::Strict,
            "atime" | "relatime" | "nostrictatime" => self.atime = Atime::Relative,
            "allow_other" => self.allow_other = true,
            "userxattr" => self.userxattr = true,
            "rootfs" => self.rootfs = true,
            "volatile" => self.fsync = Fsync::Volatile,
            "squash_to_root" => (self.uid, self.gid) = (Some(0), Some(0)),
            _ if IGNORED.contains(&name) || is_for_others(name) => {}
            _ if takes_value(name) => return Err(refused(name, &format!("expected {name}={}", expected(name)))),
            _ if self.sloppy => self.passed_over.push(name.to_owned()),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn read_valued(&mut self, name: &str, value: &[u8]) -> Result<()> {
        match name {
            "lowerdir" => self.lowerdir = lower_paths(name, value)?,
            "lowerdir+" => self.lowerdir.push(path(name, value)?),
            "upperdir" => self.upperdir = Some(path(name, value)?),
            "workdir" => self.workdir = Some(path(name, value)?),
            "fsname" => self.fsname = Some(unescape(value)),
            "offset" => self.offset = Some(number(name, value, parse_size)?),
            "data_cache" => self.data_cache = Some(number(name, value, parse_size)?),
            "metadata_cache" => self.metadata_cache = Some(number(name, value, parse_size)?),
            "listing_cache" => self.listing_cache = Some(number(name, value, parse_size)?),
            "uid" | "squash_to_uid" => self.uid = Some(number(name, value, parse_id)?),
            "gid" | "squash_to_gid" => self.gid = Some(number(name, value, parse_id)?),
            "threads" => self.threads = Some(number(name, value, parse_threads)?),
            "cpu_latency" => self.cpu_latency = number(name, value, parse_latency)?,
            "backend" => self.backend = Some(number(name, value, parse_backend)?),
            "stale" => self.stale = number(name, value, parse_stale)?,
            "kernel_check" => self.kernel_check = number(name, value, parse_kernel_check)?,
            "fsync" => self.fsync = number(name, value, parse_fsync)?,
            "redirect_dir" => self.redirect_dir = Some(number(name, value, parse_redirect_dir)?),
            "index" => self.index = Some(number(name, value, parse_switch)?),
            "uuid" => self.uuid = number(name, value, parse_uuid)?,
            "metacopy" => self.metacopy = number(name, value, parse_switch)?,
            "subtype" if value == b"haosfs" => {}
            "xino" => self.xino = number(name, value, parse_xino)?,
            _ if ABSENT.contains(&name) && value == b"off" => {}
            _ if ABSENT.contains(&name) => return Err(refused(name, "this overlayfs feature is not supported; expected off")),
            _ if is_for_others(name) || name == "user" => {}
            _ if takes_value(name) => return Err(mismatch(name, value)),
            _ if self.sloppy => self.passed_over.push(name.to_owned()),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

/// Options for mount(8), systemd and the like, which only pass by.
fn is_for_others(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-") || name == "comment"
}

fn takes_value(name: &str) -> bool {
    !expected(name).is_empty()
}

/// What a value must look like; empty for names that take none.
fn expected(name: &str) -> &'static str {
    match name {
        "lowerdir" => "PATH[:PATH]...",
        "lowerdir+" | "upperdir" | "workdir" => "PATH",
        "fsname" => "NAME",
        "offset" | "data_cache" | "metadata_cache" | "listing_cache" => "BYTES, with K, M or G for powers of 1024",
        "uid" | "squash_to_uid" | "gid" | "squash_to_gid" => "a number from 0 to 4294967294",
        "threads" => "a number from 1 to 256",
        "cpu_latency" => "auto, any or a number from 0 to 1000",
        "backend" => "auto, kernel, hybrid or fuse",
        "stale" => "refuse, allow or ro",
        "kernel_check" => "on or off",
        "fsync" => "auto, strict or volatile",
        "subtype" => "haosfs",
        "xino" => "off, auto or on",
        "redirect_dir" => "on, off, follow or nofollow",
        "metacopy" | "index" => "on or off",
        "uuid" => "null, off, auto or on",
        _ => "",
    }
}

fn lower_paths(name: &str, value: &[u8]) -> Result<Vec<PathBuf>> {
    let pieces = split_unescaped(value, b':');
    if pieces.iter().skip(1).any(|piece| piece.is_empty()) {
        return Err(refused(name, "a path between colons is empty (data-only layers are not supported)"));
    }
    pieces.into_iter().map(|piece| path(name, piece)).collect()
}

fn path(name: &str, value: &[u8]) -> Result<PathBuf> {
    if value.is_empty() {
        return Err(mismatch(name, value));
    }
    Ok(unescape(value).into())
}

fn number<T>(name: &str, value: &[u8], parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    std::str::from_utf8(value).ok().and_then(parse).ok_or_else(|| mismatch(name, value))
}

/// 2^32 - 1 stands for "no id" in chown(2).
fn parse_id(text: &str) -> Option<u32> {
    parse_digits(text).and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX)
}

fn parse_threads(text: &str) -> Option<usize> {
    parse_digits(text).filter(|n| (1..=MOST_THREADS).contains(n)).and_then(|n| usize::try_from(n).ok())
}

fn parse_latency(text: &str) -> Option<Latency> {
    match text {
        "auto" => Some(Latency::Auto),
        "any" => Some(Latency::Any),
        _ => parse_digits(text).and_then(|n| u32::try_from(n).ok()).filter(|&n| n <= MOST_LATENCY).map(Latency::Micros),
    }
}

fn parse_backend(text: &str) -> Option<Backend> {
    match text {
        "auto" => Some(Backend::Auto),
        "kernel" => Some(Backend::Kernel),
        "hybrid" => Some(Backend::Hybrid),
        "fuse" => Some(Backend::Fuse),
        _ => None,
    }
}

fn parse_stale(text: &str) -> Option<Stale> {
    match text {
        "refuse" => Some(Stale::Refuse),
        "allow" => Some(Stale::Allow),
        "ro" => Some(Stale::ReadOnly),
        _ => None,
    }
}

fn parse_kernel_check(text: &str) -> Option<KernelCheck> {
    parse_switch(text).map(|on| if on { KernelCheck::On } else { KernelCheck::Off })
}

fn parse_fsync(text: &str) -> Option<Fsync> {
    match text {
        "auto" => Some(Fsync::Auto),
        "strict" => Some(Fsync::Strict),
        "volatile" => Some(Fsync::Volatile),
        _ => None,
    }
}

fn parse_redirect_dir(text: &str) -> Option<RedirectDir> {
    match text {
        "on" => Some(RedirectDir::On),
        "off" | "follow" => Some(RedirectDir::Follow),
        "nofollow" => Some(RedirectDir::NoFollow),
        _ => None,
    }
}

fn parse_switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    match text {
        "null" => Some(Uuid::Null),
        "off" => Some(Uuid::Off),
        "auto" => Some(Uuid::Auto),
        "on" => Some(Uuid::On),
        _ => None,
    }
}

fn parse_xino(text: &str) -> Option<Xino> {
    match text {
        "off" => Some(Xino::Off),
        "auto" => Some(Xino::Auto),
        "on" => Some(Xino::On),
        _ => None,
    }
}

fn mismatch(name: &str, value: &[u8]) -> Error {
    Error::Refused(format!("option {name}={}: expected {}", String::from_utf8_lossy(value), expected(name)))
}

fn refused(name: &str, why: &str) -> Error {
    Error::Refused(format!("option {name}: {why}"))
}

fn unknown(name: &str) -> Error {
    Error::Refused(format!("unknown option {name} (README.md lists the options of -o)"))
}

#[cfg(test)]
#[path = "mount_options_tests.rs"]
mod tests;
