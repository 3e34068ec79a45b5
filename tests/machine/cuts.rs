//! Power cuts while the root file system is written to: what a program was told to be durable is there, and nothing is torn.
#![allow(dead_code, reason = "the quick tests use a part of it")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::qemu::crash::{self, Log, Lost};
use super::qemu::disk::Data;
use super::qemu::guest::Guest;
use super::qemu::host::run;
use super::qemu::initramfs::Joins;
use super::qemu::kernel::Kernel;
use super::qemu::machine::Machine;
use super::qemu::root;

const DIR: &str = "/srv/work";

/// Something that nobody makes durable is written all the time, and goes to the disk at once.
const NOISE: &str = "
    echo 1 > /proc/sys/vm/dirty_expire_centisecs && echo 1 > /proc/sys/vm/dirty_writeback_centisecs
    (while :; do for n in 1 2 3 4 5 6 7 8; do head -c 20000 /dev/urandom > /srv/noise$n; done; done) > /dev/null 2>&1 &";

/// Which steps the writer takes, and on what.
#[derive(Clone, Copy)]
struct Steps {
    seed: u64,
    data: Data,
}

impl Steps {
    fn order(self, what: &str, number: u64) -> String {
        format!("writer {what} {DIR} {} {number} {}", self.seed, self.data.name())
    }
}

/// Lets the writer go on from some step, and pulls the plug after this time. Returns the steps that it told of, each with what
/// `note` answered when the news came.
fn write_until_cut(mut guest: Guest, steps: Steps, from: u64, time: Duration, note: impl Fn() -> usize) -> Vec<(u64, usize)> {
    guest.order(&steps.order("run", from));
    let end = Instant::now() + time;
    let mut lines = Vec::new();
    while let Some(line) = guest.line_until(end) {
        lines.push((line, note()));
    }
    // What was on its way when the plug was pulled has left the guest, too.
    lines.extend(guest.cut().into_iter().map(|line| (line, note())));
    let number = |line: &str| line.strip_prefix("@told ")?.parse().ok();
    let told: Vec<_> = lines.iter().filter_map(|(line, noted)| number(line).map(|step| (step, *noted))).collect();
    // The last line may be cut off.
    assert!(told.len() + 1 >= lines.len(), "{lines:?}");
    told
}

/// Asserts that all that was told of is there; returns how many steps are.
#[track_caller]
fn verify(guest: &mut Guest, steps: Steps, told: u64) -> u64 {
    let answer = guest.sh(&steps.order("verify", told));
    answer.trim().strip_prefix("@there ").unwrap().parse().unwrap()
}

/// Pulls the plug so many times, and looks after each.
pub fn cut_again_and_again(kernel: &'static Kernel, joins: Joins, data: Data, rounds: usize) {
    let (seed, mut told) = (fastrand::u64(0..1 << 40), 0);
    let steps = Steps { seed, data };
    let machine = Machine::new(kernel, joins, data, root::busybox());
    for round in 0..rounds {
        let mut guest = machine.boot();
        let there = verify(&mut guest, steps, told);
        let time = Duration::from_millis(fastrand::u64(200..4000));
        told = write_until_cut(guest, steps, there, time, || 0).last().map_or(there, |(step, _)| *step);
        println!("{joins:?} {data:?} seed {seed}, round {round}: {there} steps are there, {told} are told of after {time:?}");
        assert!(round > 0 || told > 0, "nothing was written");
    }
    let mut guest = machine.boot();
    verify(&mut guest, steps, told);
}

/// Pulls the plug, and looks at so many disks that have lost some of what was not flushed.
pub fn lose_what_was_not_flushed(kernel: &'static Kernel, data: Data, disks: usize) {
    let seed = fastrand::u64(0..1 << 40);
    let steps = Steps { seed, data };
    let mut chance = fastrand::Rng::with_seed(seed);
    let machine = Machine::new(kernel, Joins::Haosfs, data, root::busybox());
    machine.boot().power_off();
    let [before, log, after] = ["before", "log", "after"].map(|name| machine.disk.dir().join(name));
    copy(&machine.disk.file(), &before);
    File::create(&log).unwrap();
    let mut guest = machine.start_from(&machine.disk.file(), Some(&log), "", &[]);
    guest.until_ready();
    guest.sh(NOISE);
    let growing = File::open(&log).unwrap();
    let time = Duration::from_millis(chance.u64(3000..8000));
    let told = write_until_cut(guest, steps, 0, time, || crash::entries(&growing));
    assert!(!told.is_empty(), "nothing was written");
    let log_read = Log::read(&log);
    let mut all = Lost::default();
    for number in 0..disks {
        copy(&before, &after);
        let end = log_read.moment(told[0].1, &mut chance);
        let told = told.iter().rev().find(|(_, noted)| *noted <= end).map_or(0, |(step, _)| *step);
        let fate = log_read.replay(&File::options().write(true).open(&after).unwrap(), end, data.needs_at_once(), &mut chance);
        let mut guest = machine.start_from(&after, None, "", &[]);
        guest.until_ready();
        let there = verify(&mut guest, steps, told);
        println!(
            "{data:?} seed {seed}, disk {number}: {told} steps were told of, {there} are there, writes not flushed: {fate:?}"
        );
        (all.kept, all.lost) = (all.kept + fate.kept, all.lost + fate.lost);
    }
    [before, log, after].into_iter().for_each(|file| fs::remove_file(file).unwrap());
    assert!(all.lost > 0, "nothing was lost");
}

/// Leaves holes where there is nothing.
pub fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to));
}
