//! One error for the whole crate. The errno a program sees is chosen where the cause is known, never on the way up.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An errno(3) number, always positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`, see errno(3).")] pub const $name: Self = Self(libc::$name);)*
        }
        impl fmt::Debug for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(n) => write!(f, "errno {n}"),
                }
            }
        }
    };
}

errnos!(
    EPERM,
    ENOENT,
    EINTR,
    EIO,
    ENXIO,
    EBADF,
    EACCES,
    EBUSY,
    EEXIST,
    EXDEV,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    ENFILE,
    EMFILE,
    ENOTTY,
    ETXTBSY,
    EFBIG,
    ENOSPC,
    EROFS,
    EMLINK,
    ERANGE,
    ENAMETOOLONG,
    ENOSYS,
    ENOTEMPTY,
    ELOOP,
    ENODATA,
    EOVERFLOW,
    EOPNOTSUPP,
    ESTALE,
    EDQUOT,
    ENOMEM,
    EAGAIN,
    EPIPE,
    ENOTCONN,
);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&io::Error::from_raw_os_error(self.0), f)
    }
}

impl std::error::Error for Errno {}

/// Why an image cannot be read: which structure, where in the file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {structure} at offset {offset}: {why}", image.display())]
pub struct Damage {
    /// The image file.
    pub image: Arc<Path>,
    /// Name of the structure as the squashfs format names it ("superblock", "inode", "fragment table").
    pub structure: &'static str,
    /// Byte offset in the image file of the structure, or of the block that holds it.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
}

/// Everything that can fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An outcome that callers expect (`ENOENT`, `EEXIST`, `EROFS`): cheap, never logged.
    #[error("{0}")]
    Expected(Errno),
    /// The kernel refused something: what was being done, to which name, and its errno.
    #[error("{doing} {}: {errno}", name.display())]
    Sys {
        /// The action, as "open" or "copy up".
        doing: &'static str,
        /// The file, as far as it is known.
        name: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// An image is damaged, truncated or unreadable.
    #[error(transparent)]
    Damage(Box<Damage>),
    /// An image, option or upper asks for something that this program does not do; the text names it and the remedy.
    #[error("{0}")]
    Unsupported(String),
    /// There is no room; the text names the place and the remedy.
    #[error("{0}")]
    Full(String),
    /// A request or configuration that is refused; the text names the place and the remedy.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Wraps the kernel's answer with what was being done.
    pub fn sys(doing: &'static str, name: impl Into<PathBuf>, errno: impl Into<Errno>) -> Self {
        Self::Sys { doing, name: name.into(), errno: errno.into() }
    }

    /// The errno a program sees.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Expected(errno) | Self::Sys { errno, .. } => *errno,
            Self::Damage(_) => Errno::EIO,
            Self::Unsupported(_) => Errno::EOPNOTSUPP,
            Self::Full(_) => Errno::ENOSPC,
            Self::Refused(_) => Errno::EINVAL,
        }
    }

    /// True where there is no room, which others may make.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self.errno(), Errno::ENOSPC | Errno::EDQUOT)
    }

    /// True when the error should be told to whoever runs the daemon.
    #[must_use]
    pub const fn is_surprise(&self) -> bool {
        match self {
            Self::Expected(_) => false,
            // Rights, space and names are the asker's business, and would let him fill the log.
            Self::Sys { errno, .. } => matches!(*errno, Errno::EIO | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM),
            Self::Damage(_) | Self::Unsupported(_) | Self::Full(_) | Self::Refused(_) => true,
        }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Expected(errno)
    }
}

impl From<io::Error> for Errno {
    /// An `io::Error` without an OS code (a short read, say) is `EIO`.
    fn from(e: io::Error) -> Self {
        Self(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damage(Box::new(damage))
    }
}
