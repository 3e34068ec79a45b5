//! The POSIX suite as the root of a user namespace, where an ordinary user mounts without fusermount3: haosfs, and the kernel's
//! overlayfs with `userxattr`. The test runs itself again inside `unshare -Urm`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test's failure is a panic; only a part of the suite runs here"
)]

mod mounted;
#[path = "posix/mod.rs"]
mod suite;
mod tree;

use std::path::{Path, PathBuf};

use mounted::namespace::{give_away, run_again};
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use suite::case::{Actor, run_in};

const NEEDS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Tool("mksquashfs"),
    Requirement::Tool("unshare"),
    Requirement::Tool("setpriv"),
    Requirement::Fuse,
];

/// Tells the inner run where its file system is.
const INSIDE: &str = "HAOSFS_TEST_INSIDE";

/// Makes the layers as root, then runs the named test again as an ordinary user in namespaces of its own.
fn outside(test: &str) {
    let scratch = Scratch::new(Fs::Ext4);
    let at = |name: &str| scratch.path().join(name);
    for name in ["content", "plain", "plain/below", "homes", "home"] {
        scratch.dir(name);
    }
    suite::lowered::content::make(&at("content"));
    give_away(scratch.path());
    // An image's owners are numbers, and the mounter's namespace says whose: 0 is who became root in it.
    for name in ["content", "plain"] {
        squashfs::pack(&at(name), &at(&format!("{name}.sqfs")), &["-all-root"]);
    }
    run_again(test, INSIDE, scratch.path());
}

/// Squashfs has no place in a user namespace, so the kernel gets the directory that the image was made of.
fn lower(driver: Driver, at: &Path, name: &str) -> Lower {
    match driver {
        Driver::Kernel => Lower::Dir(at.join(name)),
        Driver::Haosfs | Driver::HaosfsUser => Lower::Image(at.join(format!("{name}.sqfs"))),
    }
}

fn inside(driver: Driver, at: &Path) {
    let target = format!("{}-namespace ext4", driver.name());
    let options: &[&str] = if driver == Driver::Kernel { &["userxattr"] } else { &[] };
    let union = Union::with_options(driver, &[lower(driver, at, "plain")], &at.join("home"), options);
    run_in(&target, &union.path().join("below"), Actor::Itself, &suite::anywhere());
    let content = lower(driver, at, "content");
    suite::lowered::run_over(&target, driver, Actor::Itself, &content, &at.join("homes"), options);
}

fn namespace(test: &str, driver: Driver) {
    match std::env::var_os(INSIDE) {
        Some(at) => inside(driver, &PathBuf::from(at)),
        None if can_run(test, NEEDS) => outside(test),
        None => {}
    }
}

#[test]
fn overlay_ext4() {
    namespace("overlay_ext4", Driver::Kernel);
}

#[test]
fn haosfs_ext4() {
    namespace("haosfs_ext4", Driver::Haosfs);
}
