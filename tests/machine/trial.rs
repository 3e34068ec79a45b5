//! An update is tried: it is confirmed, or whatever goes wrong with it, the old image is back without help, with the log and the
//! reason on the system partition and its upper as it was.
#![allow(dead_code, reason = "the quick tests use a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::qemu::disk::{Data, Disk, System, image_name};
use super::qemu::guest::Guest;
use super::qemu::initramfs::Joins;
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;
use super::qemu::root;

/// What becomes of the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its checks are green.
    Good,
    /// The image is cut off after it was staged.
    Truncated,
    /// It has no first program.
    NoInit,
    /// Its first program has the kernel panic.
    Panic,
    /// Its first program does nothing at all.
    Hang,
    /// A required check is red.
    RedCheck,
    /// It works, but nobody says so; the plug is pulled.
    PowerCut,
}

/// What a machine's partitions are.
#[derive(Clone, Copy, Debug)]
pub struct On {
    /// Where haos.ini and the images are.
    pub system: System,
    /// Where the uppers are.
    pub data: Data,
}

impl From<Data> for On {
    fn from(data: Data) -> Self {
        Self { system: System::Ext4, data }
    }
}

/// What haos.ini says besides, which no update changes.
pub const RULES: &str = "
# Not for long.
[update]
tries = 1
deadline = 30

[network]
address = 192.0.2.7/24
; of the vendor
[vendor]
Serial Number = 17
";

/// The first line of /etc/issue.
const OLD: &str = "of the image";
pub const NEW: &str = "of the update";

/// The user's changes, which both images show; a copy that was changed, a new one, a removed one.
const CHANGE: &str = "echo mine > /etc/note && echo more >> /srv/lower/1 && rm /srv/lower/2 && chmod 700 /srv/work";
const CHANGED: &str = "cat /etc/note && tail -n 1 /srv/lower/1 && ! test -e /srv/lower/2 && stat -c %a /srv/work";

/// All of the old generation that a user could see or lose.
const HASH: &str = "cd haosfs/uppers/1/upper && tar --sort=name --xattrs --xattrs-include='*' --format=posix \
                    --pax-option=delete=atime,delete=ctime -cf - . | sha256sum";

/// Where a program that a required check is stands in an image.
pub const CHECK: &str = "usr/lib/haosfs/check/required.d/own";

