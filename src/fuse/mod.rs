//! The only user of fuser: each operation converts, makes one call into the union, and replies.

mod convert;
mod filesystem;
mod guard;
mod session;

pub use session::{Options, Session};
