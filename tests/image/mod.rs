//! What the tests of the image reader share: trees, packing, mounting, comparing.
// Every test binary uses a part of it.
#![allow(dead_code)]

pub mod compare;
pub mod mounted;
pub mod mutate;
pub mod pack;
pub mod random;
pub mod tree;

/// Says that `test` cannot run here; fails instead where skipping is not allowed.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("HAOSFS_NO_SKIP").is_none_or(|v| v != "1"), "SKIPPED {test}: {reason}");
    eprintln!("SKIPPED {test}: {reason}");
}

/// Why tests that make devices and mounts cannot run here.
pub fn not_root() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("needs root")
}
