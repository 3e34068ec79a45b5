//! One fault at every step of making the generation for a trial: it is there as a whole, or not at all; the old one is as it was; the
//! next attempt makes it, and leaves nothing of the one before.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/every_fault.rs"]
mod every_fault;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use every_fault::every_fault;
use haosfs::config::image_source::ImageSource;
use haosfs::config::store;
use haosfs::image::{Image, Options};
use haosfs::mount::image_choice::base_of;
use haosfs::mount::trial;
use haosfs::sys::replace::Rights;
use haosfs::update::meta::{Backend, Meta};
use haosfs::update::uppers::Uppers;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use support::{Scratch, can_run, has_tool, is_root, pack};
use tree::compare::{Tolerance, assert_same};
use tree::snapshot::Snapshot;

const OLD: &str = "haos-x86_64_1.0.squashfs";
const NEW: &str = "haos-x86_64_2.0.squashfs";

/// Names the haos.ini whose trial [`prepares`] shall prepare.
const PREPARE: &str = "HAOSFS_TEST_PREPARE";

fn prepare(ini: &Path) -> u64 {
    let stored = store::read(ini).unwrap().unwrap();
    trial::prepare(&stored, ini.parent().unwrap(), &ImageSource::parse(NEW).unwrap(), true).unwrap()
}

/// In a process of its own: faults are counted per process.
#[test]
fn prepares() {
    if let Some(ini) = std::env::var_os(PREPARE) {
        // What does not end it is told as a warning.
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
        prepare(Path::new(&ini));
    }
}

fn generation(scratch: &Scratch, number: u64) -> PathBuf {
    scratch.path("data/haosfs/uppers").join(number.to_string())
}

/// Something of each kind.
fn write(upper: &Path) {
    let at = |path: &str| upper.join(path);
    fs::create_dir_all(at("etc")).unwrap();
    fs::write(at("etc/config"), "mine\n").unwrap();
    fs::create_dir_all(at("mine/inner")).unwrap();
    fs::write(at("mine/inner/file"), vec![b'x'; 70_000]).unwrap();
    fs::hard_link(at("mine/inner/file"), at("mine/again")).unwrap();
    symlink("inner/file", at("mine/link")).unwrap();
    mknodat(CWD, at("hello"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    fs::create_dir(at("opaque")).unwrap();
    setxattr(at("opaque"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    chown(at("mine/again"), Some(1000), Some(100)).unwrap();
    fs::set_permissions(at("mine/again"), PermissionsExt::from_mode(0o6755)).unwrap();
    // What is left out: a whiteout of nothing.
    mknodat(CWD, at("etc/gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn appliance(btrfs: bool) -> Scratch {
    let scratch = Scratch::new();
    scratch.mkdir("data");
    if btrfs {
        File::create(scratch.path("disk")).unwrap().set_len(128 << 20).unwrap();
        assert_eq!(scratch.run("mkfs.btrfs", &["-q", "disk"]).code, Some(0));
        assert_eq!(scratch.run("mount", &["-o", "loop", "disk", "data"]).code, Some(0));
    }
    [OLD, NEW].iter().for_each(|image| pack(&scratch.path(image)));
    fs::write(scratch.path("haos.ini"), format!("[haos]\ndata_partition = ./data\nsystem_image = {OLD}\n")).unwrap();
    let image = scratch.path(OLD);
    let base = base_of(&Image::open(&image, &Options::default()).unwrap(), &image).unwrap();
    let meta = Meta { base, backend: Some(Backend::Kernel), parent: None, mounts: 0, parent_mounts: 0, clean: true, used: true };
    Uppers::create(&scratch.path("data"), &meta, Rights { perm: 0o755, owner: None }).unwrap();
    write(&generation(&scratch, 1).join("upper"));
    scratch
}

fn preparing(btrfs: bool) -> (Scratch, Command) {
    let scratch = appliance(btrfs);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "prepares"]).env(PREPARE, scratch.path("haos.ini"));
    (scratch, command)
}

/// The generation as it must be: the old one without what is left out.
fn is_whole(scratch: &Scratch, made: u64, when: &str) {
    let [mut old, new] = [1, made].map(|number| Snapshot::read(&generation(scratch, number).join("upper")).unwrap());
    old.names.remove(b"etc/gone".as_slice()).unwrap();
    assert_same(when, &old, &new, Tolerance::default());
    let uppers = Uppers::open(&scratch.path("data")).unwrap().unwrap();
    let meta = uppers.generation(made).unwrap().meta;
    assert_eq!((meta.parent, meta.base.name.to_str().unwrap()), (Some(1), NEW), "{when}");
    assert!(generation(scratch, made).join("rebase-report.json").exists(), "{when}");
}

fn each_step(what: &str, btrfs: bool) {
    let steps = every_fault(
        what,
        || preparing(btrfs),
        |scratch, when, output| {
            let before = Snapshot::read(&generation(scratch, 1)).unwrap();
            let mut expected = Snapshot::read(&generation(scratch, 1).join("upper")).unwrap();
            let fresh = tempfile::tempdir_in(scratch.path("data")).unwrap();
            write(fresh.path());
            let written = Snapshot::read(fresh.path()).unwrap();
            // What differs by the hour, and the root, is judged below.
            expected = expected.without_root();
            assert_same(when, &written.without_root(), &expected, Tolerance { times: true, ..Tolerance::default() });
            let uppers = Uppers::open(&scratch.path("data")).unwrap().unwrap();
            let numbers = uppers.numbers().unwrap();
            assert_eq!(uppers.current().unwrap().number, 1, "{when}");
            assert!(numbers == [1, 2] || numbers == [1] && !output.status.success(), "{when}: {numbers:?}");
            if numbers == [1, 2] {
                is_whole(scratch, 2, when);
            }
            drop(uppers);
            let made = prepare(&scratch.path("haos.ini"));
            assert_eq!(made, if numbers == [1, 2] { 3 } else { 2 }, "{when}");
            is_whole(scratch, made, when);
            assert!(!scratch.path("data/haosfs/uppers/.unfinished").exists(), "{when}");
            assert_same(when, &before, &Snapshot::read(&generation(scratch, 1)).unwrap(), Tolerance::default());
        },
    );
    println!("{}", steps.join(" "));
    assert_eq!(steps.contains(&"snapshot".to_owned()), btrfs, "{steps:?}");
}

#[test]
fn a_copy_is_made_or_not() {
    if can_run("a_copy_is_made_or_not", is_root(), "needs root") {
        ["die", "enospc"].iter().for_each(|what| each_step(what, false));
    }
}

#[test]
fn a_snapshot_is_made_or_not() {
    let found = has_tool("mkfs.btrfs") || Path::new("/usr/sbin/mkfs.btrfs").exists();
    if can_run("a_snapshot_is_made_or_not", is_root() && found, "needs root and mkfs.btrfs") {
        ["die", "eio"].iter().for_each(|what| each_step(what, true));
    }
}
