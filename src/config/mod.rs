//! Layer 2: what users write, parsed into values: the `-o` vocabulary, and haos.ini. Only [`store`] and [`turn`] touch files.

pub mod data_partition;
pub mod haos_ini;
pub mod image_source;
pub mod ini;
pub mod mount_options;
pub mod option_list;
pub mod remount;
pub mod size;
pub mod store;
pub mod turn;
pub mod update_rules;
