//! What programs meet while others change names: listings that go on, files replaced by rename, files held without a name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[path = "posix/raw.rs"]
#[allow(dead_code, reason = "one of its calls is used here")]
mod raw;

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use mounted::daemon::drop_caches;
use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::{Driver, Lower, Union};
use raw::map_shared;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, StatxFlags, XattrFlags, getxattr, setxattr, statvfs, statx, syncfs};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// More than one reply holds.
const NAMES: usize = 3000;

/// Removes what it is given while it reads, as `rm -r` does; in the middle somebody interferes.
fn removes_everything(interfere: impl Fn(&Path), in_the_lower: bool) {
    let fill = |dir: &Path| {
        fs::create_dir(dir).unwrap();
        (0..NAMES).for_each(|n| drop(File::create(dir.join(format!("name{n:05}"))).unwrap()));
    };
    let ground = Ground::image(&[], |tree| {
        if in_the_lower {
            fill(&tree.join("x"))
        }
    });
    let union = ground.mount(Driver::Haosfs, &[]);
    let dir = union.path().join("x");
    if !in_the_lower {
        fill(&dir);
    }
    // So the kernel has the listing, and gives it to the next without asking.
    assert_eq!(fs::read_dir(&dir).unwrap().count(), NAMES);
    let mut seen = BTreeSet::new();
    for entry in Dir::read_from(File::open(&dir).unwrap()).unwrap() {
        let name = entry.unwrap().file_name().to_str().unwrap().to_owned();
        // What came and went since the directory was opened may show or not (readdir(3)).
        if !name.starts_with("name") {
            continue;
        }
        fs::remove_file(dir.join(&name)).unwrap();
        assert!(seen.insert(name));
        if seen.len() == NAMES / 3 {
            interfere(&dir);
        }
    }
    assert_eq!(seen.len(), NAMES);
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn a_listing_goes_on_after_the_caches_were_dropped() {
    if can_run("a_listing_goes_on_after_the_caches_were_dropped", NEEDS) {
        removes_everything(|_| drop_caches(), true);
        removes_everything(|_| drop_caches(), false);
    }
}

#[test]
fn a_listing_goes_on_after_another() {
    if can_run("a_listing_goes_on_after_another", NEEDS) {
        let list = |dir: &Path| assert_eq!(fs::read_dir(dir).unwrap().count(), NAMES - NAMES / 3);
        removes_everything(list, true);
        removes_everything(list, false);
    }
}

#[test]
fn a_listing_goes_on_while_names_come() {
    if can_run("a_listing_goes_on_while_names_come", NEEDS) {
        let replace = |dir: &Path| {
            // Sorted before all others, and gone again: no position may move.
            (0..NAMES).for_each(|n| drop(File::create(dir.join(format!("a{n}"))).unwrap()));
            fs::read_dir(dir).unwrap().for_each(|entry| assert!(entry.is_ok()));
            (0..NAMES).for_each(|n| fs::remove_file(dir.join(format!("a{n}"))).unwrap());
        };
        removes_everything(replace, true);
    }
}

/// A file that is replaced by rename(2) is there at every moment.
#[test]
fn a_file_that_is_replaced_is_always_there() {
    if !can_run("a_file_that_is_replaced_is_always_there", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| fs::write(tree.join("conf"), "0").unwrap());
    let union = ground.mount(Driver::Haosfs, &[]);
    let (conf, is_over) = (union.path().join("conf"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut opened = 0;
            while !is_over.load(Ordering::Acquire) || opened == 0 {
                let mut text = String::new();
                File::open(&conf).unwrap_or_else(|e| panic!("open number {opened}: {e}")).read_to_string(&mut text).unwrap();
                assert!(!text.is_empty());
                opened += 1;
            }
        });
        let end = Instant::now() + Duration::from_secs(3);
        let mut n = 0;
        while Instant::now() < end && !reading.is_finished() {
            n += 1;
            let fresh = union.path().join(format!("fresh{}", n % 3));
            fs::write(&fresh, format!("{n}")).unwrap();
            fs::rename(&fresh, &conf).unwrap();
        }
        is_over.store(true, Ordering::Release);
        reading.join().unwrap();
    });
}

