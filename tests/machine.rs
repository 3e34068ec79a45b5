//! Whole machines in QEMU whose root file system is a union: the quick ones, which every run of the tests has.
//! `machine_full` has the rest.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "machine/cuts.rs"]
mod cuts;
mod qemu;
#[path = "machine/systemd.rs"]
mod systemd;
#[path = "machine/trial.rs"]
mod trial;

use qemu::disk::Data;
use qemu::host;
use qemu::initramfs::Joins;
use qemu::kernel::Kernel;
use trial::Fate;

#[test]
fn systemd_starts_and_stops_on_a_root_that_haosfs_serves() {
    if host::can_run_debian("systemd_starts_and_stops_on_a_root_that_haosfs_serves") {
        systemd::starts_and_stops(Kernel::stable(), Joins::Haosfs, 1);
    }
}

#[test]
fn an_update_that_panics_is_left_for_the_image_before() {
    if host::can_run_as_root("an_update_that_panics_is_left_for_the_image_before") {
        trial::tries(Fate::Panic, Kernel::stable(), Joins::Haosfs, Data::Ext4, &["attempts"]);
    }
}

#[test]
fn two_power_cuts_lose_nothing_that_was_durable() {
    if host::can_run("two_power_cuts_lose_nothing_that_was_durable") {
        cuts::cut_again_and_again(Kernel::stable(), Joins::Haosfs, Data::Ext4, 2);
    }
}
