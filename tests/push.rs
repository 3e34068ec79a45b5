//! What the kernel gets unasked of a union that nobody can write: fewer requests, and never a wrong byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use mounted::daemon::drop_caches;
use mounted::ground::Ground;
use mounted::mount::{Mount, run};
use mounted::requirement::{Requirement, can_run};
use mounted::union::Driver;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
const DIRS: usize = 16;
const FILES: usize = 50;
/// Of the long file, in pages.
const PAGES: u64 = 2048;
const PAGE: usize = 4096;

/// Text that is nowhere the same.
fn text(of: usize, len: usize) -> Vec<u8> {
    let lines = (0..).map(|n| format!("{of} {n} {:x}\n", (of + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    lines.flat_map(String::into_bytes).take(len).collect()
}

fn ground() -> Ground {
    Ground::image(&[], |tree| {
        for n in 0..DIRS * FILES {
            let dir = tree.join(format!("{:02}", n / FILES));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("{:02}", n % FILES)), text(n, n * 37 % 9000)).unwrap();
        }
        fs::write(tree.join("long"), text(0, PAGES as usize * PAGE)).unwrap();
    })
}

/// The image alone, without an upper.
fn mount(ground: &Ground) -> Mount {
    let at = ground.home().join("at");
    fs::create_dir(&at).unwrap();
    let mut mount = Command::new(env!("CARGO_BIN_EXE_haosfs"));
    run(mount.arg("mount").arg(ground.lower().path()).arg(&at).args(["-o", "threads=4"]));
    Mount::adopt(&at)
}

fn reads(union: &Path) -> u64 {
    let status = run(Command::new(env!("CARGO_BIN_EXE_haosfs")).args(["status", "--json"]).arg(union));
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    status["requests"]["read"].as_u64().unwrap_or(0)
}

fn in_order() -> impl DoubleEndedIterator<Item = PathBuf> {
    (0..DIRS * FILES).map(|n| PathBuf::from(format!("{:02}/{:02}", n / FILES, n % FILES)))
}

/// Lists each directory before its first file is read, as find(1), tar(1) and cp(1) do, and compares all of them.
fn walk(ground: &Ground, union: &Path) {
    for name in in_order() {
        if name.ends_with("00") {
            assert_eq!(fs::read_dir(union.join(&name).parent().unwrap()).unwrap().count(), FILES);
        }
        assert!(fs::read(union.join(&name)).unwrap() == fs::read(ground.tree().join(&name)).unwrap(), "{}", name.display());
    }
}

#[test]
fn files_that_follow_are_there_before_they_are_asked_for() {
    if !can_run("files_that_follow_are_there_before_they_are_asked_for", NEEDS) {
        return;
    }
    let ground = ground();
    let mount = mount(&ground);
    walk(&ground, mount.path());
    let asked = reads(mount.path());
    assert!(asked < (DIRS * FILES / 2) as u64, "{asked} files were asked for");
    // With an upper somebody could be writing to any of them.
    drop(mount);
    let union = ground.mount_with(Driver::Haosfs, &ground.home(), &[]);
    walk(&ground, union.path());
    let with_content = (0..DIRS * FILES).filter(|n| n * 37 % 9000 > 0).count();
    assert_eq!(reads(union.path()), with_content as u64);
}

#[test]
fn the_rest_of_a_block_is_there_before_it_is_asked_for() {
    if !can_run("the_rest_of_a_block_is_there_before_it_is_asked_for", NEEDS) {
        return;
    }
    let ground = ground();
    let mount = mount(&ground);
    let expected = fs::read(ground.tree().join("long")).unwrap();
    let long = File::open(mount.path().join("long")).unwrap();
    let mut page = [0; PAGE];
    // Far apart, and in no order.
    for turn in 0..PAGES {
        let at = turn * 1021 % PAGES * PAGE as u64;
        long.read_exact_at(&mut page, at).unwrap();
        assert!(page[..] == expected[at as usize..][..PAGE], "page at {at}");
    }
    let asked = reads(mount.path());
    let blocks = PAGES * PAGE as u64 / (128 << 10);
    assert!(asked < 4 * blocks, "{asked} requests for {blocks} blocks");
    assert!(fs::read(mount.path().join("long")).unwrap() == expected);
}

#[test]
fn many_readers_see_what_is_in_the_image() {
    if !can_run("many_readers_see_what_is_in_the_image", NEEDS) {
        return;
    }
    let ground = ground();
    let mount = mount(&ground);
    let long = fs::read(ground.tree().join("long")).unwrap();
    for _ in 0..3 {
        thread::scope(|scope| {
            for reader in 0..6 {
                let (ground, mount, long) = (&ground, &mount, &long);
                scope.spawn(move || match reader {
                    0..=2 => walk(ground, mount.path()),
                    3 => in_order().rev().for_each(|name| {
                        assert!(fs::read(mount.path().join(&name)).unwrap() == fs::read(ground.tree().join(&name)).unwrap());
                    }),
                    _ => {
                        let file = File::open(mount.path().join("long")).unwrap();
                        for turn in 0..PAGES {
                            let at = (turn * (509 + reader * 2)) % PAGES * PAGE as u64;
                            let mut page = [0; PAGE];
                            file.read_exact_at(&mut page, at).unwrap();
                            assert!(page[..] == long[at as usize..][..PAGE], "page at {at}");
                        }
                    }
                });
            }
        });
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        drop_caches();
    }
}
