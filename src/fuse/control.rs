//! The ioctls by which haosfs asks its own daemons ([`crate::sys::union_ioctl`]).

use super::requests::Requests;
use crate::error::{Errno, Result};
use crate::sys::cred;
use crate::sys::union_ioctl::{BLOCKS, HAS_UPPER, READ_ONLY, REQUESTS, SYNCHRONISE, WRITABLE};
use crate::union::Union;
use crate::union::lower::Blocks;

/// Something that only haosfs asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether the union has an upper.
    HasUpper,
    /// To make durable what was written.
    Synchronise,
    /// How many requests there were.
    Requests,
    /// How many blocks of images were decompressed, and found decompressed.
    Blocks,
    /// To know that the mount was remounted: read-only, or not.
    Access { read_only: bool },
}

impl Question {
    /// The question behind an ioctl's number; `None` for those of others.
    #[must_use]
    pub fn read(cmd: u32) -> Option<Self> {
        match cmd {
            HAS_UPPER => Some(Self::HasUpper),
            SYNCHRONISE => Some(Self::Synchronise),
            REQUESTS => Some(Self::Requests),
            BLOCKS => Some(Self::Blocks),
            READ_ONLY => Some(Self::Access { read_only: true }),
            WRITABLE => Some(Self::Access { read_only: false }),
            _ => None,
        }
    }

    /// What the kernel takes for an answer to this user. Only those who may remount may say that they did.
    ///
    /// # Errors
    /// What the upper's file system answers; `EPERM`.
    pub fn answer(self, union: &Union, requests: &Requests, uid: u32) -> Result<Vec<u8>> {
        match self {
            Self::HasUpper => Ok(u32::from(union.has_upper()).to_ne_bytes().to_vec()),
            Self::Synchronise => union.synchronise().map(|()| Vec::new()),
            Self::Access { .. } if uid != 0 && uid != cred::privilege().uid => Err(Errno::EPERM.into()),
            Self::Access { read_only } => {
                union.set_read_only(read_only);
                Ok(Vec::new())
            }
            Self::Requests => Ok(requests.encode()),
            Self::Blocks => {
                let Blocks { decompressed, found } = union.blocks();
                Ok([decompressed, found].into_iter().flat_map(u64::to_ne_bytes).collect())
            }
        }
    }
}
