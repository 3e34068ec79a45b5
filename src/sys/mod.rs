//! System calls: every `unsafe` block, ioctl and raw call of the crate, thin and without policy.

pub mod btrfs;
pub mod child;
pub mod cpu_latency;
pub mod cred;
pub mod daemon;
pub mod data;
pub mod descriptors;
pub mod dir;
mod fault;
pub mod fs_context;
pub mod fuse_mount;
pub mod given;
pub mod handle;
pub mod heap;
pub mod kernel_mount;
pub mod layer;
pub mod lock;
pub mod loop_device;
pub mod namespace;
pub mod peer;
pub mod power;
pub mod private_fuse;
pub mod private_lock;
pub mod proc;
pub mod processors;
pub mod readiness;
pub mod release;
pub mod removal;
pub mod replace;
pub mod sigbus;
pub mod signals;
pub mod spot;
pub mod steadfast;
pub mod switches;
pub mod union_ioctl;
pub mod write_out;

use crate::error::Errno;

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Self {
        Self(e.raw_os_error())
    }
}
