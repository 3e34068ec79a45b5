//! A machine whose data partition is gone: it starts nevertheless, and says that it is in safe mode.

use super::qemu::disk::{Data, Disk, System, image_name};
use super::qemu::initramfs::Joins;
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;
use super::qemu::root;

const NETWORK: &str = "[network]\naddress = 192.0.2.7/24\n";

/// Starts it with its data, with a disk that has none, and with its data again, which have not changed meanwhile.
pub fn comes_up_without_data(kernel: &'static Kernel, joins: Joins, system: System, data: Data) {
    let machine = Machine::with_disk(kernel, joins, Disk::with_system(system, data, root::busybox(), NETWORK, None));
    let mut guest = machine.boot();
    guest.sh("echo mine > /etc/note");
    let status = guest.sh("haosfs status");
    assert!(!status.contains("SAFE MODE") && !guest.console().contains("SAFE MODE"), "{status}");
    guest.power_off();

    let mut guest = machine.start_from(&machine.disk.without_data(), None, "", &[]);
    let started = guest.until_ready();
    let status = guest.sh("haosfs status");
    println!("{} {joins:?} {system:?}: safe mode after {started:.1?}\n{status}", kernel.release());
    assert!(status.contains("SAFE MODE  data_partition"), "{status}");
    assert!(guest.console().contains("haosfs: SAFE MODE: data_partition"), "{}", guest.console());
    let boot = guest.sh(". /run/haosfs/boot.env && echo $HAOSFS_MODE $HAOSFS_IMAGE $HAOSFS_INI && echo $HAOSFS_WHY");
    assert!(boot.starts_with(&format!("safe /haos/images/{} /haos/haos.ini\ndata_partition", image_name("1.0"))), "{boot}");
    let network = guest.sh("stat -c %a /run/haosfs/network.env && cat /run/haosfs/network.env");
    assert_eq!(network, "600\nNETWORK_ADDRESS=\"192.0.2.7/24\"\n");
    // The image is there, the user's changes are not, and what is written is in memory.
    let written = guest.sh("cat /etc/issue && ! test -e /etc/note && echo other > /etc/note && cat /etc/note");
    assert_eq!(written, "of the image\nother\n");
    guest.power_off();

    let mut guest = machine.boot();
    assert_eq!(guest.sh(". /run/haosfs/boot.env && echo $HAOSFS_MODE && cat /etc/note"), "system\nmine\n");
    guest.power_off();
}
