//! What is told to be durable on a system partition on FAT is there after a power cut right behind it.

use super::qemu::disk::{Data, Disk, System, image_name};
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
