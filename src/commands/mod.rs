//! Layer 6: what the subcommands do.

pub mod demo;
pub mod image;
pub mod mount;
pub mod umount;
