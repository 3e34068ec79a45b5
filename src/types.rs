//! Values that every layer speaks: kinds, times, attributes, callers.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an inode is; the type part of `st_mode` (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
}

impl Kind {
    /// Reads the type bits of an `st_mode`; `None` for bits that are no type.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Dir,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFCHR => Self::Char,
            libc::S_IFBLK => Self::Block,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// The type bits of `st_mode` for this kind.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Dir => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Char => libc::S_IFCHR,
            Self::Block => libc::S_IFBLK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
        }
    }

    /// True for directories.
    #[must_use]
    pub const fn is_dir(self) -> bool {
        matches!(self, Self::Dir)
    }

    /// True for device nodes.
    #[must_use]
    pub const fn is_device(self) -> bool {
        matches!(self, Self::Char | Self::Block)
    }
}

/// A point in time as inodes keep it: seconds since the epoch (negative before it) plus 0..=999_999_999 nanoseconds forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds, rounded towards minus infinity.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

impl Time {
    /// A time of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }

    /// The nearest `SystemTime`; times that it cannot hold become the epoch.
    #[must_use]
    pub fn to_system(self) -> SystemTime {
        let nanos = Duration::from_nanos(u64::from(self.nanos));
        let whole = Duration::from_secs(self.secs.unsigned_abs());
        let base = if self.secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
        base.and_then(|t| t.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
    }
}

/// When reading stamps the access time (mount(8)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atime {
    /// Where it is older than a day or than the last change (`relatime`).
    #[default]
    Relative,
    /// Always (`strictatime`).
    Strict,
    /// Never (`noatime`).
    Never,
}

/// What to do with an upper of another image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    /// Refuse the mount.
    #[default]
    Refuse,
    /// `stale=allow`: mount it all the same.
    Allow,
    /// `stale=ro`: mount it, but read-only.
    ReadOnly,
}

/// `kernel_check=`: whether an image that becomes the root must have the modules of the running kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelCheck {
    /// An image for another kernel is refused as the root.
    #[default]
    On,
    /// It is not looked at.
    Off,
}

/// `cpu_latency=`: how long a processor may take to wake while requests come in a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// Virtual processors that a hypervisor would halt stay awake, where that can be; others as they are.
    #[default]
    Auto,
    /// Nothing is said of it.
    Any,
    /// At most so many microseconds; with 0 no processor halts.
    Micros(u32),
}

/// Everything stat(2) tells of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number as its own layer counts.
    pub ino: u64,
    /// Type.
    pub kind: Kind,
    /// Permission, set-id and sticky bits: `st_mode & 0o7777`.
    pub perm: u32,
    /// Link count.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node in `dev_t` encoding (`libc::makedev`), else 0.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated 512-byte units.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last modification of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

impl Attr {
    /// The whole `st_mode`.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        self.kind.mode_bits() | self.perm
    }
}

/// Who asks: the credentials that come with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
    /// Id of the asking thread; 0 where it has none that we see.
    pub pid: u32,
}

/// Is told before what takes longer than a system call: a disk that is waited for, a block that is decompressed. It returns at once, and
/// calls nothing of whoever tells.
pub type BeforeWait = Box<dyn Fn() + Send + Sync>;

/// The one who is told, if there is one.
#[derive(Default)]
pub struct Announced(OnceLock<BeforeWait>);

impl Announced {
    /// Tells `listener` from now on; the first stays.
    pub fn announce(&self, listener: BeforeWait) {
        let _first_stays = self.0.set(listener);
    }

    /// What follows may take long.
    pub fn tell(&self) {
        if let Some(listener) = self.0.get() {
            listener();
        }
    }
}

impl fmt::Debug for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Announced").field(&self.0.get().is_some()).finish()
    }
}
