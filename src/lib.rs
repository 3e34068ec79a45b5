//! haosfs: immutable squashfs images under a writable upper directory, merged by the kernel overlayfs' rules and in its
//! on-disk format, served by FUSE.
//!
//! Strict downward order; a layer may use those below it, never a sibling (`tests/layers.rs` keeps it):
//!
//! | layer | modules |
//! | --- | --- |
//! | 0 | [`types`], [`error`] |
//! | 1 | [`sys`]: every `unsafe` block and raw system call |
//! | 2 | [`image`]: squashfs; [`ovl`]: the on-disk contract with the kernel's overlayfs; [`config`]: what users write |
//! | 3 | [`union`]: overlay semantics over lowers and one upper |
//! | 4 | [`fuse`]: the only user of fuser; [`update`]: trial and rollback of images, generations of uppers |
//! | 5 | [`mount`]: `MountPlan` to a mounted union |
//! | 6 | [`commands`] |
//! | 7 | [`cli`] |

pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod fuse;
pub mod image;
pub mod mount;
pub mod ovl;
pub mod sys;
pub mod types;
pub mod union;
pub mod update;
