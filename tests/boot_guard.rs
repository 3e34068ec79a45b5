//! `haosfs boot-guard`: what it decides of a trial, in a machine that was booted by `haosfs boot`.

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

use haosfs::update::state::State;
use power::{Power, possible};
use support::Finished;

const OLD: &str = "7.1.0.0";
const NEW: &str = "7.1.1.0";

/// A guard whose checks stand in the scratch directory, and that says when it would start the machine anew.
const GUARD: &str =
    "GUARD=\"$HAOSFS boot-guard --ini $INI --required $D/required.d --wanted $D/wanted.d --watchdog $D/watchdog\"\n";

struct Guarded {
    power: Power,
}

impl Guarded {
    /// An image is staged.
    fn new() -> Self {
        let guarded = Self { power: Power::with("ext4") };
        guarded.power.stage();
        guarded
    }

    fn check(&self, directory: &str, name: &str, script: &str) {
        let scratch = &self.power.machine.scratch;
        scratch.mkdir(directory);
        let path = scratch.path(directory).join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn on(&self, script: &str) -> Finished {
        let directory = self.power.machine.scratch.path("");
        fs::write(directory.join("watchdog"), "").unwrap();
        self.power.on(&format!("D={}\n{GUARD}{script}", directory.display()))
    }

    /// How often it was fed, and what was written to it then.
    fn fed(&self) -> (usize, Vec<u8>) {
        let mut written = fs::read(self.power.machine.scratch.path("watchdog")).unwrap();
        let times = written.iter().take_while(|&&byte| byte == 0).count();
        assert!(times > 0, "{written:?}");
        (times, written.split_off(times))
    }

    fn why(&self) -> String {
        match self.power.state() {
            State::RolledBack { bad, .. } => bad.why,
            state => panic!("{state:?}"),
        }
    }

    fn is_confirmed(&self) -> bool {
        matches!(self.power.state(), State::Stable { proven, .. } if proven.good.as_str().contains(NEW))
    }
}

#[test]
fn green_checks_confirm() {
    if !possible("green_checks_confirm") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "sleep 1.2; test -e /run/haosfs/boot.env");
    guarded.check("wanted.d", "20-two", "echo bad; exit 7");
    let green = guarded.on("$BOOT && $GUARD --reboot-command 'echo anew'");
    assert_eq!(green.code, Some(0), "{green:?}");
    assert!(green.stderr.contains("20-two: exit status 7: bad; it was only wanted"), "{green:?}");
    assert!(guarded.is_confirmed() && !green.stdout.contains("anew"), "{green:?}");
    let (times, then) = guarded.fed();
    assert!(times >= 2 && then == b"V", "fed {times} times, then free for others: {then:?}");
    assert!(guarded.power.log(1).ends_with("== haosfs: ended: it was confirmed\n"));
    let idle = guarded.on("$BOOT && $GUARD");
    assert!(idle.code == Some(0) && idle.stderr.contains("no image is tried"), "{idle:?}");
}

#[test]
fn red_checks_start_anew() {
    if !possible("red_checks_start_anew") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "sleep 0.2; echo x >&2; echo no network; exit 1");
    guarded.check("required.d", "20-two", "touch $0.was-run");
    let red = guarded.on("$BOOT && $GUARD --reboot-command 'echo anew'");
    assert!(red.code == Some(2) && red.stdout.ends_with("\nanew\n"), "{red:?}");
    assert!(guarded.why().ends_with("required.d/10-one: exit status 1: no network"), "{}", guarded.why());
    assert!(!guarded.power.machine.scratch.path("required.d/20-two.was-run").exists());
    assert_eq!(guarded.fed().1, b"", "it is left armed");
    assert!(guarded.power.log(1).ends_with("exit status 1: no network\n"), "{}", guarded.power.log(1));
    // The good one is told of, and never left.
    let back = guarded.on("$BOOT && $GUARD --reboot-command 'echo anew'; cat $MNT/etc/version");
    assert!(back.stdout.ends_with(OLD) && !back.stdout.contains("anew"), "{back:?}");
    assert!(guarded.why().contains("no network") && back.stderr.contains("does not work"), "{back:?}");
    guarded.check("required.d", "10-one", "exit 0");
    guarded.on("$BOOT && $GUARD").code.filter(|code| *code == 0).unwrap();
    assert!(matches!(guarded.power.state(), State::Stable { failed: Some(_), .. }), "{:?}", guarded.power.state());
}

