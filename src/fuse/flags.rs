//! The ioctls by which the kernel asks for the flags of chattr(1), and sets them (fs/fuse/ioctl.c, `fuse_fileattr_get`,
//! `fuse_fileattr_set`; `<linux/fs.h>`).

use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use crate::error::Errno;
use crate::ovl::protect::Protection;
use crate::sys::release::release;

/// `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`: an int of `FS_*_FL`, although their numbers speak of a long.
const GET_FLAGS: u32 = 0x8000_6601 | LONG;
const SET_FLAGS: u32 = 0x4000_6602 | LONG;
const LONG: u32 = (size_of::<libc::c_long>() as u32) << 16;
/// `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`: a `struct fsxattr`, which begins with an int of `FS_XFLAG_*`.
const GET_XFLAGS: u32 = 0x801c_581f;
const SET_XFLAGS: u32 = 0x401c_5820;
/// Bytes of a `struct fsxattr`.
const FSXATTR: usize = 28;
/// Ints of it that set something else: the extent size, the project, the extent size of copies.
const OTHER_INTS: [usize; 3] = [4, 12, 16];

/// Who may set them the kernel decides, since it knows these ioctls of FUSE itself (Linux 5.13, fs/ioctl.c, `vfs_fileattr_set`). Before
/// that it hands on whatever anybody asks by a descriptor that can be read: there it is root alone.
#[must_use]
pub fn may_set(uid: u32) -> bool {
    static KERNEL_DECIDES: LazyLock<bool> = LazyLock::new(|| decides(release().as_bytes()));
    uid == 0 || *KERNEL_DECIDES
}

/// By a release like `5.10.0-23-amd64`; one that says something else is taken for newer.
fn decides(release: &[u8]) -> bool {
    let mut numbers = release.split(|b| !b.is_ascii_digit()).map(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (5, 13),
        _ => true,
    }
}

/// How flags are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As `FS_IMMUTABLE_FL` and `FS_APPEND_FL`.
    Flags,
    /// As `FS_XFLAG_IMMUTABLE` and `FS_XFLAG_APPEND`.
    Xflags,
}

impl Form {
    /// (immutable, append-only)
    const fn bits(self) -> (u32, u32) {
        match self {
            Self::Flags => (0x10, 0x20),
            Self::Xflags => (0x8, 0x10),
        }
    }

    /// `EOPNOTSUPP` for flags that a union does not keep.
    const fn decode(self, flags: u32) -> Result<Protection, Errno> {
        let (immutable, append) = self.bits();
        if flags & !(immutable | append) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(Protection { append: flags & append != 0, immutable: flags & immutable != 0 })
    }

    /// What the kernel takes for an answer.
    #[must_use]
    pub fn encode(self, protection: Protection) -> Vec<u8> {
        let (immutable, append) = self.bits();
        let flags = if protection.immutable { immutable } else { 0 } | if protection.append { append } else { 0 };
        let mut bytes = flags.to_ne_bytes().to_vec();
        if self == Self::Xflags {
            bytes.resize(FSXATTR, 0);
        }
        bytes
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To tell the flags.
    Tell(Form),
    /// To set them.
    Set(Protection),
}

impl Request {
    /// Reads an ioctl.
    ///
    /// # Errors
    /// `ENOTTY` for any other, `EINVAL` for one cut short, `EOPNOTSUPP` for flags that a union does not keep.
    pub fn read(cmd: u32, data: &[u8]) -> Result<Self, Errno> {
        match cmd {
            GET_FLAGS => Ok(Self::Tell(Form::Flags)),
            GET_XFLAGS => Ok(Self::Tell(Form::Xflags)),
            SET_FLAGS => Form::Flags.decode(int_at(data, 0)?).map(Self::Set),
            SET_XFLAGS => {
                for at in OTHER_INTS {
                    if int_at(data, at)? != 0 {
                        return Err(Errno::EOPNOTSUPP);
                    }
                }
                Form::Xflags.decode(int_at(data, 0)?).map(Self::Set)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}

fn int_at(data: &[u8], at: usize) -> Result<u32, Errno> {
    let int = data.get(at..).and_then(|rest| rest.first_chunk());
    int.map(|int| u32::from_ne_bytes(*int)).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Protection = Protection { append: true, immutable: true };

    #[test]
    fn flags_are_read_and_told() {
        assert_eq!(Request::read(GET_FLAGS, &[]), Ok(Request::Tell(Form::Flags)));
        assert_eq!(Request::read(0x801c_581f, &[]), Ok(Request::Tell(Form::Xflags)));
        assert_eq!(Request::read(SET_FLAGS, &0x30_u32.to_ne_bytes()), Ok(Request::Set(BOTH)));
        assert_eq!(Request::read(SET_FLAGS, &0x38_u32.to_ne_bytes()), Err(Errno::EOPNOTSUPP));
        assert_eq!(Request::read(SET_FLAGS, &[0; 3]), Err(Errno::EINVAL));
        assert_eq!(Request::read(SET_XFLAGS, &Form::Xflags.encode(BOTH)), Ok(Request::Set(BOTH)));
        assert_eq!(Request::read(SET_XFLAGS, &[0; 16]), Err(Errno::EINVAL));
        for at in OTHER_INTS {
            let mut bytes = [0; FSXATTR];
            bytes[at] = 1;
            assert_eq!(Request::read(SET_XFLAGS, &bytes), Err(Errno::EOPNOTSUPP));
        }
        assert_eq!(Request::read(0x5401, &[]), Err(Errno::ENOTTY));
        assert_eq!(Form::Flags.encode(BOTH), 0x30_u32.to_ne_bytes());
        let xflags = Form::Xflags.encode(BOTH);
        assert_eq!((xflags.len(), xflags[..4].to_vec()), (28, 0x18_u32.to_ne_bytes().to_vec()));
    }

    #[test]
    fn old_kernels_decide_nothing() {
        for (release, does) in
            [("4.19.0", false), ("5.10.0-23-amd64", false), ("5.12.19", false), ("5.13.0-rc1", true), ("6.18.44", true)]
        {
            assert_eq!(decides(release.as_bytes()), does, "{release}");
        }
        assert!(decides(b"") && decides(b"next") && decides(b"7"));
    }
}
