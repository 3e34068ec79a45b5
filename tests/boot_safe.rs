//! What `haosfs boot` does where not all is as it should be: safe mode, set-up, and mistakes that are none of the image's.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[path = "appliance/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "boot/power.rs"]
#[allow(dead_code)]
mod power;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use disk::Disk;
use haosfs::update::state::State;
use minisign::KeyPair;
use power::{Power, possible};
use serde_json::Value;

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// What a boot says.
fn said(text: &str) -> Value {
    serde_json::from_str(text.lines().next().unwrap()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn without_data_there_is_safe_mode() {
    if !possible("without_data_there_is_safe_mode") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    power.stage();
    power.on("$BOOT").succeeded();
    let tried = power.state();
    power.lose_data();
    for options in ["", "-o backend=fuse,ro"] {
        let safe = power.on(&format!(
            "$BOOT {options} && echo x >$MNT/new && cat $MNT/etc/version && cat $CONSOLE /run/haosfs/network.env && \
             $HAOSFS status && $HAOSFS update confirm --ini $INI; echo $?; $HAOSFS status --json"
        ));
        let text = &safe.stdout;
        assert_eq!(said(text)["mode"].as_str(), Some("safe"), "{safe:?}");
        assert!(text.contains(OLD) && text.contains("* haosfs: SAFE MODE: data_partition"), "{text}");
        assert!(text.contains("NETWORK_ADDRESS=\"192.0.2.7/24\"\n"), "{text}");
        assert!(text.contains("SAFE MODE  data_partition") && text.contains("on tmpfs (tmpfs)"), "{text}");
        assert!(text.contains("\n5\n") && safe.stderr.contains("not what is running"), "{safe:?}");
        let json: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(json["boot"]["mode"].as_str(), Some("safe"), "{text}");
    }
    assert_eq!(power.state(), tried, "an update is not to blame");
}

/// Images and data stand beside what a link leads to.
#[test]
fn a_link_to_haos_ini_is_followed_at_each_boot() {
    if !possible("a_link_to_haos_ini_is_followed_at_each_boot") {
        return;
    }
    let power = Power::with("ext4");
    fs::create_dir(power.machine.scratch.path("system/conf")).unwrap();
    std::os::unix::fs::symlink("../haos.ini", power.machine.scratch.path("system/conf/haos.ini")).unwrap();
    for turn in 0..2 {
        let booted = power.on("${BOOT%%--ini*} --ini $SYSTEM/conf/haos.ini --target $MNT --json --wait 0 && echo $MNT/*");
        assert_eq!(said(&booted.stdout)["mode"].as_str(), Some("system"), "{turn}: {booted:?}");
    }
    power.stage();
    let tried = power.on("${BOOT%%--ini*} --ini $SYSTEM/conf/haos.ini --target $MNT --json --wait 0");
    assert_eq!(said(&tried.stdout)["mode"].as_str(), Some("trial"), "{tried:?}");
}

#[test]
fn both_may_fail() {
    if !possible("both_may_fail") {
        return;
    }
    let power = Power::with("ext4");
    power.stage();
    power.truncate();
    // Its tables are sound, its data are not: only the newest that can be booted is left.
    fs::write(power.machine.image(OLD), "torn").unwrap();
    power.pack_another("7.0.9.0");
    let safe = power.on("$BOOT && cat $MNT/etc/version").succeeded().stdout;
    assert_eq!(said(&safe)["mode"].as_str(), Some("safe"), "{safe}");
    assert!(safe.ends_with("7.0.9.0"), "{safe}");
    assert!(
        matches!(power.state(), State::Trying { left: 2, tried: 1, .. }),
        "an update is not decided by that: {:?}",
        power.state()
    );
    fs::remove_file(power.machine.image("7.0.9.0")).unwrap();
    let none = power.on("$BOOT");
    assert_eq!((none.code, none.stdout.as_str()), (Some(32), ""), "{none:?}");
    let words = "SAFE MODE";
    assert!(!none.stderr.contains(words) && none.stderr.lines().count() == 1, "{none:?}");
}

/// What an attempt has written is there at the next one, though the good image was mounted in between and could not be booted.
#[test]
fn a_trial_goes_on_with_what_it_had() {
    if !possible("a_trial_goes_on_with_what_it_had") {
        return;
    }
    for backend in ["kernel", "fuse"] {
        let power = Power::with("ext4");
        let boot = format!("$BOOT -o backend={backend}");
        power.on(&format!("{boot} && echo one >$MNT/mine && $HAOSFS umount $MNT")).succeeded();
        power.stage();
        power.on(&format!("{boot} && echo two >$MNT/mine && sync")).succeeded();
        let neither = power.on(&format!("{boot} --init /none")).succeeded().stdout;
        assert!(said(&neither)["mode"].as_str() == Some("safe") && neither.contains("looked for /none"), "{neither}");
        assert!(matches!(power.state(), State::Trying { left: 1, tried: 2, .. }), "{:?}", power.state());
        let again = power.on(&format!("{boot} && cat $MNT/mine")).succeeded().stdout;
        assert!(said(&again)["mode"].as_str() == Some("trial") && again.ends_with("\ntwo\n"), "{backend}: {again}");
    }
}

#[test]
fn nothing_configured_is_set_up_and_a_torn_file_is_not() {
    if !possible("nothing_configured_is_set_up_and_a_torn_file_is_not") {
        return;
    }
    let power = Power::with("ext4");
    let ini = power.machine.ini();
    let sound = fs::read_to_string(&ini).unwrap();
    fs::remove_file(&ini).unwrap();
    let setup = power.on("$BOOT && cat $MNT/etc/version && echo x >$MNT/etc/x").succeeded().stdout;
    assert_eq!((said(&setup)["mode"].as_str(), setup.lines().nth(1)), (Some("setup"), Some(NEW)), "{setup}");
    fs::write(&ini, "").unwrap();
    fs::write(ini.with_extension("ini.bak"), &sound).unwrap();
    let safe = power.on("$BOOT && cat $MNT/etc/version && cat /run/haosfs/network.env").succeeded().stdout;
    assert_eq!(said(&safe)["mode"].as_str(), Some("safe"), "{safe}");
    assert!(safe.contains(OLD) && safe.contains("NETWORK_ADDRESS="), "the backup says which: {safe}");
}

/// What is tried, or has failed, is the last that safe mode takes, and not at all where it must be signed.
#[test]
fn safe_mode_trusts_what_has_proven_itself() {
    if !possible("safe_mode_trusts_what_has_proven_itself") {
        return;
    }
    let power = Power::with("ext4");
    power.pack_another("7.0.9.0");
    power.stage();
    fs::remove_file(power.machine.image(OLD)).unwrap();
    power.lose_data();
    let safe = power.on("$BOOT && cat $MNT/etc/version").succeeded().stdout;
    assert!(said(&safe)["mode"].as_str() == Some("safe") && safe.ends_with("7.0.9.0"), "{safe}");
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    power.add_to_ini(&format!("[update]\npublic_key = {}\n", keys.pk.to_base64()));
    let none = power.on("$BOOT");
    assert!(none.code == Some(32) && none.stderr.contains("is not signed"), "{none:?}");
}

/// A mistake in the rules of updates, or counts that cannot be read, are told of, and no update is tried by them.
#[test]
fn mistakes_keep_nobody_from_the_good_image() {
    if !possible("mistakes_keep_nobody_from_the_good_image") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    power.stage();
    let sound = fs::read_to_string(power.machine.ini()).unwrap();
    fs::remove_file(power.machine.ini().with_extension("ini.bak")).unwrap();
    let counts = power.machine.scratch.path("system/trial");
    for (rules, why) in [("tries = many\n", "tries: many: expected"), ("deadline = 5\n", "deadline: 5: expected"), ("", "trial")]
    {
        fs::write(power.machine.ini(), format!("{sound}[update]\n{rules}")).unwrap();
        if rules.is_empty() {
            fs::remove_dir_all(&counts).unwrap();
            fs::write(&counts, "in the way").unwrap();
        }
        let boot = power.on("$BOOT && cat $MNT/etc/version $MNT/mine $KMSG && : >$KMSG").succeeded().stdout;
        assert_eq!(said(&boot)["mode"].as_str(), Some("system"), "{boot}");
        assert!(boot.contains(&format!("\n{OLD}one\n")) && boot.contains("no update is tried") && boot.contains(why), "{boot}");
    }
    // A root of which nothing can be said is one.
    assert_eq!(power.on("$BOOT >/dev/full && test -e $MNT/etc/version").code, Some(0));
}

/// The kernel mounts it all the same, and nobody sees it afterwards.
#[test]
fn the_data_partition_is_checked() {
    if !possible("the_data_partition_is_checked") {
        return;
    }
    let power = Power::with("ext4");
    let data = power.machine.disk.partition(2);
    // "Errors detected", and a count that is wrong.
    for order in ["set_super_value state 2", "set_super_value free_blocks_count 7"] {
        disk::run(Command::new("debugfs").args(["-w", "-R", order]).arg(&data));
    }
    let boot = |options: &str| {
        power.on(&format!("PATH=$PATH:/sbin:/usr/sbin $BOOT {options} && cat $KMSG && $HAOSFS umount $MNT")).succeeded().stdout
    };
    let seen = boot("-o ro");
    assert!(said(&seen)["mode"].as_str() == Some("system") && !seen.contains("fsck.ext4"), "nothing shall be written: {seen}");
    let seen = boot("");
    assert!(said(&seen)["mode"].as_str() == Some("system") && seen.contains("fsck.ext4: exit status: 1: "), "{seen}");
    assert!(disk::run(Command::new("dumpe2fs").arg("-h").arg(&data)).contains("Filesystem state:         clean\n"));
    // Without that program it is booted all the same.
    assert_eq!(said(&power.on("PATH=/nowhere $BOOT").succeeded().stdout)["mode"].as_str(), Some("system"));
}

/// Whoever only looks has nothing tried, nothing counted, and nothing written but what a driver must: the data partition stays as it is, bit
/// by bit, and one that can only be read will do.
#[test]
fn a_boot_that_only_looks_changes_nothing() {
    if !possible("a_boot_that_only_looks_changes_nothing") {
        return;
    }
    let power = Power::with("ext4");
    let (data, before) = (power.machine.disk.partition(2), power.machine.scratch.path("before"));
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    let looks = |case: &str, shown: &str| {
        let state = power.state();
        for access in ["--setro", "--setrw"] {
            // What the last boot had is free a moment after its end.
            power.machine.assert_nothing_is_left();
            disk::run(Command::new("blockdev").arg(access).arg(&data));
            disk::run(Command::new("cp").arg("--sparse=always").arg(&data).arg(&before));
            let seen =
                power.on("$BOOT -o ro && cat $MNT/etc/version $MNT/mine && ! touch $MNT/new 2>$CONSOLE && $HAOSFS umount $MNT");
            assert_eq!(said(&seen.stdout)["mode"].as_str(), Some("system"), "{case}, {access}: {seen:?}");
            assert!(seen.code == Some(0) && seen.stdout.ends_with(shown), "{case}, {access}: {seen:?}");
            power.machine.assert_nothing_is_left();
            disk::run(Command::new("cmp").arg(&before).arg(&data));
            assert_eq!(power.state(), state, "{case}, {access}");
        }
    };
    let old = format!("{OLD}one\n");
    looks("stable", &old);
    power.stage();
    looks("staged", &old);
    power.on("$BOOT && echo two >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    assert!(matches!(power.state(), State::Trying { left: 2, tried: 1, .. }), "{:?}", power.state());
    looks("trying", &old);
    // Power failed while it was confirmed, before its upper came into use.
    let ini = fs::read_to_string(power.machine.ini()).unwrap();
    power.machine.configure(&format!("{{{}}},fs=ext4", power.machine.guid), NEW);
    looks("confirmed", &format!("{NEW}two\n"));
    fs::write(power.machine.ini(), ini).unwrap();
    power.on("$BOOT && $HAOSFS umount $MNT && $HAOSFS update fail --reason 'it is red' --ini $INI 2>$CONSOLE").succeeded();
    looks("rolled back", &old);
}

/// A file system that spans two disks is there when both are, and udev, which would tell the kernel of them, does not run everywhere.
#[test]
fn a_second_disk_is_waited_for() {
    let test = "a_second_disk_is_waited_for";
    if !possible(test) || !support::can_run(test, support::has_tool("btrfs"), "needs btrfs") {
        return;
    }
    let power = Power::with("btrfs");
    let (one, file) = (power.machine.disk.partition(2), power.machine.scratch.path("second"));
    File::create(&file).unwrap().set_len(200 << 20).unwrap();
    let forget = |device: &Path| drop(disk::run(Command::new("btrfs").args(["device", "scan", "--forget"]).arg(device)));
    let two = Disk::new(&file, 0);
    disk::make("mkfs.btrfs", &["-q", "-f", "-m", "raid1", "-d", "single", two.device.to_str().unwrap()], &one);
    [&one, &two.device].into_iter().for_each(|device| forget(device));
    drop(two);
    for mode in ["system", "trial"] {
        let seen = power.on("$BOOT").stdout;
        assert_eq!(said(&seen)["mode"].as_str(), Some("safe"), "{seen}");
        let (seen, two) = std::thread::scope(|scope| {
            let later = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1500));
                Disk::new(&file, 0)
            });
            (power.on("${BOOT%0}20 && $HAOSFS umount $MNT"), later.join().unwrap())
        });
        assert_eq!(said(&seen.stdout)["mode"].as_str(), Some(mode), "{seen:?}");
        [&one, &two.device].into_iter().for_each(|device| forget(device));
        power.stage();
    }
}