#[test]
fn late_checks_start_anew() {
    if !possible("late_checks_start_anew") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "sleep 60");
    let late = guarded.on("$BOOT && $GUARD --deadline 2 --no-reboot && echo not reached");
    assert_eq!((late.code, late.stdout.lines().count()), (Some(2), 1), "{late:?}");
    assert!(guarded.why().ends_with("10-one was not ready in time"), "{}", guarded.why());
    // Without a command of its own it is the kernel that is asked: in a pid namespace, that ends the first process.
    guarded.power.stage();
    let killed = guarded.on("PATH=/none; $BOOT && $GUARD --deadline 2; echo not reached");
    assert!(killed.code != Some(0) && !killed.stdout.contains("not reached"), "{killed:?}");
}

/// Part of an application may not have been installed.
#[test]
fn a_check_that_leads_nowhere_is_not_green() {
    if !possible("a_check_that_leads_nowhere_is_not_green") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "20-two", "exit 0");
    guarded.check("wanted.d", "20-two", "touch $0.was-run");
    let link = |directory: &str| guarded.power.machine.scratch.path(directory).join("10-app");
    symlink("/opt/app/check", link("required.d")).unwrap();
    let red = guarded.on("$BOOT && $GUARD --no-reboot");
    assert!(red.code == Some(2) && !guarded.is_confirmed(), "{red:?}");
    assert!(guarded.why().contains("required.d/10-app: No such file"), "{}", guarded.why());
    guarded.power.stage();
    fs::rename(link("required.d"), link("wanted.d")).unwrap();
    let green = guarded.on("$BOOT && $GUARD --no-reboot");
    assert!(green.code == Some(0) && guarded.is_confirmed(), "{green:?}");
    assert!(green.stderr.contains("wanted.d/10-app: No such file") && green.stderr.contains("only wanted"), "{green:?}");
    assert!(guarded.power.machine.scratch.path("wanted.d/20-two.was-run").exists(), "others are run: {green:?}");
}

/// What is only wanted costs no image its confirmation, whoever has to say that it works.
#[test]
fn a_wanted_check_that_hangs_is_only_told_of() {
    if !possible("a_wanted_check_that_hangs_is_only_told_of") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "exit 0");
    guarded.check("wanted.d", "20-two", "sleep 62 & sleep 62");
    guarded.check("wanted.d", "30-three", "touch $0.was-run");
    guarded.check("bin", "systemctl", "echo running");
    let systemd = "mkdir -p /run/systemd/system && PATH=$D/bin:$PATH && rm -f $D/required.d/10-one && ";
    for witness in ["", systemd] {
        let hung = guarded.on(&format!(
            "{witness}$BOOT && $GUARD --deadline 5 --reboot-command 'echo anew'; echo $?; pgrep -c -f 'sleep[ ]62'"
        ));
        assert!(hung.stdout.ends_with("\n0\n0\n") && guarded.is_confirmed(), "{hung:?}");
        assert!(hung.stderr.contains("20-two was not ready in time; it was only wanted"), "{hung:?}");
        assert!(
            hung.stderr.contains("the time is over") && !guarded.power.machine.scratch.path("wanted.d/30-three.was-run").exists()
        );
        assert!(fs::read(guarded.power.machine.scratch.path("watchdog")).unwrap().ends_with(b"V"), "it is given back");
        guarded.on("$BOOT && $HAOSFS update rollback --ini $INI");
        guarded.power.stage();
    }
    // Without a time there is no end of it either, but the image is confirmed, and whoever ends it is heard.
    guarded.power.add_to_ini("[update]\ndeadline = none\n");
    let confirmed = "for n in $(seq 300); do grep -q update_image $INI || break; sleep 0.1; done";
    let ended = guarded.on(&format!("{systemd}$BOOT && {{ $GUARD & {confirmed}; kill $!; wait $!; echo $?; }}"));
    assert!(ended.stdout.ends_with("\n0\n") && guarded.is_confirmed(), "{ended:?}");
}

