//! Limits of whoever mounts, and values at the ends of their ranges, do not end the daemon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[allow(dead_code, reason = "shared with the POSIX suite")]
#[path = "posix/raw.rs"]
mod raw;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use mounted::daemon::daemon;
use mounted::ground::Ground;
use mounted::mount::{Mount, run};
use mounted::requirement::{Requirement, can_run};
use mounted::union::Driver;
use mounted::user::{NOBODY, as_user};
use rustix::fs::{Timespec, Timestamps, futimens};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use rustix::thread::{CapabilitySet, capabilities};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// Mounts the ground's tree from a shell that has set limits before.
fn mount_under(ground: &Ground, limits: &str) -> Mount {
    let [at, upper, work] = ["at", "upper", "work"].map(|name| ground.home().join(name));
    [&at, &upper, &work].iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_haosfs"), "mount"]);
    run(shell.arg(ground.tree()).arg(&at).arg("--upper").arg(upper).arg("--work").arg(work));
    Mount::adopt(&at)
}

/// Root may have it taken away, and then no hard limit can be raised.
fn may_raise_hard_limits() -> bool {
    capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_RESOURCE)
}

/// A shell's limit of file sizes is not the union's; where it must be, it is `EFBIG` and no more.
#[test]
fn a_limit_of_file_sizes_ends_nothing() {
    if !can_run("a_limit_of_file_sizes_ends_nothing", NEEDS) {
        return;
    }
    for (how, is_lifted) in [("-S", true), ("-H", may_raise_hard_limits())] {
        let ground = Ground::directory(|tree| fs::write(tree.join("f"), "x").unwrap());
        let mount = mount_under(&ground, &format!("ulimit -S -f 100; ulimit {how} -f 100"));
        let large = File::create(mount.path().join("large")).unwrap();
        let written = large.write_all_at(&vec![1; 1 << 20], 0).map_err(|e| e.raw_os_error());
        assert_eq!(written, if is_lifted { Ok(()) } else { Err(Some(Errno::FBIG.raw_os_error())) }, "{how}");
        drop(large);
        assert_eq!(fs::read(mount.path().join("f")).unwrap(), b"x", "{how}");
    }
}

/// Nor is its limit of descriptors: a union holds one for each file in use, and for each removed one that is.
#[test]
fn a_limit_of_descriptors_is_lifted() {
    if !can_run("a_limit_of_descriptors_is_lifted", NEEDS) {
        return;
    }
    let ground = Ground::directory(|tree| fs::write(tree.join("f"), "x").unwrap());
    let mount = mount_under(&ground, "ulimit -S -n 512");
    let pid = daemon(mount.path()).unwrap();
    let most = match may_raise_hard_limits() {
        true => fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().ok(),
        false => getrlimit(Resource::Nofile).maximum,
    };
    let limits = prlimit(Some(pid), Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    assert_eq!((limits.current, limits.maximum), (most, most));
}

/// A daemon that comes to its limit all the same uses the descriptors that it has: who has a removed file open goes on with it.
#[test]
fn removed_files_live_on_at_the_limit_of_descriptors() {
    if !can_run("removed_files_live_on_at_the_limit_of_descriptors", NEEDS) {
        return;
    }
    const FILES: usize = 40;
    let ground = Ground::directory(|tree| fs::write(tree.join("f"), "x").unwrap());
    let mount = ground.mount(Driver::Haosfs, &[]);
    let pid = daemon(mount.path()).unwrap();
    let open: Vec<(PathBuf, File)> = (0..FILES)
        .map(|n| {
            let path = mount.path().join(format!("temporary{n}"));
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
            file.write_all_at(format!("written {n}").as_bytes(), 0).unwrap();
            (path, file)
        })
        .collect();
    let used = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count() as u64;
    let limit =
        |current: u64| prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(current), maximum: Some(1024) }).unwrap();
    limit(used + 3);
    for (path, _) in &open {
        fs::remove_file(path).unwrap();
    }
    limit(1024);
    for (n, (path, file)) in open.iter().enumerate() {
        let mut bytes = [0; 20];
        let len = file.read_at(&mut bytes, 0).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(bytes[..len], *format!("written {n}").as_bytes());
        file.write_all_at(b"more", 100).unwrap();
    }
}

/// Times at the ends of what a program can say are what the kernel's overlayfs makes of them, and end nothing.
#[test]
fn extreme_times_end_nothing() {
    if !can_run("extreme_times_end_nothing", NEEDS) {
        return;
    }
    let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| {
        let ground = Ground::image(&[], |tree| fs::write(tree.join("f"), "x").unwrap());
        let union = ground.mount(driver, &[]);
        let before = daemon(union.path());
        let file = OpenOptions::new().write(true).open(union.path().join("f")).unwrap();
        let mut told = Vec::new();
        for secs in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
            for nanos in [0, 5] {
                let time = Timespec { tv_sec: secs, tv_nsec: nanos };
                let answer = futimens(&file, &Timestamps { last_access: time, last_modification: time });
                let found = file.metadata().unwrap();
                told.push((answer, found.atime(), found.atime_nsec(), found.mtime(), found.mtime_nsec()));
            }
        }
        for n in 0..16 {
            fs::write(union.path().join(format!("after{n}")), "still there").unwrap();
        }
        assert_eq!((before, before.is_some()), (daemon(union.path()), driver == Driver::Haosfs));
        told
    });
    assert_eq!(kernel, haosfs);
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
