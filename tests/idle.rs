//! What a daemon does while nothing is asked of it, which is nothing, and what it claims of processors while much is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mounted::daemon::daemon;
use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::union::{Driver, Union};
use mounted::user::{NOBODY, as_user};

/// What is claimed holds for the whole machine: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// What the kernel answers where nobody claims anything (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`).
const ANY: i32 = 2_000_000_000;
/// A bound that nobody else has.
const OURS: i32 = 713;

fn ground() -> Ground {
    Ground::image(&[], |tree| {
        (0..2000).for_each(|n| fs::write(tree.join(n.to_string()), "x").unwrap());
    })
}

fn mount(options: &[&str], then: impl FnOnce(&Union)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ground = ground();
    let union = ground.mount_with(Driver::Haosfs, &ground.home(), options);
    then(&union);
}

/// Names that are not there, each a request.
fn ask(union: &Path, times: usize) {
    static ASKED: Mutex<usize> = Mutex::new(0);
    for _ in 0..times {
        let mut asked = ASKED.lock().unwrap();
        *asked += 1;
        fs::symlink_metadata(union.join(format!("absent-{asked}"))).unwrap_err();
    }
}

/// How often threads of a process were put on a processor.
fn wakes(union: &Path) -> u64 {
    let daemon = daemon(union).unwrap();
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.as_raw_nonzero())).unwrap();
    let switches = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum()
    };
    tasks.map(|task| switches(fs::read_to_string(task.unwrap().path().join("status")).unwrap())).sum()
}

fn claimed(device: &File) -> i32 {
    let mut bytes = [0; 4];
    device.read_exact_at(&mut bytes, 0).unwrap();
    i32::from_ne_bytes(bytes)
}

/// Everything by which a daemon is woken in several ways: names, short and long reading, long and scattered writing.
fn use_all(union: &Path) {
    ask(union, 5000);
    (0..2000).for_each(|n| assert_eq!(fs::read(union.join(n.to_string())).unwrap(), b"x"));
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(union.join("long")).unwrap();
    (0..32).for_each(|_| file.write_all(&[7; 1 << 20]).unwrap());
    (0..500).for_each(|n| file.write_all_at(&[8; 4096], (n * 37 % 8192) * 4096).unwrap());
    file.sync_all().unwrap();
    assert_eq!(fs::read_dir(union).unwrap().count(), 2001);
}

#[test]
fn no_thread_wakes_while_nothing_is_asked() {
    let needs = [Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Tool("fusermount3"), Requirement::Fuse];
    if !can_run("no_thread_wakes_while_nothing_is_asked", &needs) {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ground = ground();
    let mounts: [(Driver, &[&str]); 3] =
        [(Driver::Haosfs, &[]), (Driver::Haosfs, &["cpu_latency=any"]), (Driver::HaosfsUser, &[])];
    let unions: Vec<Union> = (0..)
        .zip(mounts)
        .map(|(n, (driver, options))| {
            let home = ground.home().join(n.to_string());
            fs::create_dir(&home).unwrap();
            ground.mount_with(driver, &home, options)
        })
        .collect();
    for union in &unions {
        match union.driver() {
            Driver::HaosfsUser => as_user(NOBODY, NOBODY, &[], || use_all(union.path())),
            _ => use_all(union.path()),
        }
    }
    // The end of a burst is seen in some hundredths of a second.
    sleep(Duration::from_millis(500));
    let all = || unions.iter().map(|union| wakes(union.path())).collect::<Vec<_>>();
    // The kernel may have it forget something: then it is not idle.
    let is_quiet = || {
        let before = all();
        sleep(Duration::from_secs(10));
        let after = all();
        (after == before).then_some(()).ok_or((before, after))
    };
    is_quiet().or_else(|_| is_quiet()).unwrap_or_else(|woken| panic!("{mounts:?}: {woken:?}"));
}

#[test]
fn processors_stay_awake_during_a_burst_alone() {
    let needs = [Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse, Requirement::CpuLatency];
    if !can_run("processors_stay_awake_during_a_burst_alone", &needs) {
        return;
    }
    let device = File::options().read(true).write(true).open("/dev/cpu_dma_latency").unwrap();
    mount(&["cpu_latency=713"], |union| {
        let end = Instant::now() + Duration::from_secs(10);
        while claimed(&device) != OURS {
            assert!(Instant::now() < end, "a burst claims nothing");
            ask(union.path(), 200);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while claimed(&device) != ANY {
            assert!(Instant::now() < end, "{} us are still claimed", claimed(&device));
            sleep(Duration::from_millis(10));
        }
        // Few requests are no burst.
        for _ in 0..100 {
            ask(union.path(), 5);
            sleep(Duration::from_millis(3));
            assert_eq!(claimed(&device), ANY);
        }
        assert_eq!(stays_awake_after(union, &device), ANY);
        // Few long ones are.
        let mut file = File::create(union.path().join("long")).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while claimed(&device) != OURS {
            assert!(Instant::now() < end, "long writes claim nothing");
            (0..8).for_each(|_| file.write_all(&[7; 1 << 20]).unwrap());
            file.rewind().unwrap();
        }
    });
    assert_eq!(claimed(&device), ANY, "a daemon that has ended claims something");
    mount(&["cpu_latency=any"], |union| {
        for _ in 0..20 {
            ask(union.path(), 200);
            assert_eq!(claimed(&device), ANY);
        }
    });
}

/// What is claimed some time after a burst.
fn stays_awake_after(union: &Union, device: &File) -> i32 {
    ask(union.path(), 2000);
    sleep(Duration::from_millis(500));
    claimed(device)
}
