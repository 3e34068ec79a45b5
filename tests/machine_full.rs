//! Whole machines in QEMU whose root file system is a union: those that take long. `./test machine` runs them; `machine` has the
//! quick ones.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "machine/cuts.rs"]
mod cuts;
#[path = "machine/fat.rs"]
mod fat;
#[path = "machine/keeps.rs"]
mod keeps;
mod qemu;
#[path = "machine/safe.rs"]
mod safe;
#[path = "machine/shipped.rs"]
mod shipped;
#[path = "machine/systemd.rs"]
mod systemd;
#[path = "machine/trial.rs"]
mod trial;
#[path = "machine/watchdog.rs"]
mod watchdog;

use keeps::keeps_what_is_written;
use qemu::disk::{Data, System};
use qemu::host;
use qemu::initramfs::Joins;
use qemu::kernel::Kernel;
use shipped::Maker;
use trial::{Fate, On};
use watchdog::Hang;

fn keeps_on_every_file_system(test: &str, kernel: fn() -> &'static Kernel, joins: Joins) {
    if host::can_run(test) {
        [Data::Ext4, Data::Btrfs].into_iter().for_each(|data| keeps_what_is_written(kernel(), joins, data));
    }
}

#[test]
fn linux_6_1_without_overlayfs() {
    keeps_on_every_file_system("linux_6_1_without_overlayfs", Kernel::stable, Joins::Haosfs);
}

#[test]
fn linux_6_1_with_overlayfs() {
    keeps_on_every_file_system("linux_6_1_with_overlayfs", Kernel::stable, Joins::Kernel);
}

#[test]
fn the_newest_linux_without_overlayfs() {
    keeps_on_every_file_system("the_newest_linux_without_overlayfs", Kernel::newest, Joins::Haosfs);
}

#[test]
fn the_newest_linux_with_overlayfs() {
    keeps_on_every_file_system("the_newest_linux_with_overlayfs", Kernel::newest, Joins::Kernel);
}

#[test]
fn ten_power_cuts_on_ext4() {
    if host::can_run("ten_power_cuts_on_ext4") {
        cuts::cut_again_and_again(Kernel::stable(), Joins::Haosfs, Data::Ext4, 10);
    }
}

#[test]
fn ten_power_cuts_on_btrfs() {
    if host::can_run("ten_power_cuts_on_btrfs") {
        cuts::cut_again_and_again(Kernel::newest(), Joins::Haosfs, Data::Btrfs, 10);
    }
}

#[test]
fn five_power_cuts_of_the_kernels_own_union() {
    if host::can_run("five_power_cuts_of_the_kernels_own_union") {
        cuts::cut_again_and_again(Kernel::stable(), Joins::Kernel, Data::Ext4, 5);
    }
}

#[test]
fn ten_disks_with_ext4_that_lost_what_was_not_flushed() {
    if host::can_run("ten_disks_with_ext4_that_lost_what_was_not_flushed") {
        (0..2).for_each(|_| cuts::lose_what_was_not_flushed(Kernel::stable(), Data::Ext4, 5));
    }
}

#[test]
fn ten_disks_with_btrfs_that_lost_what_was_not_flushed() {
    if host::can_run("ten_disks_with_btrfs_that_lost_what_was_not_flushed") {
        (0..2).for_each(|_| cuts::lose_what_was_not_flushed(Kernel::newest(), Data::Btrfs, 5));
    }
}

#[test]
fn systemd_starts_and_stops_five_times_on_a_root_that_haosfs_serves() {
    if host::can_run_debian("systemd_starts_and_stops_five_times_on_a_root_that_haosfs_serves") {
        systemd::starts_and_stops(Kernel::stable(), Joins::Haosfs, 5);
    }
}

fn has_its_fate(test: &str, fate: Fate, why: &[&str]) {
    if host::can_run_as_root(test) {
        trial::tries(fate, Kernel::stable(), Joins::Haosfs, Data::Ext4, why);
        trial::tries(fate, Kernel::newest(), Joins::Kernel, Data::Btrfs, why);
    }
}

#[test]
fn a_good_update_is_confirmed() {
    has_its_fate("a_good_update_is_confirmed", Fate::Good, &[]);
}

#[test]
fn a_truncated_update_is_left() {
    has_its_fate("a_truncated_update_is_left", Fate::Truncated, &["bytes"]);
}

#[test]
fn an_update_without_init_is_left() {
    has_its_fate("an_update_without_init_is_left", Fate::NoInit, &["init"]);
}

#[test]
fn an_update_that_panics_is_left() {
    has_its_fate("an_update_that_panics_is_left", Fate::Panic, &["attempts"]);
}

#[test]
fn an_update_that_hangs_is_left() {
    has_its_fate("an_update_that_hangs_is_left", Fate::Hang, &["attempts", "confirmed"]);
}

#[test]
fn an_update_with_a_red_check_is_left() {
    has_its_fate("an_update_with_a_red_check_is_left", Fate::RedCheck, &["own"]);
}

