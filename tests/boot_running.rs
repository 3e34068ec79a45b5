//! What commands make of the image that `haosfs boot` has booted, whatever haos.ini says by then.

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

use power::{Power, possible};

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// The initramfs has had the system partition at another place: `$ELSEWHERE`.
const MOVE: &str = "ELSEWHERE=$MNT/proc && mount --bind $SYSTEM $ELSEWHERE && mount -t tmpfs none $SYSTEM";

/// haos.ini has never named the only image that boots.
#[test]
fn gc_keeps_what_safe_mode_runs_on() {
    if !possible("gc_keeps_what_safe_mode_runs_on") {
        return;
    }
    let power = Power::with("ext4");
    power.machine.configure(&format!("{{{}}}", power.machine.guid), NEW);
    power.pack_without_init();
    power.pack_another("7.0.9.0");
    let safe = power.on(&format!("$BOOT && {MOVE} && $HAOSFS update gc --ini $ELSEWHERE/haos.ini")).succeeded().stdout;
    assert!(safe.contains("\"mode\":\"safe\"") && safe.contains(&format!("{OLD}.squashfs (running image)")), "{safe}");
    assert!(safe.contains("removed") && !power.machine.image("7.0.9.0").exists(), "{safe}");
    assert!(power.machine.image(OLD).exists());
}

/// Nor does a rollback make it garbage before another one runs.
#[test]
fn gc_keeps_what_was_rolled_back_until_the_next_boot() {
    if !possible("gc_keeps_what_was_rolled_back_until_the_next_boot") {
        return;
    }
    let power = Power::with("ext4");
    power.on("$BOOT && echo one >$MNT/mine && $HAOSFS umount $MNT").succeeded();
    power.stage();
    power.on("$BOOT && $HAOSFS update confirm --ini $INI").succeeded();
    let gc = "$HAOSFS update gc --ini $INI";
    let left =
        power.on(&format!("$BOOT && $HAOSFS update rollback --ini $INI 2>$CONSOLE && {gc} --dry-run && {gc} && cat $MNT/mine"));
    let left = left.succeeded();
    assert!(!left.stdout.contains("would go") && !left.stdout.contains("removed"), "{left:?}");
    assert!(left.stdout.contains(&format!("{NEW}.squashfs (running image)")) && left.stdout.ends_with("\none\n"), "{left:?}");
    let gone = power.on(&format!("$BOOT && {gc}")).succeeded().stdout;
    assert!(gone.contains("removed   upper generation 2") && !power.machine.image(NEW).exists(), "{gone}");
}

/// What would be written to the upper that the trial's was made of would be lost, or have the trial's made anew.
#[test]
fn the_upper_in_use_is_not_written_during_a_trial() {
    if !possible("the_upper_in_use_is_not_written_during_a_trial") {
        return;
    }
    for backend in ["kernel", "fuse"] {
        let power = Power::with("ext4");
        let all = power.machine.scratch.path("all");
        std::fs::create_dir(&all).unwrap();
        let boot = format!("$BOOT -o backend={backend}");
        let on = |script: &str| power.on(&format!("ALL={}; {script}", all.display()));
        let mount =
            |options| format!("$HAOSFS mount $INI $ALL -o backend={backend}{options} && cat $ALL/mine && $HAOSFS umount $ALL");
        on(&format!("{boot} && echo one >$MNT/mine && $HAOSFS umount $MNT && {}", mount(""))).succeeded();
        power.stage();
        on(&mount("")).succeeded();
        let refused = on(&format!("{boot} && echo two >$MNT/mine && sync && {}", mount("")));
        assert!(
            refused.code == Some(32) && refused.stderr.contains("with -o ro, or after `haosfs update confirm`"),
            "{refused:?}"
        );
        let shown = on(&format!("{boot} && cat $MNT/mine && {}", mount(",ro"))).succeeded().stdout;
        assert!(shown.contains("\"mode\":\"trial\"") && shown.ends_with("\ntwo\none\n"), "{backend}: {shown}");
        // What is not tried any more is nobody's hindrance.
        on(&format!("{boot} && $HAOSFS update fail --reason x --ini $INI 2>$CONSOLE && {}", mount(""))).succeeded();
    }
}

/// Where an image has no place for the system partition, that stays where the initramfs has it.
#[test]
fn the_haos_ini_that_was_booted_from_is_meant() {
    if !possible("the_haos_ini_that_was_booted_from_is_meant") {
        return;
    }
    let power = Power::with("ext4");
    power.stage();
    let said = power.on("$BOOT && $HAOSFS rauc-backend get-primary && $HAOSFS update confirm && $HAOSFS update status");
    let said = said.succeeded().stdout;
    let new = power.machine.image(NEW).file_name().unwrap().to_str().unwrap().to_owned();
    assert!(said.contains(&format!("\n{new}\nstate           stable\nsystem image    {new}\n")), "{said}");
}
