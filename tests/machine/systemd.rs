//! A Debian with systemd on a union as its root file system.

use std::time::Duration;

use super::qemu::debian;
use super::qemu::disk::Data;
use super::qemu::initramfs::Joins;
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;

/// It stops within this time, on an emulated processor.
const LONGEST_STOP: Duration = Duration::from_secs(60);

/// Starts it so many times; it reaches its target, keeps what is written, and switches itself off.
pub fn starts_and_stops(kernel: &'static Kernel, joins: Joins, times: usize) {
    let machine = Machine::new(kernel, joins, Data::Ext4, debian::image());
    for time in 0..times {
        let mut guest = machine.start();
        let started = guest.until_ready();
        let state = guest.run("systemctl is-system-running --wait");
        assert_eq!(state.text.trim(), "running", "{}\n{}", guest.sh("systemctl list-units --failed"), guest.console());
        assert_eq!(guest.sh("test -e /var/count && cat /var/count; echo x >> /var/count").lines().count(), time);
        guest.order("systemctl poweroff");
        let (stopped, console) = guest.until_off();
        println!("{} {joins:?} systemd: started in {started:.1?}, off in {stopped:.1?}", kernel.release());
        assert!(console.contains("reboot: Power down"), "{console}");
        assert!(stopped < LONGEST_STOP, "{stopped:?}\n{console}");
    }
}
