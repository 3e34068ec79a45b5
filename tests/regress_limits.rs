//! Limits of whoever mounts, and values at the ends of their ranges, do not end the daemon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[allow(dead_code, reason = "shared with the POSIX suite")]
#[path = "posix/raw.rs"]
mod raw;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::process::Command;

use mounted::daemon::daemon;
use mounted::ground::Ground;
use mounted::mount::{Mount, run};
use mounted::requirement::{Requirement, can_run};
use mounted::union::Driver;
use mounted::user::{NOBODY, as_user};
use rustix::fs::{Timespec, Timestamps, futimens};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// A shell's limit of file sizes is not the union's.
#[test]
fn a_limit_of_file_sizes_ends_nothing() {
    if !can_run("a_limit_of_file_sizes_ends_nothing", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| fs::write(tree.join("f"), "x").unwrap());
    let [at, upper, work] = ["at", "upper", "work"].map(|name| ground.home().join(name));
    [&at, &upper, &work].iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -f 100; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_haosfs"), "mount"]);
    run(shell.arg(ground.tree()).arg(&at).arg("--upper").arg(upper).arg("--work").arg(work));
    let mount = Mount::adopt(&at);
    fs::write(at.join("large"), vec![1; 1 << 20]).unwrap();
    assert_eq!(fs::metadata(at.join("large")).unwrap().len(), 1 << 20);
    drop(mount);
}

/// Times at the ends of what a program can say.
#[test]
fn extreme_times_end_nothing() {
    if !can_run("extreme_times_end_nothing", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| fs::write(tree.join("f"), "x").unwrap());
    let union = ground.mount(Driver::Haosfs, &[]);
    let before = daemon(union.path());
    let file = OpenOptions::new().write(true).open(union.path().join("f")).unwrap();
    for secs in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
        for nanos in [0, 5] {
            let time = Timespec { tv_sec: secs, tv_nsec: nanos };
            // Whether it can be kept is the upper's business.
            let _kept = futimens(&file, &Timestamps { last_access: time, last_modification: time });
        }
    }
    for n in 0..16 {
        fs::write(union.path().join(format!("after{n}")), "still there").unwrap();
    }
    assert!(before.is_some() && before == daemon(union.path()));
}

/// Whoever is shown as the owner of another's set-user-id file cannot make it run his code by that right: not by write(2), by
/// truncation, nor by a mapping.
#[test]
fn set_id_bits_of_others_go_with_any_change() {
    if !can_run("set_id_bits_of_others_go_with_any_change", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |_| {});
    let names = ["written", "cut", "mapped"];
    fs::create_dir(ground.home().join("upper")).unwrap();
    for name in names {
        let file = ground.home().join("upper").join(name);
        fs::write(&file, vec![b'x'; 4096]).unwrap();
        chown(&file, Some(0), Some(0)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o4755)).unwrap();
    }
    let owner = format!("uid={NOBODY},gid={NOBODY}");
    let union = ground.mount(Driver::Haosfs, &[&owner]);
    as_user(NOBODY, NOBODY, &[], || {
        let open = |name: &str| OpenOptions::new().read(true).write(true).open(union.path().join(name)).unwrap();
        open("written").write_at(b"EVIL", 0).unwrap();
        open("cut").set_len(10).unwrap();
        let mut map = raw::map_shared(&open("mapped"));
        map[..4].copy_from_slice(b"EVIL");
        map.flush().unwrap();
    });
    for name in names {
        let mode = fs::metadata(union.upper().join(name)).unwrap().mode();
        assert_eq!(mode & 0o7000, 0, "{name} has mode {mode:o}");
    }
}
