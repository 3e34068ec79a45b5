//! A model: random operations on a target and on a tree in memory, which must stay the same.

pub mod lower;
pub mod on_core;
pub mod on_path;
pub mod op;
pub mod run;
pub mod target;
pub mod tree;