/// Images may lie on partitions, to which udev makes the links in any order.
#[test]
fn images_on_devices_are_waited_for() {
    if !possible("images_on_devices_are_waited_for") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    let [a, b] = [OLD, NEW].map(|version| Disk::new(&power.machine.image(version), 0));
    let ini = fs::read_to_string(power.machine.ini()).unwrap();
    let keep = ini.lines().filter(|line| !line.starts_with("system_image"));
    let rest =
        keep.collect::<Vec<_>>().join("\n").replace("[haos]", "[haos]\nsystem_image = /dev/shm/A\nupdate_image = /dev/shm/B");
    let link = |name: &str, to: &Disk| format!("ln -s {} /dev/shm/{name}", to.device.display());
    let (old, new) = (link("A", &a), link("B", &b));
    let late = |first: &str, then: &str, wait: u32| {
        fs::write(power.machine.ini(), &rest).unwrap();
        power.on(&format!(
            "mount -t tmpfs none /dev/shm && {first}; (sleep 1.5; {then}) & \
             ${{BOOT%0}}{wait} && cat $MNT/etc/version $MNT/mine && $HAOSFS umount $MNT; rm -r $SYSTEM/trial"
        ))
    };
    for (first, then) in [(&old, &new), (&new, &old)] {
        let seen = late(first, then, 60);
        assert_eq!(said(&seen.stdout)["mode"].as_str(), Some("trial"), "{then}: {seen:?}");
        assert!(seen.stdout.ends_with(&format!("{NEW}one\n")), "{then}: {seen:?}");
    }
    // One that never comes is left for the good one when the time is over.
    let seen = late(&old, "true", 1);
    assert_eq!(said(&seen.stdout)["mode"].as_str(), Some("system"), "{seen:?}");
    assert!(said(&seen.stdout)["why"].as_str().unwrap().contains("/dev/shm/B is not there"), "{seen:?}");
}

