//! `haosfs rauc-backend`: its answers, and what Debian's RAUC makes of them.

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
use std::os::unix::fs::{PermissionsExt, symlink};

use haosfs::update::signature::{Manifest, paths};
use haosfs::update::state::State;
use minisign::KeyPair;
use power::{Power, possible};
use sha2::{Digest, Sha256};
use support::{HAOSFS, can_run, has_tool};

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// Slots A and B are the older and the newer image. `$RAUC` is the backend.
fn slots() -> Power {
    let power = Power::with("ext4");
    let name = |version| power.machine.image(version).file_name().unwrap().to_str().unwrap().to_owned();
    power.add_to_ini(&format!("[rauc]\nA = {}\nB = {}\n", name(OLD), name(NEW)));
    power
}

const BACKEND: &str = "RAUC=\"$HAOSFS rauc-backend --ini $INI\"\n";

/// What the backend says to these calls, one after the other; `-` where it fails.
fn said(power: &Power, calls: &[&str]) -> Vec<String> {
    let script: String = calls.iter().map(|call| format!("$RAUC {call} 2>/dev/null || echo -\n")).collect();
    power.on(&format!("{BACKEND}{script}")).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn slots_are_images() {
    if !possible("slots_are_images") {
        return;
    }
    let power = slots();
    assert_eq!(said(&power, &["get-primary", "get-state A", "get-state B", "get-state C"]), ["A", "good", "good", "-"]);
    // What an installation does before and after it writes.
    assert_eq!(said(&power, &["set-state B bad", "get-state B", "get-primary"]), ["bad", "A"]);
    assert_eq!(said(&power, &["set-primary B", "get-state B", "get-primary", "set-primary B"]), ["good", "B"]);
    assert!(matches!(power.state(), State::Staged { .. }), "{:?}", power.state());
    assert_eq!(said(&power, &["set-state B good", "get-current"]), ["-"], "it was not booted");
    assert!(matches!(power.state(), State::Staged { .. }), "{:?}", power.state());
    let booted = power.on(&format!("{BACKEND}$BOOT && $RAUC get-current && $RAUC set-state A bad; $RAUC set-state B good"));
    assert!(
        booted.stdout.ends_with("\nB\n") && booted.stderr.contains("cannot be marked bad") && booted.code == Some(0),
        "{booted:?}"
    );
    assert!(matches!(power.state(), State::Stable { .. }), "{:?}", power.state());
    // Going back, and being called bad while running.
    assert_eq!(said(&power, &["get-primary", "set-primary A", "get-primary", "set-primary B", "get-primary"]), ["B", "A", "B"]);
    assert_eq!(
        said(&power, &["set-state B bad", "get-primary", "get-state B", "set-state B good", "get-state B"]),
        ["A", "bad", "good"]
    );
    assert_eq!(said(&power, &["set-state A bad"]), ["-"], "nothing else is left");
}

#[test]
fn what_cannot_be_opened_is_bad() {
    if !possible("what_cannot_be_opened_is_bad") {
        return;
    }
    let power = slots();
    power.truncate();
    assert_eq!(said(&power, &["get-state B", "set-primary B", "get-primary"]), ["bad", "-", "A"]);
    fs::remove_file(power.machine.image(NEW)).unwrap();
    assert_eq!(said(&power, &["get-state B", "set-primary B", "get-primary"]), ["bad", "-", "A"]);
}

/// Of two attempts the second is the last: then the good image comes next.
#[test]
fn the_primary_is_what_is_booted_next() {
    if !possible("the_primary_is_what_is_booted_next") {
        return;
    }
    let power = slots();
    power.add_to_ini("[update]\ntries = 2\n");
    assert_eq!(said(&power, &["set-primary B", "get-primary"]), ["B"]);
    power.on("$BOOT").succeeded();
    assert_eq!(said(&power, &["get-primary"]), ["B"]);
    power.on("$BOOT").succeeded();
    assert_eq!(said(&power, &["get-primary"]), ["A"]);
    power.on("$BOOT").succeeded();
    assert!(matches!(power.state(), State::RolledBack { .. }), "{:?}", power.state());
    assert_eq!(said(&power, &["get-primary", "get-state B", "set-state other bad", "set-state B bad"]), ["A", "bad", "-"]);
}

/// An image that was written to a slot is as large as the slot, and signed beside haos.ini.
#[test]
fn what_is_written_to_a_device_is_signed() {
    if !possible("what_is_written_to_a_device_is_signed") {
        return;
    }
    let power = Power::with("ext4");
    let image = fs::read(power.machine.image(NEW)).unwrap();
    let written = power.machine.scratch.path("written");
    fs::write(&written, [&image[..], &vec![7; 3 << 20]].concat()).unwrap();
    let disk = disk::Disk::new(&written, 0);
    let name = disk.device.file_name().unwrap().to_str().unwrap().to_owned();
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    let old = power.machine.image(OLD).file_name().unwrap().to_str().unwrap().to_owned();
    let key = keys.pk.to_base64();
    power.add_to_ini(&format!("[rauc]\nA = {old}\nB = {}\n[update]\npublic_key = {key}\n", disk.device.display()));
    assert_eq!(said(&power, &["set-primary B", "get-primary"]), ["-", "A"], "it is not signed");
    let [manifest, signature] = paths(&power.machine.ini().with_file_name(&name));
    let sign = |size: u64, digest: [u8; 32]| {
        let text = Manifest { name: "system.img".into(), size, sha256: digest }.text();
        fs::write(&manifest, &text).unwrap();
        fs::write(&signature, minisign::sign(None, &keys.sk, text.as_bytes(), None, None).unwrap().into_string()).unwrap();
    };
    let digest: [u8; 32] = Sha256::digest(&image).into();
    for (size, digest) in [(image.len() as u64 - 1, digest), (1 << 40, digest), (image.len() as u64, [0; 32])] {
        sign(size, digest);
        assert_eq!(said(&power, &["set-primary B", "get-primary"]), ["-", "A"], "{size}");
    }
    sign(image.len() as u64, digest);
    assert_eq!(said(&power, &["set-primary B", "get-primary"]), ["B"]);
}

/// By the name of the link that RAUC's configuration has.
#[test]
fn it_is_called_by_its_name() {
    let scratch = support::Scratch::new();
    symlink(HAOSFS, scratch.path("rauc-backend")).unwrap();
    let backend = scratch.path("rauc-backend").into_os_string().into_string().unwrap();
    let answer = scratch.run(&backend, &["--ini", "haos.ini", "get-primary"]);
    answer.failed(1, "haos.ini is not there: nothing is configured");
}

/// RAUC 1.8 fails where a partition of a loop device is mounted, as those of the tests are: the system partition becomes a directory
/// for it, and is written back afterwards.
const AWAY: &str = r#"
mkdir -p $D/plain $D/again && cp -a $SYSTEM/. $D/plain/ && PARTITION=$(findmnt -n -o SOURCE $SYSTEM)
for at in $(grep ^/dev/loop /proc/self/mounts | cut -d' ' -f2); do umount -l $at; done
cp -a $D/plain/. $SYSTEM/
dbus-run-session -- $D/script
mount $PARTITION $D/again && rm -r $D/again/* && cp -a $SYSTEM/. $D/again/ && rm -r $SYSTEM/* $D/plain && umount $D/again
"#;

/// A key, a bundle for slot B, a service on a bus of its own, an installation, and what is said before and after.
const INSTALL: &str = r#"
cd $D && mkdir -p content
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=test -days 2 2>/dev/null
cp $NEWER content/system.img
printf '[update]\ncompatible=test\nversion=2\n[bundle]\nformat=plain\n[image.system]\nfilename=system.img\n' >content/manifest.raucm
rauc --cert=cert.pem --key=key.pem bundle content x.raucb >/dev/null 2>&1 || echo no bundle
printf '#!/bin/sh\nexec %s rauc-backend --ini %s "$@"\n' $HAOSFS $INI >backend && chmod 755 backend
printf '[system]\ncompatible=test\nbootloader=custom\nmountprefix=%s/mounts\nstatusfile=%s/status\n[handlers]\nbootloader-custom-backend=%s/backend\n' $D $D $D >system.conf
printf '[keyring]\npath=%s/cert.pem\n[slot.system.0]\ndevice=%s\ntype=raw\nbootname=A\n[slot.system.1]\ndevice=%s\ntype=raw\nbootname=B\n' $D $OLDER $NEWER >>system.conf
rauc --conf=system.conf --override-boot-slot=$BOOTED service >service.log 2>&1 &
for n in 1 2 3 4 5 6 7 8 9 10; do rauc status >/dev/null 2>&1 && break; sleep 0.3; done
"#;

#[test]
fn debian_s_rauc_installs_and_marks() {
    let test = "debian_s_rauc_installs_and_marks";
    let tools = ["rauc", "dbus-run-session", "openssl"].into_iter().all(has_tool);
    if !possible(test) || !can_run(test, tools, "needs rauc, dbus-run-session and openssl") {
        return;
    }
    let power = slots();
    let [older, newer] = [OLD, NEW].map(|version| power.machine.image(version));
    let directory = power.machine.scratch.path("");
    let run = |booted: &str, script: &str| {
        let path = directory.join("script");
        let head = format!(
            "#!/bin/sh\nD={} OLDER={} NEWER={} DBUS_STARTER_BUS_TYPE=session; export DBUS_STARTER_BUS_TYPE\n",
            directory.display(),
            older.display(),
            newer.display()
        );
        fs::write(&path, format!("{head}BOOTED={booted}{INSTALL}{script}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        // What a boot has left is still there.
        let left = "mkdir /run/haosfs; test -e $D/boot.env && cp $D/boot.env /run/haosfs/";
        power.on(&format!("export HAOSFS INI D={}\n{left}\n{AWAY}", directory.display()))
    };
    let status = "rauc status --output-format=shell | grep -E 'PRIMARY|BOOTNAME|BOOT_STATUS' | sort";
    let installed = run("A", &format!("{status}; rauc install x.raucb >install.log 2>&1 || cat install.log; {status}"));
    assert!(matches!(power.state(), State::Staged { .. }), "{:?} {installed:?}", power.state());
    let primaries: Vec<&str> = installed.stdout.lines().filter(|line| line.starts_with("RAUC_BOOT_PRIMARY")).collect();
    assert_eq!(primaries, ["RAUC_BOOT_PRIMARY='system.0'", "RAUC_BOOT_PRIMARY='system.1'"], "{installed:?}");
    assert_eq!(installed.stdout.matches("='good'").count(), 4, "{installed:?}");
    // It is booted and marked good, as RAUC's own unit does; then the other is marked bad.
    power.on(&format!("$BOOT && cp /run/haosfs/boot.env {}", directory.display())).succeeded();
    let marked = run("B", &format!("rauc status mark-good >/dev/null && rauc status mark-bad other >/dev/null; {status}"));
    let State::Stable { proven, failed } = power.state() else { panic!("{:?} {marked:?}", power.state()) };
    assert!(proven.good.as_str().contains(NEW) && proven.previous.is_none(), "{proven:?}");
    assert!(failed.is_some_and(|failed| failed.image.as_str().contains(OLD)));
    assert!(marked.stdout.contains("='bad'") && marked.stdout.contains("RAUC_BOOT_PRIMARY='system.1'"), "{marked:?}");
}