/// An initramfs with systemd may have left that there, and gone over to another init.
#[test]
fn who_is_not_systemd_is_asked_to_start_anew() {
    if !possible("who_is_not_systemd_is_asked_to_start_anew") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "exit 1");
    guarded.check("bin", "systemctl", "exit 1");
    guarded.check("bin", "reboot", "echo asked");
    let red = guarded.on("mkdir -p /run/systemd/system && PATH=$D/bin:$PATH && $BOOT && $GUARD");
    assert!(red.code == Some(2) && red.stdout.ends_with("\nasked\n"), "{red:?}");
}

#[test]
fn the_application_has_a_say() {
    if !possible("the_application_has_a_say") {
        return;
    }
    let guarded = Guarded::new();
    guarded.power.add_to_ini("[update]\nconfirmed_by = application\n");
    let late = guarded.on("$BOOT && $GUARD --deadline 2 --reboot-command 'echo anew'");
    assert!(late.code == Some(2) && late.stdout.ends_with("\nanew\n"), "{late:?}");
    assert_eq!(guarded.why(), "it was not confirmed in time");
    guarded.power.stage();
    let red = guarded.on("$BOOT && { (sleep 1; $HAOSFS update fail --reason mine --ini $INI >/dev/null 2>&1) & \
                          $GUARD --reboot-command 'echo anew'; }");
    assert!(red.code == Some(2) && red.stdout.ends_with("\nanew\n"), "{red:?}");
    assert_eq!(guarded.why(), "mine");
    guarded.power.stage();
    let green = guarded.on("$BOOT && { (sleep 1; $HAOSFS update confirm --ini $INI >/dev/null 2>&1) & $GUARD; }");
    assert!(green.code == Some(0) && guarded.is_confirmed(), "{green:?}");
}

/// In safe mode another image runs, of which the checks tell nothing.
#[test]
fn what_does_not_run_is_not_judged() {
    if !possible("what_does_not_run_is_not_judged") {
        return;
    }
    let guarded = Guarded::new();
    guarded.on("$BOOT").succeeded();
    guarded.power.lose_data();
    let before = guarded.power.state();
    let safe = guarded.on("$BOOT && $GUARD");
    assert!(safe.code == Some(0) && safe.stderr.contains("is running (mode safe): nothing is decided"), "{safe:?}");
    assert_eq!(guarded.power.state(), before);
}

/// Nor is what was not booted by us, or has left no word of it.
#[test]
fn what_nobody_knows_is_not_judged() {
    if !possible("what_nobody_knows_is_not_judged") {
        return;
    }
    let guarded = Guarded::new();
    let away = "$BOOT && rm /run/haosfs/boot.env && $GUARD && $HAOSFS update confirm --ini $INI; echo $?";
    let unknown = guarded.on(away);
    assert!(
        unknown.stdout.ends_with("\n5\n") && unknown.stderr.contains("left no word of what is running: nothing"),
        "{unknown:?}"
    );
    assert!(matches!(guarded.power.state(), State::Trying { .. }), "{:?}", guarded.power.state());
}

/// Whoever has confirmed it while a check ran is not contradicted.
#[test]
fn what_is_confirmed_is_not_left() {
    if !possible("what_is_confirmed_is_not_left") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "$HAOSFS update confirm --ini $INI >$CONSOLE 2>&1; exit 1");
    let confirmed = guarded.on("export HAOSFS INI CONSOLE; $BOOT && $GUARD --reboot-command 'echo anew'");
    assert!(confirmed.code == Some(0) && !confirmed.stdout.contains("anew"), "{confirmed:?}");
    assert!(guarded.is_confirmed(), "{:?}", guarded.power.state());
    assert_eq!(guarded.fed().1, b"V");
}

