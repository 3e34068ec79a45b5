//! Trees for tests: grown from a seed, written down, and compared strictly.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod compare;
pub mod grow;
pub mod snapshot;
