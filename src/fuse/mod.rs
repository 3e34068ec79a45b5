//! The only user of fuser: each operation converts, makes one call into the union, and replies.

mod asked;
mod awake;
mod beside;
mod burst;
mod control;
mod convert;
mod filesystem;
mod flags;
mod foreseen;
mod guard;
mod page;
mod page_store;
mod refused_pages;
mod reply;
pub mod requests;
mod session;
mod turns;
mod workers;

pub use page_store::begin as begin_pages;
pub use session::{Options, Session};
