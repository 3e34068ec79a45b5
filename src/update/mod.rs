//! Layer 4: versions of images, the state of an update, and the generations of uppers. Decisions are pure ([`state`], [`record`],
//! [`choice`], [`base`]); [`store`] and [`uppers`] keep them.

pub mod base;
pub mod choice;
mod effect;
mod escape;
mod event;
pub mod garbage;
pub mod hidden_upper;
pub mod image_name;
pub mod meta;
pub mod rebase;
pub mod record;
pub mod signature;
pub mod state;
pub mod store;
pub mod trial_file;
pub mod trial_log;
pub mod uppers;
pub mod version;
