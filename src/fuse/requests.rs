//! How many requests of each kind the kernel has sent: what an operation costs is mostly how often it has to ask.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::union_ioctl::REQUEST_KINDS;

/// A kind of request, by the protocol's names (`enum fuse_opcode` of `<linux/fuse.h>`). Those that haosfs leaves unanswered are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `FUSE_LOOKUP`
    Lookup,
    /// `FUSE_FORGET`, and each node of `FUSE_BATCH_FORGET`.
    Forget,
    /// `FUSE_GETATTR`
    Getattr,
    /// `FUSE_SETATTR`
    Setattr,
    /// `FUSE_READLINK`
    Readlink,
    /// `FUSE_SYMLINK`
    Symlink,
    /// `FUSE_MKNOD`
    Mknod,
    /// `FUSE_MKDIR`
    Mkdir,
    /// `FUSE_UNLINK`
    Unlink,
    /// `FUSE_RMDIR`
    Rmdir,
    /// `FUSE_RENAME`, `FUSE_RENAME2`
    Rename,
    /// `FUSE_LINK`
    Link,
    /// `FUSE_OPEN`
    Open,
    /// `FUSE_READ`
    Read,
    /// `FUSE_WRITE`
    Write,
    /// `FUSE_STATFS`
    Statfs,
    /// `FUSE_RELEASE`
    Release,
    /// `FUSE_FSYNC`
    Fsync,
    /// `FUSE_SETXATTR`
    Setxattr,
    /// `FUSE_GETXATTR`
    Getxattr,
    /// `FUSE_LISTXATTR`
    Listxattr,
    /// `FUSE_REMOVEXATTR`
    Removexattr,
    /// `FUSE_FLUSH`
    Flush,
    /// `FUSE_OPENDIR`
    Opendir,
    /// `FUSE_READDIR`
    Readdir,
    /// `FUSE_READDIRPLUS`
    Readdirplus,
    /// `FUSE_RELEASEDIR`
    Releasedir,
    /// `FUSE_FSYNCDIR`
    Fsyncdir,
    /// `FUSE_CREATE`
    Create,
    /// `FUSE_IOCTL`
    Ioctl,
    /// `FUSE_FALLOCATE`
    Fallocate,
    /// `FUSE_LSEEK`
    Lseek,
    /// `FUSE_COPY_FILE_RANGE`
    CopyFileRange,
}

impl Operation {
    /// True where the kernel keeps the attributes of all directories, but of the one that `FUSE_SETATTR` itself is about.
    #[must_use]
    pub const fn keeps_directories(self) -> bool {
        matches!(
            self,
            Self::Lookup
                | Self::Forget
                | Self::Getattr
                | Self::Setattr
                | Self::Readlink
                | Self::Read
                | Self::Write
                | Self::Statfs
                | Self::Fsync
                | Self::Getxattr
                | Self::Listxattr
                | Self::Lseek
        )
    }
}

/// The names of all, in the order of the enum.
pub const NAMES: [&str; 33] = [
    "lookup",
    "forget",
    "getattr",
    "setattr",
    "readlink",
    "symlink",
    "mknod",
    "mkdir",
    "unlink",
    "rmdir",
    "rename",
    "link",
    "open",
    "read",
    "write",
    "statfs",
    "release",
    "fsync",
    "setxattr",
    "getxattr",
    "listxattr",
    "removexattr",
    "flush",
    "opendir",
    "readdir",
    "readdirplus",
    "releasedir",
    "fsyncdir",
    "create",
    "ioctl",
    "fallocate",
    "lseek",
    "copy_file_range",
];

/// Counts since the union was mounted.
#[derive(Debug)]
pub struct Requests {
    counts: [AtomicU64; REQUEST_KINDS],
}

impl Default for Requests {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; REQUEST_KINDS] }
    }
}

impl Requests {
    /// Counts one.
    pub fn count(&self, operation: Operation) {
        if let Some(count) = self.counts.get(operation as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What [`crate::sys::union_ioctl::requests`] reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.counts.iter().flat_map(|count| count.load(Ordering::Relaxed).to_ne_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_its_name() {
        assert_eq!(NAMES[Operation::Lookup as usize], "lookup");
        assert_eq!(NAMES[Operation::Write as usize], "write");
        assert_eq!(NAMES[Operation::Readdirplus as usize], "readdirplus");
        assert_eq!(Operation::CopyFileRange as usize + 1, NAMES.len());
        assert!(NAMES.len() <= REQUEST_KINDS);
    }

    #[test]
    fn counts_are_told_in_order() {
        let requests = Requests::default();
        requests.count(Operation::Forget);
        requests.count(Operation::Forget);
        let bytes = requests.encode();
        assert_eq!(bytes.len(), REQUEST_KINDS * 8);
        assert_eq!(bytes[8..16], 2_u64.to_ne_bytes());
    }
}
