//! What POSIX, Linux and overlayfs promise, one function per promise, as functions of a directory or of a union.
#![allow(dead_code, reason = "each test binary runs a part of the suite")]

pub mod acl;
pub mod assertions;
pub mod case;
pub mod data;
pub mod durability;
pub mod exceptions;
pub mod listing;
pub mod locks;
pub mod lowered;
pub mod mapping;
pub mod modes;
pub mod names;
pub mod nodes;
pub mod open;
pub mod raw;
pub mod rename;
pub mod sparse;
pub mod times;
pub mod xattr;

use case::Case;

/// Every function that needs no more than a directory.
pub fn anywhere() -> Vec<Case> {
    [
        open::CASES,
        data::CASES,
        sparse::CASES,
        names::CASES,
        nodes::CASES,
        rename::CASES,
        times::CASES,
        modes::CASES,
        acl::CASES,
        xattr::CASES,
        locks::CASES,
        mapping::CASES,
        listing::CASES,
        durability::CASES,
    ]
    .concat()
}
