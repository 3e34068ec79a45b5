//! What is told to be durable on a system partition on FAT is there after a power cut right behind it.

use std::fs::File;

use super::cuts;
use super::qemu::crash::{self, Log, Lost};
use super::qemu::disk::{self, Data, Disk, SECTOR, System, image_name};
use super::qemu::initramfs::Joins;
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;
use super::qemu::root;

const BEFORE: &str = "[network]\naddress = 192.0.2.7/24\n";
const AFTER: &str = "[network]\naddress = 192.0.2.8/24\n";

/// Pulls the plug when haos.ini was changed, and when an update was staged.
pub fn keeps_what_was_told(kernel: &'static Kernel, joins: Joins) {
    let dir = tempfile::tempdir().unwrap();
    let update = root::variant(dir.path(), |tree| std::fs::write(tree.join("etc/issue"), "of the update\n").unwrap());
    let disk = Disk::with_system(System::Fat, Data::Ext4, root::busybox(), BEFORE, Some(&update));
    let machine = Machine::with_disk(kernel, joins, disk);
    let mut guest = machine.boot();
    // A partition that is in use for some time has nothing else to write.
    guest.sh("sync; haosfs config set /haos/haos.ini network.address=192.0.2.8/24");
    guest.cut();
    let (ini, backup) = (machine.disk.on_fat("/haos.ini"), machine.disk.on_fat("/haos.ini.bak"));
    assert!(ini.ends_with(AFTER), "haos.ini is the one before: {ini}");
    assert!(backup.ends_with(BEFORE), "{backup}");
    machine.disk.check_fat(false);

    let mut guest = machine.boot();
    let image = image_name("2.0");
    guest.sh(&format!("haosfs update stage /haos/incoming/{image}"));
    guest.cut();
    machine.disk.check_fat(false);
    let mut guest = machine.boot();
    let tried = guest.sh(&format!("cat /etc/issue && cmp /haos/incoming/{image} /haos/images/{image}; cat /haos/haos.ini"));
    assert!(tried.starts_with("of the update\n[haos]\n") && tried.ends_with(AFTER), "{tried}");
    guest.power_off();
}

const ADDRESS: &str = "[network]\naddress = 192.0.2.";

/// Changes haos.ini a few times, and looks at so many disks that have lost some of what was not flushed: it can be read on all of
/// them, and says what was told by then, or what comes next.
pub fn loses_nothing_that_was_flushed(kernel: &'static Kernel, disks: usize) {
    let seed = fastrand::u64(0..1 << 40);
    let mut chance = fastrand::Rng::with_seed(seed);
    let disk = Disk::with_system(System::Fat, Data::Ext4, root::busybox(), &format!("{ADDRESS}0\n"), None);
    let machine = Machine::with_disk(kernel, Joins::Haosfs, disk);
    machine.boot().power_off();
    let [before, log, after] = ["before", "log", "after"].map(|name| machine.disk.dir().join(name));
    cuts::copy(&machine.disk.file(), &before);
    File::create(&log).unwrap();
    let mut guest = machine.start_from(&machine.disk.file(), Some(&log), "", &[]);
    guest.until_ready();
    let growing = File::open(&log).unwrap();
    let mut told = vec![(0, crash::entries(&growing))];
    for step in 1..=10 {
        guest.sh(&format!("haosfs config set /haos/haos.ini network.address=192.0.2.{step}"));
        told.push((step, crash::entries(&growing)));
    }
    guest.cut();
    let (log, mut all) = (Log::read(&log), Lost::default());
    for number in 0..disks {
        cuts::copy(&before, &after);
        let end = log.moment(told[0].1, &mut chance);
        let fate = log.replay(&File::options().write(true).open(&after).unwrap(), end, SECTOR, &mut chance);
        let last = told.iter().rev().find(|(_, noted)| *noted <= end).map_or(0, |(step, _)| *step);
        let ini = disk::read_fat(&after, "/haos.ini");
        let found: u32 = ini.split_once(ADDRESS).unwrap().1.trim().parse().unwrap();
        assert!((last..=last + 1).contains(&found), "seed {seed}, disk {number}: {last} was told: {ini}");
        disk::check_fat(&after, false);
        println!("seed {seed}, disk {number}: {last} was told, {found} is there, writes not flushed: {fate:?}");
        (all.kept, all.lost) = (all.kept + fate.kept, all.lost + fate.lost);
    }
    assert!(all.lost > 0, "nothing was lost");
}