#[test]
fn five_power_cuts_of_a_trial() {
    if host::can_run_as_root("five_power_cuts_of_a_trial") {
        for (joins, data) in [(Joins::Haosfs, Data::Ext4), (Joins::Haosfs, Data::Btrfs), (Joins::Kernel, Data::Ext4)] {
            trial::tries(Fate::PowerCut, Kernel::stable(), joins, data, &["attempts"]);
        }
        for data in [Data::Ext4, Data::Btrfs] {
            trial::tries(Fate::PowerCut, Kernel::newest(), Joins::Haosfs, data, &["attempts"]);
        }
    }
}

fn is_reset(test: &str, hang: Hang, why: &str) {
    if host::can_run_as_root(test) {
        watchdog::resets(hang, Joins::Haosfs, Data::Ext4, why);
        watchdog::resets(hang, Joins::Kernel, Data::Btrfs, why);
    }
}

#[test]
fn a_watchdog_resets_an_update_whose_processes_all_stop() {
    is_reset("a_watchdog_resets_an_update_whose_processes_all_stop", Hang::Everything, "attempts");
}

#[test]
fn a_watchdog_resets_a_failed_update_that_does_not_come_down() {
    is_reset("a_watchdog_resets_a_failed_update_that_does_not_come_down", Hang::Reboot, "own");
}

#[test]
fn a_watchdog_is_given_back_by_a_good_update() {
    if host::can_run_as_root("a_watchdog_is_given_back_by_a_good_update") {
        watchdog::is_given_back(Joins::Haosfs, Data::Ext4);
        watchdog::is_given_back(Joins::Kernel, Data::Btrfs);
    }
}

fn has_its_fate_on_fat(test: &str, fate: Fate, why: &[&str]) {
    if host::can_run_fat(test) {
        let on = |data| On { system: System::Fat, data };
        trial::tries(fate, Kernel::stable(), Joins::Haosfs, on(Data::Ext4), why);
        trial::tries(fate, Kernel::newest(), Joins::Kernel, on(Data::Btrfs), why);
    }
}

#[test]
fn a_good_update_on_fat_is_confirmed() {
    has_its_fate_on_fat("a_good_update_on_fat_is_confirmed", Fate::Good, &[]);
}

#[test]
fn an_update_on_fat_that_panics_is_left() {
    has_its_fate_on_fat("an_update_on_fat_that_panics_is_left", Fate::Panic, &["attempts"]);
}

#[test]
fn a_power_cut_of_a_trial_on_fat() {
    has_its_fate_on_fat("a_power_cut_of_a_trial_on_fat", Fate::PowerCut, &["attempts"]);
}

#[test]
fn what_was_told_to_be_durable_on_fat_is() {
    if host::can_run_fat("what_was_told_to_be_durable_on_fat_is") {
        fat::keeps_what_was_told(Kernel::stable(), Joins::Haosfs);
        fat::keeps_what_was_told(Kernel::newest(), Joins::Kernel);
    }
}

#[test]
fn twenty_disks_with_fat_that_lost_what_was_not_flushed() {
    if host::can_run_fat("twenty_disks_with_fat_that_lost_what_was_not_flushed") {
        fat::loses_nothing_that_was_flushed(Kernel::stable(), 20);
    }
}

#[test]
fn without_data_there_is_safe_mode() {
    if host::can_run_as_root("without_data_there_is_safe_mode") {
        safe::comes_up_without_data(Kernel::stable(), Joins::Haosfs, System::Ext4, Data::Ext4);
    }
}

#[test]
fn without_data_there_is_safe_mode_on_fat() {
    if host::can_run_fat("without_data_there_is_safe_mode_on_fat") {
        safe::comes_up_without_data(Kernel::newest(), Joins::Kernel, System::Fat, Data::Btrfs);
    }
}

fn starts_with(test: &str, maker: Maker, system: shipped::System, kernel: fn() -> &'static Kernel) {
    if host::can_run_debian(test) && host::has_program(test, maker.program()) {
        shipped::starts(maker, system, kernel());
    }
}

#[test]
fn an_archive_of_initramfs_tools_starts() {
    starts_with("an_archive_of_initramfs_tools_starts", Maker::InitramfsTools, shipped::System::Busybox, Kernel::stable);
}

#[test]
fn an_archive_of_dracut_starts() {
    starts_with("an_archive_of_dracut_starts", Maker::Dracut, shipped::System::Busybox, Kernel::stable);
}

#[test]
fn an_archive_of_dracut_with_systemd_starts() {
    starts_with("an_archive_of_dracut_with_systemd_starts", Maker::DracutSystemd, shipped::System::Systemd, Kernel::newest);
}

#[test]
fn an_archive_of_dracut_with_systemd_starts_another_init() {
    let test = "an_archive_of_dracut_with_systemd_starts_another_init";
    starts_with(test, Maker::DracutSystemd, shipped::System::Busybox, Kernel::newest);
}
