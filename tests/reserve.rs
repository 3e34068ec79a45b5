//! Blocks that are kept decompressed in pages of the kernel: none is decompressed again and again, the kernel may take them back, nobody else
//! sees anything of them, and they hold nobody up.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::num::NonZero;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mounted::daemon::{daemon, within};
use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::union::{Driver, Union};
use rustix::fs::Advice;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
const PAGE: usize = 4096;
/// Of the long file; its blocks are four times those that the daemon keeps itself.
const PAGES: u64 = 1024;
const BLOCKS: u64 = PAGES * PAGE as u64 / (128 << 10);
/// Blocks that are decompressed where each is once: some of metadata come along, and where a worker is held up between its answer and
/// what it keeps, one comes twice. Without pages they would be hundreds.
const ONCE_EACH: Range<u64> = BLOCKS..BLOCKS + 12;
const FEW: &[&str] = &["data_cache=0"];

/// Text that is nowhere the same.
fn text(len: usize) -> Vec<u8> {
    (0_u64..).flat_map(|n| format!("{n} {:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()).take(len).collect()
}

fn ground() -> Ground {
    Ground::image(&[], |tree| {
        fs::write(tree.join("long"), text(PAGES as usize * PAGE)).unwrap();
        fs::write(tree.join("other"), &text(PAGES as usize * PAGE + PAGE)[PAGE..]).unwrap();
    })
}

/// (decompressed, found decompressed)
fn blocks(union: &Path) -> (u64, u64) {
    let status = run(Command::new(env!("CARGO_BIN_EXE_haosfs")).args(["status", "--json"]).arg(union));
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let count = |name: &str| status["blocks"][name].as_u64().unwrap();
    (count("decompressed"), count("found"))
}

/// The kernel is asked to drop all pages: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mount(ground: &Ground, options: &[&str]) -> Union {
    with_pages(ground.mount_with(Driver::Haosfs, &ground.home(), options), ground)
}

/// Pages come when the mount already works: reads one page each of twice as many blocks as the daemon keeps itself, until something is
/// found that it does not.
fn with_pages(union: Union, ground: &Ground) -> Union {
    let begun = Instant::now();
    while pages(union.path()).is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10), "there are no pages");
        thread::sleep(Duration::from_millis(1));
    }
    // From the last page of a block to its first: the kernel reads none ahead then.
    for page in (0..32).rev() {
        read_at(union.path(), ground, "other", (0..16).map(|block| block * (128 << 10) + page * PAGE as u64));
        if blocks(union.path()).1 > 0 {
            return union;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("nothing is found in pages after {:?}", begun.elapsed());
}

/// The daemon's descriptor of the file that has the pages: its name tells, from its own root.
fn pages(union: &Path) -> Option<PathBuf> {
    let open = fs::read_dir(format!("/proc/{}/fd", daemon(union).unwrap().as_raw_nonzero())).unwrap();
    let mut open = open.map(|entry| entry.unwrap().path());
    open.find(|fd| fs::read_link(fd).is_ok_and(|target| target == Path::new("/pages")))
}

/// Reads every `step`th page of a file far apart and in no order, each once, and compares it.
fn read(union: &Path, ground: &Ground, name: &str, first: u64, step: u64) {
    read_at(union, ground, name, (0..PAGES / step).map(|turn| (turn * step * 509 + first) % PAGES * PAGE as u64));
}

/// Reads the pages at these offsets, and compares them.
fn read_at(union: &Path, ground: &Ground, name: &str, offsets: impl Iterator<Item = u64>) {
    let expected = fs::read(ground.tree().join(name)).unwrap();
    let file = File::open(union.join(name)).unwrap();
    let mut page = [0; PAGE];
    for at in offsets {
        file.read_exact_at(&mut page, at).unwrap();
        assert!(page[..] == expected[at as usize..][..PAGE], "{name} at {at}");
    }
}

#[test]
fn each_block_is_decompressed_once() {
    if !can_run("each_block_is_decompressed_once", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let union = mount(&ground, FEW);
    let before = blocks(union.path());
    read(union.path(), &ground, "long", 0, 1);
    let (decompressed, found) = blocks(union.path());
    assert!(ONCE_EACH.contains(&(decompressed - before.0)), "{decompressed} after {before:?}");
    assert!(found > PAGES / 2, "{found}");
    // As a whole, too.
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    let copied = fs::read(union.path().join("long")).unwrap();
    assert!(copied == fs::read(ground.tree().join("long")).unwrap());
}

/// Sixteen files that are the same, each read from its beginning to its end: mksquashfs packs their content once.
#[test]
fn what_several_files_have_is_decompressed_twice() {
    if !can_run("what_several_files_have_is_decompressed_twice", NEEDS) {
        return;
    }
    const SAME: u64 = 16;
    let content = text(8 * (128 << 10) + 5000);
    let ground = Ground::image(&[], |tree| {
        fs::write(tree.join("other"), &text(PAGES as usize * PAGE + PAGE)[PAGE..]).unwrap();
        (0..SAME).for_each(|n| fs::write(tree.join(n.to_string()), &content).unwrap());
    });
    let _alone = alone();
    let union = mount(&ground, FEW);
    let before = blocks(union.path());
    for n in 0..SAME {
        assert!(fs::read(union.path().join(n.to_string())).unwrap() == content, "{n}");
    }
    let (decompressed, found) = blocks(union.path());
    // Eight blocks and the end of a file; what is decompressed ahead may be driven out before it is read.
    assert!((9..5 * 9).contains(&(decompressed - before.0)), "{decompressed} after {before:?}");
    assert!(found - before.1 >= (SAME - 4) * 8, "{found} after {before:?}");
}

/// Reads one page each of some blocks here and there; not the first, for the kernel reads on from there.
fn touch(union: &Path, ground: &Ground, turns: Range<u64>) {
    read_at(union, ground, "long", turns.map(|turn| turn * 13 % BLOCKS * (128 << 10) + (64 << 10)));
}

#[test]
fn a_file_of_which_much_is_asked_for_is_decompressed_ahead() {
    if !can_run("a_file_of_which_much_is_asked_for_is_decompressed_ahead", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let union = mount(&ground, FEW);
    let before = blocks(union.path()).0;
    touch(union.path(), &ground, 0..16);
    thread::sleep(Duration::from_millis(300));
    let few = blocks(union.path()).0 - before;
    assert!((16..20).contains(&few), "{few} for 16 blocks, and some metadata");
    // The blocks behind some of the next four, too.
    touch(union.path(), &ground, 16..20);
    let begun = Instant::now();
    while blocks(union.path()).0 - before < few + 6 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", blocks(union.path()));
        thread::sleep(Duration::from_millis(1));
    }
    // Nothing was in vain.
    touch(union.path(), &ground, 20..BLOCKS);
    let all = blocks(union.path()).0 - before;
    assert!(ONCE_EACH.contains(&all), "{all}");
}

#[test]
fn what_the_kernel_takes_back_is_decompressed_again() {
    if !can_run("what_the_kernel_takes_back_is_decompressed_again", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let union = mount(&ground, FEW);
    for round in 0..4 {
        let before = blocks(union.path());
        read(union.path(), &ground, "long", round, 4);
        let decompressed = blocks(union.path()).0 - before.0;
        assert!((BLOCKS / 2..=2 * BLOCKS).contains(&decompressed), "{decompressed} in round {round}");
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    }
}

#[test]
fn what_was_written_is_not_what_was_kept() {
    if !can_run("what_was_written_is_not_what_was_kept", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let union = mount(&ground, FEW);
    read(union.path(), &ground, "long", 0, 2);
    let file = File::options().read(true).write(true).open(union.path().join("long")).unwrap();
    let mut expected = fs::read(ground.tree().join("long")).unwrap();
    for page in 0..PAGES {
        let at = (page * PAGE as u64 + page) as usize;
        file.write_all_at(b"written", at as u64).unwrap();
        expected.get_mut(at..at + 7).unwrap().copy_from_slice(b"written");
        let mut bytes = [0; 100];
        file.read_exact_at(&mut bytes, at as u64 - page.min(50)).unwrap();
        assert!(bytes[..] == expected[at - page.min(50) as usize..][..100], "page {page}");
    }
    drop(file);
    fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    assert!(fs::read(union.path().join("long")).unwrap() == expected);
    assert!(fs::read(union.path().join("other")).unwrap() == fs::read(ground.tree().join("other")).unwrap());
}

#[test]
fn many_readers_see_what_is_in_the_image_while_pages_come_and_go() {
    if !can_run("many_readers_see_what_is_in_the_image_while_pages_come_and_go", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let union = mount(&ground, FEW);
    for _ in 0..5 {
        thread::scope(|scope| {
            for reader in 0..8 {
                let (ground, union) = (&ground, union.path());
                let name = if reader % 2 == 0 { "long" } else { "other" };
                scope.spawn(move || read(union, ground, name, reader, 1));
            }
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(30));
                fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
            }
        });
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    }
}

/// A descriptor of another process, which cannot be opened anew.
fn taken(pid: Pid, descriptor: &Path) -> OwnedFd {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let number = descriptor.file_name().unwrap().to_str().unwrap().parse().unwrap();
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn several_images_have_each_its_own() {
    if !can_run("several_images_have_each_its_own", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    // The same places in both, with other content.
    let other = Ground::image(&[], |tree| {
        fs::write(tree.join("third"), &text(PAGES as usize * PAGE + 1)[1..]).unwrap();
        fs::write(tree.join("other"), text(PAGES as usize * PAGE)).unwrap();
    });
    let lowers = [ground.lower().clone(), other.lower().clone()];
    let union = with_pages(Union::with_options(Driver::Haosfs, &lowers, &ground.home(), FEW), &ground);
    for first in 0..3 {
        read(union.path(), &other, "third", first, 2);
        read(union.path(), &ground, "long", first, 2);
        read(union.path(), &ground, "other", first, 2);
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
}

#[test]
fn without_an_upper_too() {
    if !can_run("without_an_upper_too", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let union = with_pages(Union::without_upper(Driver::Haosfs, &[ground.lower().clone()], FEW), &ground);
    let before = blocks(union.path()).0;
    read(union.path(), &ground, "long", 0, 1);
    let decompressed = blocks(union.path()).0 - before;
    assert!(ONCE_EACH.contains(&decompressed), "{decompressed}");
}

/// A daemon that is killed while it looks for pages that are gone ends, and the union says so.
#[test]
fn a_killed_daemon_ends() {
    if !can_run("a_killed_daemon_ends", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    for _ in 0..20 {
        let union = mount(&ground, FEW);
        let pid = daemon(union.path()).unwrap();
        let pages = taken(pid, &pages(union.path()).unwrap());
        let killed = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..4_u64 {
                let (long, killed) = (File::open(union.path().join("long")).unwrap(), &killed);
                scope.spawn(move || {
                    let mut turn = reader;
                    while !killed.load(Ordering::Relaxed) {
                        turn += 1;
                        let at = turn * 509 % PAGES * PAGE as u64;
                        // The union's own page is not kept either; the end of the daemon is an error.
                        let _end = long.read_at(&mut [0; PAGE], at);
                        let _dropped = rustix::fs::fadvise(&long, at, NonZero::new(PAGE as u64), Advice::DontNeed);
                    }
                });
            }
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(60) {
                rustix::fs::fadvise(&pages, 0, None, Advice::DontNeed).unwrap();
            }
            kill_process(pid, Signal::KILL).unwrap();
            killed.store(true, Ordering::Relaxed);
        });
        let answer = within(Duration::from_secs(10), union.path(), || fs::metadata(union.path().join("absent")));
        // Asked while the connection ends, or after that.
        assert!(matches!(answer.unwrap_err().raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)));
    }
}

/// The processes whose parent this is.
fn children(of: Pid) -> Vec<Pid> {
    let list = format!("/proc/{0}/task/{0}/children", of.as_raw_nonzero());
    let pids = fs::read_to_string(list).unwrap_or_default();
    pids.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// Whoever makes the pages answers himself for what he asks.
#[test]
fn who_is_killed_while_pages_are_made_ends() {
    if !can_run("who_is_killed_while_pages_are_made_ends", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let mut killed = 0;
    for turn in 0..80 {
        let mut union = ground.mount_with(Driver::Haosfs, &ground.home(), &[]);
        let daemon = daemon(union.path()).unwrap();
        let all: Vec<Pid> = children(daemon).into_iter().chain([daemon]).collect();
        killed += all.len() - 1;
        // With the first read they are begun.
        let mut first = [0];
        File::open(union.path().join("long")).unwrap().read_exact_at(&mut first, 0).unwrap();
        thread::sleep(Duration::from_micros(turn * 40));
        for pid in &all {
            let _may_have_ended = kill_process(*pid, Signal::KILL);
        }
        let begun = Instant::now();
        while all.iter().any(|pid| Path::new(&format!("/proc/{}/exe", pid.as_raw_nonzero())).exists()) {
            assert!(begun.elapsed() < Duration::from_secs(10), "turn {turn}: {all:?} do not end");
            thread::sleep(Duration::from_millis(1));
        }
        union.abandon();
    }
    assert!(killed > 40, "only {killed} were there");
}

#[test]
fn nobody_else_sees_the_pages() {
    if !can_run("nobody_else_sees_the_pages", NEEDS) {
        return;
    }
    let (_alone, ground) = (alone(), ground());
    let union = mount(&ground, FEW);
    read(union.path(), &ground, "long", 0, 4);
    let of_daemon = format!("/proc/{}/mountinfo", daemon(union.path()).unwrap().as_raw_nonzero());
    for table in ["/proc/self/mountinfo", &of_daemon] {
        let table = fs::read_to_string(table).unwrap();
        assert!(!table.contains("haosfs-pages"), "{table}");
    }
    // Nor can somebody open them who comes there through the daemon's descriptors.
    let pages = pages(union.path()).unwrap();
    let refused = |how: &mut OpenOptions| how.open(&pages).unwrap_err().raw_os_error();
    assert_eq!(refused(File::options().read(true)), Some(libc::ENOTCONN));
    assert_eq!(refused(File::options().write(true)), Some(libc::EROFS));
    let names: BTreeSet<_> = fs::read_dir(union.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["long".into(), "other".into()].into());
}
