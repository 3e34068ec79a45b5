//! Virtual machines for tests: Debian's kernels, an initramfs, images and disks that are made here, and QEMU. It emulates the
//! processor, which goes everywhere and takes some seconds for a start; `HAOSFS_ACCEL=kvm` has the processor's own virtualisation used,
//! which within another virtual machine may be slower, or not work at all.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test binary uses a part of the fixtures")]

pub mod cpio;
pub mod crash;
pub mod debian;
pub mod disk;
#[path = "../disk/gpt.rs"]
mod gpt;
pub mod guest;
pub mod host;
pub mod initramfs;
pub mod kernel;
pub mod machine;
mod package;
pub mod root;
#[path = "../machine/writer/main.rs"]
pub mod writer;
