//! The hardware's watchdog in the hands of `haosfs boot-guard`, while an update is tried: it resets a machine that hangs, and no other.

use std::path::Path;
use std::time::Duration;

use super::qemu::disk::{Data, Disk, image_name};
use super::qemu::initramfs::{Joins, WATCHDOG_TIME};
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;
use super::qemu::root;
use super::trial::{self, CHECK, NEW, RULES, write_program};

/// A watchdog for QEMU. When it resets the machine, QEMU ends.
const DEVICE: [&str; 4] = ["-device", "i6300esb", "-action", "watchdog=reset"];

/// What the kernel says of it.
const STATE: &str = "/sys/class/watchdog/watchdog0/state";

/// Longer than it waits.
const LONGER: u64 = WATCHDOG_TIME + 4;

/// How an update hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// All of its processes are stopped: who guards it, who writes the log, who serves the root.
    Everything,
    /// A required check is red, and nobody starts the machine anew.
    Reboot,
}

fn change(hang: Hang, tree: &Path) {
    match hang {
        Hang::Everything => {
            let stop = format!("#!/bin/sh\nuntil grep -q ^active {STATE}; do sleep 0.2; done\nsleep 3\nkill -STOP -1\n");
            write_program(&tree.join("sbin/stop-all"), &stop);
            trial::starts_besides(tree, "/sbin/haosfs boot-guard");
            trial::starts_besides(tree, "/sbin/stop-all");
        }
        Hang::Reboot => {
            write_program(&tree.join(CHECK), "#!/bin/sh\necho the application is not there\nexit 1\n");
            trial::starts_besides(tree, "/sbin/haosfs boot-guard --reboot-command true");
        }
    }
}

/// A machine whose update is staged, and the hash of the generation in use.
fn staged(joins: Joins, data: Data, rules: &str, change: impl FnOnce(&Path)) -> (Machine, String) {
    let dir = tempfile::tempdir().unwrap();
    let update = trial::update(dir.path(), change);
    let machine = Machine::with_disk(Kernel::newest(), joins, Disk::new(data, root::busybox(), rules, Some(&update)));
    let hash = trial::stage(&machine, "");
    (machine, hash)
}

/// Tries an update that hangs. The watchdog resets the machine, which then has the old image.
pub fn resets(hang: Hang, joins: Joins, data: Data, why: &str) {
    let (machine, hash) = staged(joins, data, RULES, |tree| change(hang, tree));
    let mut guest = machine.start_with("", &DEVICE);
    let started = guest.until_ready();
    let (took, console) = guest.until_off();
    println!("{hang:?} {joins:?}: started in {started:.1?}, reset after {took:.1?}");
    // The deadline has passed nobody, and neither the kernel nor QEMU was asked.
    assert!(!console.contains("reboot: ") && took < Duration::from_secs(2 * LONGER), "{took:?}: {console}");
    let mut guest = machine.start_with("", &DEVICE);
    guest.until_ready();
    trial::is_back(&machine, guest, &hash, &[why]);
}

/// Tries an update whose check takes longer than the watchdog waits. It is kept quiet meanwhile, and stopped once the update is
/// confirmed.
pub fn is_given_back(joins: Joins, data: Data) {
    let rules = RULES.replace("deadline = 30", "deadline = 120");
    let (machine, _) = staged(joins, data, &rules, |tree| {
        write_program(&tree.join(CHECK), &format!("#!/bin/sh\nsleep {LONGER}\n"));
        trial::starts_besides(tree, "/sbin/haosfs boot-guard");
    });
    let mut guest = machine.start_with("", &DEVICE);
    guest.until_ready();
    guest.sh(&format!("until grep -q ^active {STATE}; do sleep 0.2; done"));
    trial::until_confirmed(&mut guest);
    guest.sh(&format!("until grep -q ^inactive {STATE}; do sleep 0.2; done; sleep {LONGER}"));
    trial::shows(&mut guest, NEW);
    let ini = guest.sh("cat /haos/haos.ini");
    assert!(ini.contains(&format!("system_image = {}\n", image_name("2.0"))), "{ini}");
    let (_, console) = guest.power_off();
    assert!(!console.contains("watchdog did not stop"), "{console}");
}