/// An `O_PATH` descriptor keeps a file as any other does.
#[test]
fn a_removed_file_can_be_opened_again_by_its_descriptor() {
    if !can_run("a_removed_file_can_be_opened_again_by_its_descriptor", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        fs::write(tree.join("below"), "hello").unwrap();
        fs::write(tree.join("copied"), "hello").unwrap();
    });
    let union = ground.mount(Driver::Haosfs, &[]);
    fs::write(union.path().join("above"), "hello").unwrap();
    fs::set_permissions(union.path().join("copied"), fs::Permissions::from_mode(0o640)).unwrap();
    for name in ["above", "copied", "below"] {
        let file = union.path().join(name);
        let held = rustix::fs::open(&file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        fs::remove_file(&file).unwrap();
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        assert_eq!(fs::read_to_string(&again).unwrap_or_else(|e| panic!("{name}: {e}")), "hello");
        fs::set_permissions(&again, fs::Permissions::from_mode(0o600)).unwrap();
        let meta = fs::metadata(&again).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.nlink()), (0o600, 0), "{name}");
        fs::write(&again, "written").unwrap();
        assert_eq!(fs::read_to_string(&again).unwrap(), "written");
        assert_eq!(fs::metadata(&file).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

/// Bytes that a removed file took.
const LARGE: usize = 40 << 20;

fn frees_its_space(grow: impl FnOnce(&Path), before: impl FnOnce(&mut Union)) {
    let scratch = Scratch::new(Fs::Ext4);
    let tree = scratch.dir("tree");
    grow(&tree);
    let mut union = Union::new(Driver::Haosfs, &[Lower::Dir(tree)], &scratch.dir("home"));
    before(&mut union);
    let free = || statvfs(scratch.path()).unwrap().f_bfree * statvfs(scratch.path()).unwrap().f_frsize;
    let at_first = free();
    fs::write(union.path().join("f"), vec![7; LARGE]).unwrap();
    assert!(free() + (LARGE as u64) / 2 < at_first);
    fs::remove_file(union.path().join("f")).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while free() + (LARGE as u64) / 4 < at_first {
        assert!(Instant::now() < end, "{} bytes are still taken", at_first - free());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Hard links of a lower that no one can see in the union do not keep a removed file's space.
#[test]
fn links_out_of_sight_keep_nothing() {
    if !can_run("links_out_of_sight_keep_nothing", NEEDS) {
        return;
    }
    let outside = |tree: &Path| {
        fs::write(tree.join("f"), "1").unwrap();
        fs::hard_link(tree.join("f"), tree.with_file_name("outside")).unwrap();
    };
    frees_its_space(outside, |_| {});
    let pair = |tree: &Path| {
        fs::write(tree.join("f"), "1").unwrap();
        fs::hard_link(tree.join("f"), tree.join("hidden")).unwrap();
    };
    frees_its_space(pair, |union| {
        fs::remove_file(union.path().join("hidden")).unwrap();
        union.remount();
    });
}

/// A daemon whose mount has gone may have much to write out; here it waits until somebody reads its journal of faults.
#[cfg(debug_assertions)]
#[test]
fn an_upper_is_waited_for_while_its_last_daemon_writes_out() {
    if !can_run("an_upper_is_waited_for_while_its_last_daemon_writes_out", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |_| {});
    let journal = ground.tree().join("journal");
    let lower = std::slice::from_ref(ground.lower());
    let mut first = Union::with_fault(Driver::Haosfs, lower, &ground.home(), &[], format!("die:0:{}", journal.display()));
    fs::write(first.path().join("f"), "written").unwrap();
    run(Command::new("mkfifo").arg(&journal));
    first.abandon();
    let start = Instant::now();
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| ground.mount(Driver::Haosfs, &[]));
        std::thread::sleep(Duration::from_secs(3));
        assert!(!second.is_finished());
        assert_eq!(fs::read_to_string(&journal).unwrap(), "syncfs\n");
        second.join().unwrap()
    });
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(fs::read_to_string(second.path().join("f")).unwrap(), "written");
}

/// Bytes of a file whose data take some time to come up.
const SLOW: usize = 64 << 20;

/// The data of a file that is in the upper by its attributes come up when what was written to a mapping of it goes to the daemon.
#[test]
fn times_set_while_data_come_up_stay() {
    if !can_run("times_set_while_data_come_up_stay", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        let text: Vec<u8> = (0_u32..).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_string().into_bytes()).take(1 << 20).collect();
        fs::write(tree.join("long"), text.repeat(SLOW >> 20)).unwrap();
    });
    let union = ground.mount(Driver::Haosfs, &["metacopy=on"]);
    let (long, copy) = (union.path().join("long"), union.upper().join("long"));
    fs::set_permissions(&long, fs::Permissions::from_mode(0o640)).unwrap();
    // Attributes may take a block.
    let has_data = || fs::metadata(&copy).unwrap().blocks() > 64;
    assert!(!has_data());
    let file = File::options().read(true).write(true).open(&long).unwrap();
    let (mut mapping, then) = (map_shared(&file), UNIX_EPOCH + Duration::from_secs(1000));
    mapping[0] = b'x';
    // Unlike msync(2) it does not lock the inode until that is written, and need not wait for it.
    syncfs(&file).unwrap();
    let begun = Instant::now();
    while !has_data() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no data come up");
    }
    file.set_times(FileTimes::new().set_accessed(then)).unwrap();
    while getxattr(&copy, "trusted.overlay.metacopy", &mut [0; 16]).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the data do not come to an end");
    }
    let meta = fs::metadata(&copy).unwrap();
    assert!(meta.blocks() * 512 >= SLOW as u64, "{} blocks came up", meta.blocks());
    assert_eq!([meta.accessed().unwrap(), fs::metadata(&long).unwrap().accessed().unwrap()], [then; 2]);
}

