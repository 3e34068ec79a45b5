//! Layer 2: versions of images, and the generations of uppers made on them. Decisions are pure; [`uppers`] keeps them.

pub mod base;
pub mod choice;
pub mod image_name;
pub mod meta;
pub mod uppers;
pub mod version;
