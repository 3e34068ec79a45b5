//! `haosfs boot` on a machine with a disk, in namespaces of its own: each way that a boot can go.

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

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::process::Command;

use haosfs::update::signature::{Manifest, paths};
use haosfs::update::state::State;
use minisign::KeyPair;
use power::{Power, possible};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tree::compare::{Tolerance, assert_same};

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// What a boot says.
fn said(text: &str) -> Value {
    serde_json::from_str(text.lines().next().unwrap()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_system_boots_with_its_upper() {
    if !possible("a_system_boots_with_its_upper") {
        return;
    }
    for backend in ["kernel", "hybrid", "fuse"] {
        let power = Power::with("ext4");
        let boot = format!("$BOOT -o backend={backend} && cat $MNT/etc/version && echo x >$MNT/mine && $HAOSFS umount $MNT");
        let first = power.on(&boot).succeeded().stdout;
        assert_eq!((said(&first)["mode"].as_str(), first.lines().nth(1)), (Some("system"), Some(OLD)), "{first}");
        assert_eq!(said(&first)["init"].as_str(), Some("/sbin/init"));
        // One of an earlier program, which everybody can lock.
        let trial = power.machine.ini().with_file_name("trial");
        fs::DirBuilder::new().mode(0o755).create(&trial).unwrap();
        let second = power.on("$BOOT && cat $MNT/mine && cat /run/haosfs/boot.env").succeeded().stdout;
        assert!(second.contains("\nx\n") && second.contains("HAOSFS_MODE=\"system\"\n"), "{second}");
        assert_eq!(fs::metadata(&trial).unwrap().mode() & 0o777, 0o700, "nobody else opens it from then on");
    }
}

#[test]
fn an_update_is_tried_and_confirmed() {
    if !possible("an_update_is_tried_and_confirmed") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    power.stage();
    let tried = power.on("$BOOT && cat $MNT/etc/version $MNT/mine && echo two >$MNT/mine").succeeded().stdout;
    assert_eq!(said(&tried)["mode"].as_str(), Some("trial"), "{tried}");
    assert!(tried.ends_with(&format!("{NEW}one\n")), "{tried}");
    // It is cut off, and tried again on what it had.
    let again = power.on("$BOOT && cat $MNT/mine && $HAOSFS update confirm --ini $INI").succeeded().stdout;
    assert!(again.contains("\ntwo\n"), "{again}");
    let next = power.on("$BOOT && cat $MNT/etc/version $MNT/mine").succeeded().stdout;
    assert_eq!(said(&next)["mode"].as_str(), Some("system"), "{next}");
    assert!(next.ends_with(&format!("{NEW}two\n")), "{next}");
}

/// A trial fails in the same boot, and leaves the old upper as it was.
#[test]
fn what_cannot_be_booted_is_left_at_once() {
    if !possible("what_cannot_be_booted_is_left_at_once") {
        return;
    }
    for (harm, why) in [
        (Power::truncate as fn(&Power), "superblock"),
        (Power::pack_without_init, "it has no init"),
        (Power::pack_with_plain_init, "/sbin/init: it is not executable"),
    ] {
        let power = Power::with("ext4");
        power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
        let before = power.upper(1);
        power.stage();
        harm(&power);
        let boot = power.on("$BOOT && cat $MNT/etc/version $MNT/mine && cat $CONSOLE").succeeded().stdout;
        assert_eq!(said(&boot)["mode"].as_str(), Some("system"), "{boot}");
        assert!(said(&boot)["why"].as_str().unwrap().contains(why), "{boot}");
        assert!(boot.contains(&format!("{OLD}one\n")) && boot.contains("has failed"), "{boot}");
        assert!(matches!(power.state(), State::RolledBack { .. }), "{:?}", power.state());
        assert_same("rolled back", &before, &power.upper(1), Tolerance::default());
        assert!(!power.machine.on_data(|data| data.join("haosfs/uppers/2").exists()));
    }
}

#[test]
fn an_image_that_is_never_confirmed_has_three_attempts() {
    if !possible("an_image_that_is_never_confirmed_has_three_attempts") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    power.stage();
    for _ in 0..3 {
        assert_eq!(said(&power.on("$BOOT && echo lost >$MNT/mine").succeeded().stdout)["mode"].as_str(), Some("trial"));
    }
    let back = power.on("$BOOT && cat $MNT/mine").succeeded().stdout;
    assert!(said(&back)["why"].as_str().unwrap().contains("none of 3 attempts"), "{back}");
    assert!(back.ends_with("\none\n"), "{back}");
}

/// The first boot of a machine may be a trial already.
#[test]
fn a_new_machine_goes_back_to_an_upper_of_the_good_image() {
    if !possible("a_new_machine_goes_back_to_an_upper_of_the_good_image") {
        return;
    }
    let power = Power::with("ext4");
    power.stage();
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS update fail --reason x --ini $INI 2>/dev/null").succeeded();
    let back = power.on("$BOOT && cat $MNT/etc/version && ls $MNT").succeeded().stdout;
    assert!(back.contains(OLD) && !back.contains("mine"), "{back}");
}

/// A system partition that cannot be written cannot count.
#[test]
fn what_cannot_be_counted_is_not_tried() {
    if !possible("what_cannot_be_counted_is_not_tried") {
        return;
    }
    let power = Power::with("ext4");
    power.stage();
    let boot = power.on("mount -o remount,ro $SYSTEM && $BOOT && cat $MNT/etc/version; mount -o remount,rw $SYSTEM");
    assert!(boot.stdout.contains("\"mode\":\"system\"") && boot.stdout.ends_with(OLD), "{boot:?}");
}

/// An initramfs moves /proc to the new root. The daemon needs it for extended attributes.
#[test]
fn the_daemon_lives_without_proc() {
    if !possible("the_daemon_lives_without_proc") {
        return;
    }
    let power = Power::with("ext4");
    let away = "$BOOT -o backend=fuse && mount --move /proc $MNT/proc && mount -t tmpfs none /proc && \
                rm -r $MNT/etc && mkdir $MNT/etc && echo new >$MNT/etc/new && chmod 700 $MNT/sbin && ls -A $MNT/etc && \
                setpriv --reuid 7 --regid 7 --groups 8,9 stat $MNT/sbin >/dev/null && cat $MNT/proc/[2-9]*/cmdline";
    let seen = power.on(away).succeeded().stdout;
    assert!(seen.contains("\nnew\n") && seen.contains("@haosfs\0boot\0"), "{seen}");
    assert!(power.machine.on_data(|data| data.join("haosfs/uppers/1/upper/etc/new").exists()));
}

/// An init that ends every process (killall5(8)) needs its root to go on.
#[test]
fn a_root_outlives_the_signal_to_end() {
    if !possible("a_root_outlives_the_signal_to_end") {
        return;
    }
    let power = Power::with("ext4");
    for backend in ["hybrid", "fuse"] {
        let script = format!(
            "$BOOT -o backend={backend} && trap '' TERM && echo x >$MNT/mine && kill -TERM -1; \
             for n in $(seq 300); do grep -q SIGTERM $KMSG && break; sleep 0.1; done; cat $MNT/mine && cat $KMSG && $HAOSFS umount $MNT && echo gone"
        );
        let seen = power.on(&script).succeeded().stdout;
        assert!(seen.contains("\nx\n") && seen.contains("SIGTERM") && seen.ends_with("\ngone\n"), "{seen}");
    }
}

/// Each attempt has its log, which says how it ended, whoever ended it.
#[test]
fn trials_have_logs() {
    if !possible("trials_have_logs") {
        return;
    }
    let power = Power::with("ext4");
    power.stage();
    let early = "echo '6,0,1000001,-;before' >>/dev/kmsg && $BOOT && cat $SYSTEM/logs/*.log";
    let told = "for n in $(seq 300); do grep -q hello $SYSTEM/logs/*.log && break; sleep 0.1; done";
    let shown = power.on(&format!("{early} && sleep 1.5 && echo '6,1,2000003,-;hello' >>/dev/kmsg && {told}")).succeeded().stdout;
    assert!(shown.contains("before\n"), "on the disk before anything of the image runs: {shown}");
    let first = power.log(1);
    assert!(first.starts_with(&format!("== haosfs: haos-x86_64_{NEW}.squashfs, attempt 1, 2 more\n")), "{first}");
    assert!(first.contains("hello\n") && first.contains("mounted source") && !first.contains("ended"), "{first}");
    // Power was cut. This time it is too late, by the kernel's own words.
    let dump = "mount -t tmpfs none /sys/fs/pstore && echo Oops >/sys/fs/pstore/dmesg-efi-1 && $BOOT && ls /sys/fs/pstore && \
                $HAOSFS update fail --reason 'it is red' --ini $INI 2>/dev/null && \
                for n in $(seq 300); do pgrep -f 'haosfs[ ]boot' >/dev/null || break; sleep 0.1; done; ls /proc | grep -c '^[0-9]'";
    let failed = power.on(dump).succeeded().stdout;
    assert!(failed.ends_with("\n3\n"), "sh, ls, grep and nothing else: {failed}");
    assert!(!failed.contains("dmesg"), "it is told of once: {failed}");
    assert!(power.log(1).contains("dmesg-efi-1 says:\nOops\n"), "{}", power.log(1));
    assert!(power.log(1).ends_with("== haosfs: ended: it was cut off: power failed, or the machine stopped or was reset\n"));
    assert!(power.log(2).ends_with("== haosfs: ended: it is red\n"), "{}", power.log(2));
    let status = power.on("$BOOT >/dev/null && $HAOSFS update status --json --ini $INI").succeeded().stdout;
    assert!(said(&status)["failed_log"].as_str().unwrap().ends_with("squashfs-2.log"), "{status}");
    power.stage();
    power.on("$BOOT && $HAOSFS update confirm --ini $INI").succeeded();
    assert!(power.log(1).ends_with("== haosfs: ended: it was confirmed\n"), "{}", power.log(1));
    assert!(!power.log_path(2).exists());
}

/// Without a log there is a deadline all the same.
#[test]
fn a_trial_without_a_log_is_stood_by() {
    if !possible("a_trial_without_a_log_is_stood_by") {
        return;
    }
    let power = Power::with("ext4");
    power.stage();
    fs::write(power.machine.scratch.path("system/logs"), "in the way").unwrap();
    let stands_by = "pgrep -c -f 'haosfs[ ]boot'";
    let ends = format!("for n in $(seq 300); do {stands_by} >/dev/null || break; sleep 0.1; done");
    let confirm = "$HAOSFS update confirm --ini $INI >$CONSOLE";
    let seen = power.on(&format!("$BOOT && {stands_by}; {confirm}; {ends}; {stands_by}; true"));
    let seen = seen.succeeded();
    assert_eq!(said(&seen.stdout)["mode"].as_str(), Some("trial"), "{seen:?}");
    assert!(seen.stdout.ends_with("\n1\n0\n"), "{seen:?}");
}

/// A system that hangs politely ends, and so do its attempts.
#[test]
fn nobody_waits_for_ever() {
    if !possible("nobody_waits_for_ever") {
        return;
    }
    let power = Power::with("ext4");
    power.add_to_ini("[update]\ndeadline = 10\n");
    power.stage();
    let begun = std::time::Instant::now();
    let ended = power.on("$BOOT -o backend=fuse && kill -STOP $(pgrep -n -f ^@haosfs) && sleep 100");
    assert!(ended.code.is_none_or(|code| code != 0), "{ended:?}");
    assert!((10..60).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(power.log(1).ends_with("== haosfs: ended: it was not confirmed within 10 s\n"), "{}", power.log(1));
    let console = fs::read_to_string(power.machine.scratch.path("console")).unwrap();
    assert!(console.contains("the machine is started anew"), "{console}");
    let back = power.on("$BOOT && cat $MNT/etc/version").succeeded().stdout;
    assert!(back.ends_with(OLD), "{back}");
}

/// Nor does a boot that waits for its disk keep anybody from ending it; and nothing is decided by that.
#[test]
fn a_boot_that_waits_can_be_asked_to_end() {
    let scratch = support::Scratch::new();
    let (ini, target) = (scratch.path("haos.ini"), scratch.path("target"));
    fs::create_dir(&target).unwrap();
    let text = "[haos]\ndata_partition = LABEL=there is none\nsystem_image = old.squashfs\nupdate_image = new.squashfs\n";
    fs::write(&ini, text).unwrap();
    let mut boot = Command::new(env!("CARGO_BIN_EXE_haosfs"));
    let mut boot = boot.args(["boot", "--wait", "60", "--ini"]).arg(&ini).arg("--target").arg(&target).spawn().unwrap();
    let begun = std::time::Instant::now();
    // It takes signals when it likes from then on.
    support::wait_until("signals are blocked", || {
        let status = fs::read_to_string(format!("/proc/{}/status", boot.id())).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(blocked.trim(), 16).unwrap() & (1 << (libc::SIGTERM - 1)) != 0
    });
    kill_process(Pid::from_child(&boot), Signal::TERM).unwrap();
    assert_eq!(boot.wait().unwrap().code(), Some(8));
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    assert_eq!(fs::read_to_string(&ini).unwrap(), text);
    assert!(!scratch.path("trial").exists());
}

/// Where haos.ini asks for signatures, an image is checked again before it is tried.
#[test]
fn what_was_not_signed_is_not_tried() {
    if !possible("what_was_not_signed_is_not_tried") {
        return;
    }
    let power = Power::with("ext4");
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    power.add_to_ini(&format!("[update]\npublic_key = {}\n", keys.pk.to_base64()));
    let image = power.machine.image(NEW);
    let bytes = fs::read(&image).unwrap();
    let name = image.file_name().unwrap().to_owned();
    let manifest = Manifest { name, size: bytes.len() as u64, sha256: Sha256::digest(&bytes).into() }.text();
    let [beside, signature] = paths(&image);
    fs::write(beside, &manifest).unwrap();
    fs::write(&signature, minisign::sign(None, &keys.sk, manifest.as_bytes(), None, None).unwrap().into_string()).unwrap();
    power.stage();
    assert_eq!(said(&power.on("$BOOT").succeeded().stdout)["mode"].as_str(), Some("trial"));
    // One byte of it changes, of which its tables say nothing.
    let mut other = bytes.clone();
    other[100] ^= 1;
    fs::write(&image, &other).unwrap();
    let back = power.on("$BOOT && cat $MNT/etc/version").succeeded().stdout;
    assert!(said(&back)["why"].as_str().unwrap().contains("its manifest says") && back.ends_with(OLD), "{back}");
    fs::write(&image, &bytes).unwrap();
    power.stage();
    fs::remove_file(signature).unwrap();
    let back = power.on("$BOOT").succeeded().stdout;
    assert!(said(&back)["why"].as_str().unwrap().contains("is not signed"), "{back}");
}

/// A full data partition is no reason for another root: somebody has to make room there.
#[test]
fn a_full_data_partition_is_booted() {
    if !possible("a_full_data_partition_is_booted") {
        return;
    }
    for (fs_name, backend) in [("ext4", "kernel"), ("btrfs", "fuse")] {
        let power = Power::with(fs_name);
        power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
        // Whoever runs on it fills it again.
        for turn in 0..2 {
            power.machine.on_data(|data| {
            let fill =
                "cat /dev/zero >big; for n in $(seq 2000); do echo $n >small.$n || break; done; cat /dev/zero >>small.1; sync";
            let filled = std::process::Command::new("sh").args(["-c", fill]).current_dir(data).output().unwrap();
            assert!(String::from_utf8_lossy(&filled.stderr).contains("No space left"), "{filled:?}");
        });
            let full = power.on(&format!("$BOOT -o backend={backend} && cat $MNT/mine && echo two >$MNT/sbin/x; cat $CONSOLE"));
            assert!(
                full.stdout.contains("\"mode\":\"system\"") && full.stdout.contains("\none\n"),
                "{fs_name}, {turn}: {full:?}"
            );
            let kept = |data: &std::path::Path| fs::metadata(data.join("haosfs/ballast")).unwrap().len();
            assert!(power.machine.on_data(kept) >= 128 << 10, "{fs_name}, {turn}");
        }
        power.machine.on_data(|data| {
            std::process::Command::new("sh").args(["-c", "rm -f big small.*"]).current_dir(data).status().unwrap();
        });
        // btrfs frees it when it likes.
        support::wait_until("there is room again, and some of it is kept", || {
            power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
            power.machine.on_data(|data| fs::metadata(data.join("haosfs/ballast")).is_ok_and(|kept| kept.len() == 1 << 20))
        });
    }
}

/// With the old root gone, the daemon has no path that would not lead to itself.
#[test]
fn the_root_can_be_pivoted_to() {
    let programs = ["/bin/sh", "/bin/umount", "/bin/mkdir", "/bin/rm", "/bin/chmod", "/bin/sleep"];
    let found = programs.iter().all(|program| fs::exists(program).unwrap()) && support::has_tool("ldd");
    let test = "the_root_can_be_pivoted_to";
    if !possible(test) || !support::can_run(test, found, "needs ldd and the programs of an ordinary system") {
        return;
    }
    for backend in ["kernel", "hybrid", "fuse"] {
        let power = Power::with("ext4");
        power.pack_to_live_in(&programs);
        let lived = "umount -l /old && rm -r /etc && mkdir /etc && echo new >/etc/new && echo y >>/big && chmod 700 /sbin && \
                     trap : TERM && for n in 1 2 3 4 5 6 7 8 9 10 11 12 13; do kill -TERM -1; done; sleep 0.5; echo lived";
        let script = format!(
            "$BOOT -o backend={backend} && mount --move /proc $MNT/proc && cd $MNT && pivot_root . old && \
             exec /bin/sh -c '{lived}'"
        );
        let seen = power.on(&script);
        assert!(seen.stdout.ends_with("\nlived\n"), "{backend}: {seen:?}");
        let found = power.machine.on_data(|data| {
            let upper = data.join("haosfs/uppers/1/upper");
            (fs::read_to_string(upper.join("etc/new")).unwrap(), fs::metadata(upper.join("big")).unwrap().len())
        });
        assert_eq!(found, ("new\n".to_owned(), (20 << 20) + 2), "{backend}");
        let log = fs::read_to_string(power.machine.scratch.path("kmsg")).unwrap();
        assert!(backend == "kernel" || log.contains("SIGTERM"), "{backend}: {log}");
    }
}