/// The logs go, or whoever has taken the room gives some back.
#[test]
fn a_full_system_partition_does_not_keep_it_from_being_confirmed() {
    if !possible("a_full_system_partition_does_not_keep_it_from_being_confirmed") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "exit 0");
    // What was removed is free once that is durable.
    let fill = "fill() { sync; for n in 1 2 3; do dd if=/dev/zero bs=1k of=$SYSTEM/$1.$n 2>$CONSOLE; sync; done; }";
    let give_back = "(until grep -q 'No space left' $D/said; do sleep 0.1; done; rm $SYSTEM/big.1) &";
    // Whoever records what the trial says has the directory open until it looks at it again.
    let remove_logs = "rm -r $SYSTEM/logs; while readlink /proc/[0-9]*/fd/* | grep -q ^$SYSTEM/logs; do sleep 0.1; done";
    for then in [String::new(), format!("{remove_logs}; fill less; {give_back}")] {
        let guard = "$GUARD --reboot-command 'echo anew' 2>$D/said; CODE=$?; cat $D/said >&2; (exit $CODE)";
        let full = guarded.on(&format!("{fill}\n: >$D/said; $BOOT && {{ fill big; {then}\n{guard}; }}"));
        assert!(full.code == Some(0) && !full.stdout.contains("anew"), "{then}: {full:?}");
        assert!(guarded.is_confirmed() && full.stderr.contains("No space left"), "{then}: {full:?}");
        guarded.on("rm -f $SYSTEM/big.* $SYSTEM/less.*; $BOOT && $HAOSFS update rollback --ini $INI");
        guarded.power.stage();
    }
}

/// An editor may just have emptied it, or its file system is not there yet.
#[test]
fn an_unreadable_file_says_nothing_of_the_image() {
    if !possible("an_unreadable_file_says_nothing_of_the_image") {
        return;
    }
    let guarded = Guarded::new();
    guarded.power.add_to_ini("[update]\nconfirmed_by = application\n");
    let emptied = "$BOOT && cp $INI $D/ini && : >$INI && ";
    let late = guarded.on(&format!("{emptied} {{ $GUARD --deadline 2 --reboot-command 'echo anew'; echo $?; cp $D/ini $INI; }}"));
    assert!(late.stdout.ends_with("\n1\n") && late.stderr.contains("it is tried again"), "{late:?}");
    let again = guarded.on(&format!(
        "{emptied} {{ (sleep 0.7; cp $D/ini $INI; sleep 0.7; : >$INI; sleep 0.7; cp $D/ini $INI; \
         $HAOSFS update confirm --ini $INI >$CONSOLE) & $GUARD --reboot-command 'echo anew'; }}"
    ));
    assert!(again.code == Some(0) && !again.stdout.contains("anew") && guarded.is_confirmed(), "{again:?}");
}

/// That it runs is no proof.
#[test]
fn without_checks_somebody_else_must_say_so() {
    if !possible("without_checks_somebody_else_must_say_so") {
        return;
    }
    let guarded = Guarded::new();
    let late = guarded.on("$BOOT && $GUARD --deadline 2 --no-reboot");
    assert!(late.code == Some(2) && late.stderr.contains("somebody must say"), "{late:?}");
    assert_eq!(guarded.why(), "it was not confirmed in time");
    let systemd = "mkdir -p /run/systemd/system $D/bin && PATH=$D/bin:$PATH && $BOOT && $GUARD --no-reboot";
    guarded.power.stage();
    guarded.check("bin", "systemctl", "test $1 = list-units && echo 'x.service loaded failed' || { echo degraded; exit 1; }");
    let red = guarded.on(systemd);
    assert_eq!((red.code, guarded.why().as_str()), (Some(2), "systemd is degraded: x.service has failed"), "{red:?}");
    guarded.power.stage();
    guarded.check("bin", "systemctl", "test -e $0.started && echo running || { touch $0.started; echo starting; exit 1; }");
    let green = guarded.on(systemd);
    assert!(green.code == Some(0) && guarded.is_confirmed(), "{green:?}");
}

/// Power-off during a trial is no failure, and no reset.
#[test]
fn who_asks_it_to_end_gets_the_watchdog_back() {
    if !possible("who_asks_it_to_end_gets_the_watchdog_back") {
        return;
    }
    let guarded = Guarded::new();
    guarded.check("required.d", "10-one", "sleep 61");
    let runs = "for n in $(seq 300); do pgrep -f 'sleep[ ]61' >/dev/null && break; sleep 0.1; done";
    let ended = guarded.on(&format!("$BOOT && {{ $GUARD & {runs}; kill $!; wait $!; echo $?; pgrep -c -f 'sleep[ ]61'; }}"));
    assert!(ended.stdout.ends_with("\n0\n0\n"), "{ended:?}");
    assert_eq!(guarded.fed().1, b"V");
    assert!(matches!(guarded.power.state(), State::Trying { .. }), "{:?}", guarded.power.state());
}
