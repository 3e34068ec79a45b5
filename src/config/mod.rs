//! Layer 2: what users write, parsed into values and nothing more; no file is touched here.

pub mod mount_options;
pub mod option_list;
pub mod size;