/// `system.posix_acl_access` that says no more than a mode (`<linux/posix_acl_xattr.h>`).
fn minimal_acl(mode: u16) -> Vec<u8> {
    let entries = [(0x01_u16, mode >> 6), (0x04, mode >> 3), (0x20, mode)];
    let entry = |(tag, perm): (u16, u16)| [&tag.to_le_bytes()[..], &(perm & 7).to_le_bytes(), &[0xff; 4]].concat();
    [2_u32.to_le_bytes().to_vec(), entries.map(entry).concat()].concat()
}

/// A listing that has begun before the mode changed, and ends after that, must not bring the old one back.
#[test]
fn a_mode_set_by_an_acl_outlasts_listings() {
    if !can_run("a_mode_set_by_an_acl_outlasts_listings", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |_| {});
    let union = ground.mount(Driver::Haosfs, &[]);
    let (dir, listings, is_over) = (union.path().join("d"), AtomicU64::new(0), AtomicBool::new(false));
    fs::create_dir(&dir).unwrap();
    (0..200).for_each(|n| drop(File::create(dir.join(format!("name{n}"))).unwrap()));
    let file = dir.join("name7");
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                // The kernel has kept no listing of what has changed since.
                fs::write(dir.join("other"), "").unwrap();
                assert!(fs::read_dir(&dir).unwrap().count() > 200);
                fs::remove_file(dir.join("other")).unwrap();
                listings.fetch_add(1, Ordering::AcqRel);
            }
        });
        let mut rounds = 0;
        let wrong = loop {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            let before = listings.load(Ordering::Acquire);
            while listings.load(Ordering::Acquire) == before && !listing.is_finished() {
                std::thread::yield_now();
            }
            setxattr(&file, "system.posix_acl_access", &minimal_acl(0o640), XattrFlags::empty()).unwrap();
            let before = listings.load(Ordering::Acquire);
            while listings.load(Ordering::Acquire) == before && !listing.is_finished() {
                std::thread::yield_now();
            }
            rounds += 1;
            let mode = fs::metadata(&file).unwrap().mode() & 0o777;
            if mode != 0o640 || rounds == 100 || listing.is_finished() {
                break (mode != 0o640).then_some((rounds, mode));
            }
        };
        is_over.store(true, Ordering::Release);
        listing.join().unwrap();
        assert_eq!(wrong, None);
    });
}

/// Links of each file in a directory.
const LINKS: usize = 150;
const FILES: usize = 40;

fn linked(dir: &Path, files: usize, links: usize) {
    fs::create_dir(dir).unwrap();
    for n in 0..files {
        fs::write(dir.join(format!("{n}.0")), "below").unwrap();
        (1..links).for_each(|link| fs::hard_link(dir.join(format!("{n}.0")), dir.join(format!("{n}.{link}"))).unwrap());
    }
    File::open(dir).unwrap().set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1000))).unwrap();
}

/// Does something to each of a directory's files, and asks for the directory's attributes once meanwhile. What is shown afterwards is what
/// the upper has.
fn asked_meanwhile(union: &Union, name: &str, files: usize, act: impl Fn(&Path, usize) + Sync) {
    let (dir, mut took) = (union.path().join(name), Duration::from_micros(500));
    for n in 0..files {
        let barrier = Barrier::new(2);
        let took_now = std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                barrier.wait();
                let begun = Instant::now();
                act(&dir, n);
                begun.elapsed()
            });
            barrier.wait();
            let begun = Instant::now();
            let wait = took.mul_f64(fastrand::f64());
            while begun.elapsed() < wait {
                std::hint::spin_loop();
            }
            statx(CWD, &dir, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS).unwrap();
            acting.join().unwrap()
        });
        took = took_now.min(Duration::from_millis(20));
        let [shown, real] = [&dir, &union.upper().join(name)].map(|dir| fs::metadata(dir).unwrap().modified().unwrap());
        assert_eq!(shown, real, "{name}: file number {n}");
        assert_eq!(shown, UNIX_EPOCH + Duration::from_secs(1000), "{name}: file number {n}");
    }
}

/// A copy-up and a look-up change no directory: nobody is shown for good what its times are for a moment.
#[test]
fn a_directory_s_times_of_a_moment_are_not_kept() {
    if !can_run("a_directory_s_times_of_a_moment_are_not_kept", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        linked(&tree.join("copied"), FILES, LINKS);
        linked(&tree.join("found"), 300, 2);
    });
    let union = ground.mount(Driver::Haosfs, &[]);
    let append = |path: &Path| File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
    // All names are known, and are linked.
    assert_eq!(fs::read_dir(union.path().join("copied")).unwrap().count(), FILES * LINKS);
    asked_meanwhile(&union, "copied", FILES, |dir, n| append(&dir.join(format!("{n}.0"))));
    (0..300).for_each(|n| append(&union.path().join(format!("found/{n}.0"))));
    asked_meanwhile(&union, "found", 300, |dir, n| assert_eq!(fs::metadata(dir.join(format!("{n}.1"))).unwrap().len(), 9));
}
