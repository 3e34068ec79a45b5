//! Mounted things for tests: scratch file systems, squashfs images, unions by the kernel's overlayfs and by haosfs. Whatever
//! is mounted here is unmounted when its owner is dropped, also while a failed test unwinds.
#![allow(dead_code, reason = "each test binary uses a part of the fixtures")]

pub mod daemon;
pub mod ground;
pub mod mount;
pub mod namespace;
pub mod requirement;
pub mod scratch;
pub mod squashfs;
pub mod union;
pub mod user;
