//! Layer 6: what the subcommands do.

pub mod boot;
pub mod boot_guard;
pub mod check;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod image;
pub mod install;
pub mod mount;
mod output;
pub mod rauc_backend;
pub mod remount;
pub mod status;
pub mod umount;
pub mod update;