/// What was mistaken on the kernel's command line is left out, and what keeps the good image from being mounted does not count in safe mode.
#[test]
fn a_mistaken_command_line_keeps_nobody_from_a_root() {
    if !possible("a_mistaken_command_line_keeps_nobody_from_a_root") {
        return;
    }
    let power = Power::with("ext4");
    for (boot, mode, words) in [
        ("$BOOT -o sparkle,noatime,threads=0", "system", "unknown option sparkle"),
        ("$BOOT -o-x,threads=0,noatime", "system", "option threads=0: expected a number from 1 to 256; it is left out"),
        ("${BOOT%0}soon -o noatime", "system", "--wait soon: expected a number"),
        ("$BOOT -o metacopy=on,noatime", "safe", "option metacopy=on: "),
        ("$BOOT -o backend=kernel,uid=7", "safe", "backend=kernel"),
        ("$BOOT --init /nowhere/init", "safe", "/nowhere/init"),
    ] {
        let seen = power.on(&format!(": >$KMSG && {boot} && grep \"$MNT\" /proc/mounts && cat $KMSG")).succeeded().stdout;
        assert_eq!((said(&seen)["mode"].as_str(), said(&seen)["init"].as_str()), (Some(mode), Some("/sbin/init")), "{seen}");
        assert!(seen.contains(words), "{words:?} not in {seen}");
        let mount = seen.lines().nth(1).unwrap();
        assert_eq!(mount.contains(" rw,noatime,"), mode == "system", "the rest holds, in safe mode nothing does: {mount}");
    }
}