/// One that may be executed.
pub fn write_program(at: &Path, text: &str) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let _ = fs::remove_file(at);
    fs::write(at, text).unwrap();
    fs::set_permissions(at, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Has the first program of a tree start one more.
pub fn starts_besides(tree: &Path, command: &str) {
    let path = tree.join("etc/inittab");
    let inittab = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{inittab}::once:{command}\n")).unwrap();
}

/// The busybox system, told from the image, with changes.
pub fn update(into: &Path, change: impl FnOnce(&Path)) -> PathBuf {
    root::variant(into, |tree| {
        fs::write(tree.join("etc/issue"), format!("{NEW}\n")).unwrap();
        change(tree);
    })
}

/// Makes the tree of the update have its fate.
fn change(fate: Fate, tree: &Path) {
    let init = tree.join("sbin/init");
    let check = tree.join(CHECK);
    let guard = || starts_besides(tree, "/sbin/haosfs boot-guard");
    match fate {
        Fate::Good => {
            write_program(&check, "#!/bin/sh\ntest -e /etc/note\n");
            guard();
        }
        Fate::RedCheck => {
            write_program(&check, "#!/bin/sh\necho the application is not there\nexit 1\n");
            guard();
        }
        Fate::NoInit => [init, tree.join("bin/init")].into_iter().for_each(|init| fs::remove_file(init).unwrap()),
        Fate::Panic => write_program(&init, "#!/bin/sh\necho c > /proc/sysrq-trigger\n"),
        Fate::Hang => write_program(&init, "#!/bin/sh\nwhile :; do sleep 1000; done\n"),
        Fate::Truncated | Fate::PowerCut => {}
    }
}

/// A machine whose update is staged, and the hash of the generation in use.
fn staged(fate: Fate, kernel: &'static Kernel, joins: Joins, on: On) -> (Machine, String) {
    let dir = tempfile::tempdir().unwrap();
    let update = update(dir.path(), |tree| change(fate, tree));
    let machine = Machine::with_disk(kernel, joins, Disk::with_system(on.system, on.data, root::busybox(), RULES, Some(&update)));
    let then = match fate {
        Fate::Truncated => format!("truncate -s 100000 /haos/images/{}", image_name("2.0")),
        _ => String::new(),
    };
    let hash = stage(&machine, &then);
    (machine, hash)
}

/// Has the user's changes made, the update staged, and then this script run; returns the hash of the generation in use.
pub fn stage(machine: &Machine, then: &str) -> String {
    let mut guest = machine.boot();
    guest.sh(CHANGE);
    guest.sh(&format!("haosfs update stage /haos/incoming/{}", image_name("2.0")));
    guest.sh(then);
    guest.power_off();
    machine.disk.on_data(HASH)
}

/// It has this first line of /etc/issue, and the user's changes.
#[track_caller]
pub fn shows(guest: &mut Guest, issue: &str) {
    let text = guest.sh(&format!("head -n 1 /etc/issue && {CHANGED}"));
    assert_eq!(text, format!("{issue}\nmine\nmore\n700\n"), "{}", guest.console());
}

/// The update is not tried any more, and it is known why.
#[track_caller]
pub fn is_back(machine: &Machine, mut guest: Guest, hash: &str, why: &[&str]) {
    shows(&mut guest, OLD);
    let ini = guest.sh("cat /haos/haos.ini");
    assert!(ini.ends_with(RULES), "{ini}");
    let failed = format!("failed_image = {}", image_name("2.0"));
    assert!(ini.contains(&failed) && !ini.contains("update_image"), "{ini}");
    let reason = ini.lines().find_map(|line| line.strip_prefix("failed_reason = ")).unwrap_or_else(|| panic!("{ini}"));
    assert!(why.iter().any(|why| reason.contains(why)), "{reason}");
    let log = guest.sh(&format!("cat /haos/logs/{}-*.log", image_name("2.0")));
    assert!(log.contains("Linux version "), "the kernel's log from its beginning: {log}");
    println!("failed_reason = {reason}; {} lines of log, the last: {}", log.lines().count(), log.lines().last().unwrap());
    guest.power_off();
    assert_eq!(machine.disk.on_data(HASH), hash, "the old generation has changed");
}

/// Stages an update with this fate, and starts until it is decided.
pub fn tries(fate: Fate, kernel: &'static Kernel, joins: Joins, on: impl Into<On>, why: &[&str]) {
    let on = on.into();
    let (machine, hash) = staged(fate, kernel, joins, on);
    let guest = machine.start();
    match fate {
        Fate::Good => is_confirmed(&machine, guest),
        _ => is_back(&machine, until_decided(fate, &machine, guest), &hash, why),
    }
    if on.system == System::Fat {
        stands_on_fat(fate, &machine.disk);
    }
}

/// Starts until the update has failed; returns the machine when it takes scripts again.
fn until_decided(fate: Fate, machine: &Machine, mut guest: Guest) -> Guest {
    match fate {
        // The same start ends with the old image.
        Fate::Truncated | Fate::NoInit => _ = guest.until_ready(),
        Fate::Panic | Fate::Hang | Fate::RedCheck => {
            let (took, console) = guest.until_off();
            println!("{fate:?}: over after {took:.1?}");
            assert!(fate != Fate::Panic || console.contains("Kernel panic"), "{console}");
            guest = machine.start();
            guest.until_ready();
        }
        Fate::PowerCut => return cut(machine, guest),
        Fate::Good => panic!("a good update does not fail"),
    }
    guest
}

/// With the machine off, others find the same on the system partition.
#[track_caller]
fn stands_on_fat(fate: Fate, disk: &Disk) {
    let ini = disk.on_fat("/haos.ini");
    assert!(ini.ends_with(RULES), "{ini}");
    assert!(!ini.contains("update_image"), "{ini}");
    if fate == Fate::Good {
        assert!(ini.contains(&format!("system_image = {}\n", image_name("2.0"))), "{ini}");
    } else {
        assert!(ini.contains(&format!("failed_image = {}\n", image_name("2.0"))), "{ini}");
        let log = disk.on_fat(&format!("/logs/{}-*.log", image_name("2.0")));
        assert!(log.contains("Linux version "), "{log}");
    }
    disk.check_fat(!matches!(fate, Fate::PowerCut | Fate::Panic));
}

/// Waits until the update is not tried any more.
#[track_caller]
pub fn until_confirmed(guest: &mut Guest) {
    let end = Instant::now() + Duration::from_secs(60);
    while guest.run("grep -q update_image /haos/haos.ini").code == 0 {
        assert!(Instant::now() < end, "nobody confirms it: {}", guest.console());
    }
}

fn is_confirmed(machine: &Machine, mut guest: Guest) {
    guest.until_ready();
    until_confirmed(&mut guest);
    shows(&mut guest, NEW);
    guest.power_off();
    let mut guest = machine.boot();
    shows(&mut guest, NEW);
    let ini = guest.sh("cat /haos/haos.ini");
    assert!(ini.ends_with(RULES), "{ini}");
    for line in [format!("system_image = {}", image_name("2.0")), format!("previous_image = {}", image_name("1.0"))] {
        assert!(ini.contains(&line), "{ini}");
    }
    guest.power_off();
}

/// Pulls the plug at some moment. Where that comes before the attempt was counted, the next start is the trial, and it is cut, too.
fn cut(machine: &Machine, guest: Guest) -> Guest {
    let time = Duration::from_millis(fastrand::u64(1500..9000));
    std::thread::sleep(time);
    let console = guest.console();
    guest.cut();
    println!("cut after {time:?}: {}", console.lines().last().unwrap_or("nothing"));
    let mut guest = machine.boot();
    if guest.sh("head -n 1 /etc/issue").trim() == NEW {
        guest.cut();
        guest = machine.boot();
    }
    guest
}
