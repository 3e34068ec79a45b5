//! What is written to the root file system of a machine is there after its next start.

use super::qemu::disk::Data;
use super::qemu::initramfs::Joins;
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;
use super::qemu::root;

const WRITE: &str = "
    echo written > /etc/note && rm /etc/issue && echo appended >> /srv/lower/1 && mkdir /var/new && mv /srv/lower/2 /var/new/two &&
    chmod 600 /srv/lower/3 && awk '$2 == \"/\" { print $3 }' /proc/mounts";
const READ: &str = "
    cat /etc/note && ! test -e /etc/issue && tail -n 1 /srv/lower/1 && ! test -e /srv/lower/2 && head -n 1 /var/new/two &&
    stat -c %a /srv/lower/3";
const WRITTEN: &str = "written\nappended\nlower 2\n600\n";

/// Small reads here and there in a file of 36 blocks, of which a daemon keeps 16; says how many of them the kernel had kept.
const READ_HERE_AND_THERE: &str = "
    n=0
    while [ $n -lt 72 ]; do
        dd if=/sbin/haosfs of=/dev/null bs=4096 count=1 skip=$((n * 13 % 36 * 32 + n / 36 * 8)) 2>/dev/null || exit 1
        n=$((n + 1))
    done
    haosfs status --json / | grep -o '\"found\":[0-9]*' | cut -d : -f 2";

/// Boots, writes, powers off, boots again; and once more with the plug pulled after sync(1).
pub fn keeps_what_is_written(kernel: &'static Kernel, joins: Joins, data: Data) {
    let machine = Machine::new(kernel, joins, data, root::busybox());
    let mut guest = machine.start();
    let started = guest.until_ready();
    let kind = guest.sh(WRITE);
    assert_eq!(kind.trim(), if joins == Joins::Haosfs { "fuse.haosfs" } else { "overlay" });
    assert_eq!(guest.sh(READ), WRITTEN);
    if joins == Joins::Haosfs {
        let found: u32 = guest.sh(READ_HERE_AND_THERE).trim().parse().unwrap();
        assert!(found >= 18, "{found} blocks were found in pages of the kernel");
    }
    let (stopped, _) = guest.power_off();
    println!("{} {joins:?} {data:?}: started in {started:.1?}, off in {stopped:.1?}", kernel.release());
    let mut guest = machine.boot();
    assert_eq!(guest.sh(READ), WRITTEN);
    guest.sh("echo again > /etc/note && sync");
    guest.cut();
    let mut guest = machine.boot();
    assert_eq!(guest.sh(READ), WRITTEN.replace("written", "again"));
    guest.power_off();
}
