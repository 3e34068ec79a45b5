//! Layer 5: from a [`MountPlan`] to a mounted union: facts about this machine, a pure choice, then the mount.

mod choose;
pub mod data;
mod force;
mod fusermount;
pub mod generation;
mod given;
pub mod image_choice;
pub mod image_path;
pub mod kernel_pairing;
mod layers;
mod mountinfo;
mod paths;
mod plan;
mod presence;
mod probe;
mod remount;
mod request;
mod root;
mod serve;
mod superblock;
mod unmount;

pub use choose::{Way, choose};
pub use force::unmount_forced;
pub use layers::open_lower_at;
pub use mountinfo::{MountEntry, haosfs_at, overlay_with};
pub use plan::{Layer, LayerKind, MountPlan, UpperPlan};
pub use probe::{DeviceFact, Facts, probe};
pub use remount::{Standing, change_access};
pub use request::Request;
pub use serve::serve;
pub use unmount::{Daemon, unmount};
