//! Uppers that the kernel's overlayfs wrote, under every combination of its options, are shown by haosfs as the kernel shows them,
//! and the other way round; each goes on with what the other wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "uppers/history.rs"]
mod history;
mod mounted;
#[path = "uppers/setting.rs"]
mod setting;
mod tree;

use std::collections::BTreeMap;
use std::fs::{self, remove_dir_all};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::{Driver, Lower, Union};
use setting::{Index, Setting, settings};
use tree::compare::{Tolerance, assert_same, printable};
use tree::snapshot::Snapshot;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// The kernel counts a merged directory's links as 1.
const TOLERANCE: Tolerance =
    Tolerance { nanoseconds: false, times: false, directory_links: true, xattrs: false, acls: true, hard_links: false };

/// One upper, by turns.
struct Upper<'a> {
    lower: &'a Lower,
    home: &'a Path,
    setting: Setting,
    /// The kernel shows the lower's inode numbers of what was copied up.
    numbers_stay: bool,
}

/// A tree, and the low half of its inode numbers: the upper one tells the layer.
struct Shown {
    tree: Snapshot,
    numbers: BTreeMap<Vec<u8>, u32>,
}

impl Shown {
    fn of(root: &Path) -> Self {
        let tree = Snapshot::read(root).unwrap().without_root();
        let number = |name: &Vec<u8>| fs::symlink_metadata(root.join(std::ffi::OsStr::from_bytes(name))).unwrap().ino() as u32;
        let numbers = tree.names.keys().map(|name| (name.clone(), number(name))).collect();
        Self { tree, numbers }
    }
}

impl Upper<'_> {
    /// Has a driver show the tree before and after it acts.
    fn turn(&self, driver: Driver, act: Option<fn(&Path)>) -> [Shown; 2] {
        let options = if driver == Driver::Kernel { self.setting.for_kernel() } else { self.setting.for_haosfs() };
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut union = Union::with_options(driver, std::slice::from_ref(self.lower), self.home, &options);
        let before = Shown::of(union.path());
        if let Some(act) = act {
            act(union.path());
        }
        let after = Shown::of(union.path());
        union.unmount();
        // As whoever trusts such an upper does: the kernel leaves the mark even after a clean unmount.
        if self.setting.volatile && driver == Driver::Kernel {
            remove_dir_all(self.home.join("work/work/incompat")).unwrap();
        }
        [before, after]
    }

    /// What haosfs shows is what the kernel does.
    fn same(&self, when: &str, kernel: &Shown, haosfs: &Shown, tolerance: Tolerance) {
        let what = format!("{when} over {:?} with {:?}", self.lower, self.setting);
        let mut tree = kernel.tree.clone();
        if self.setting.index == Index::Export {
            for (name, seen) in &mut tree.names {
                // "a file that has one name in the lower and has been indexed all the same"
                let ours = haosfs.tree.names.get(name).map_or(0, |ours| ours.nlink);
                seen.nlink = if seen.nlink == ours + 1 { ours } else { seen.nlink };
            }
        }
        assert_same(&what, &tree, &haosfs.tree, tolerance);
        // What nobody indexed, the kernel's shows by the upper's number when it is to be exported.
        let is_indexed = self.setting.index != Index::Export || when == "what the kernel wrote";
        if self.numbers_stay && is_indexed && !tolerance.hard_links {
            for (name, number) in &kernel.numbers {
                assert_eq!(haosfs.numbers.get(name), Some(number), "{what}: the number of {}", printable(name));
            }
        }
    }

    fn changes_hands(&self) {
        self.turn(Driver::Kernel, Some(history::first));
        let [kernel, _] = self.turn(Driver::Kernel, None);
        let [haosfs, written] = self.turn(Driver::Haosfs, Some(history::second));
        self.same("what the kernel wrote", &kernel, &haosfs, TOLERANCE);
        let [shown, _] = self.turn(Driver::Haosfs, None);
        let [kernel, last] = self.turn(Driver::Kernel, Some(history::third));
        self.same("what haosfs wrote", &kernel, &shown, TOLERANCE);
        // "Hard links of a lower stay one file while mounted", whatever became of its other names before.
        let hard_links = self.setting.index == Index::Off;
        self.same("what haosfs had written", &kernel, &written, Tolerance { hard_links, ..TOLERANCE });
        let [haosfs, _] = self.turn(Driver::Haosfs, None);
        self.same("what the kernel wrote after it", &last, &haosfs, TOLERANCE);
    }
}

fn all(lower: &Lower, homes: &Path, same_file_system: bool) {
    for (n, setting) in settings().into_iter().enumerate() {
        let home = homes.join(n.to_string());
        fs::create_dir(&home).unwrap();
        let numbers_stay = same_file_system || setting.xino == "on";
        Upper { lower, home: &home, setting, numbers_stay }.changes_hands();
        remove_dir_all(&home).unwrap();
    }
}

#[test]
fn over_images() {
    if can_run("over_images", NEEDS) {
        let (ground, scratch) = (Ground::image(&["-exports"], history::plant), Scratch::new(Fs::Ext4));
        all(ground.lower(), scratch.path(), false);
    }
}

#[test]
fn over_directories() {
    if can_run("over_directories", NEEDS) {
        let scratch = Scratch::new(Fs::Ext4);
        history::plant(&scratch.dir("tree"));
        all(&Lower::Dir(scratch.path().join("tree")), &scratch.dir("homes"), true);
    }
}

fn uuid(upper: &Path) -> Option<Vec<u8>> {
    let mut value = [0; 64];
    rustix::fs::lgetxattr(upper, "trusted.overlay.uuid", value.as_mut_slice()).ok().map(|len| value[..len].to_vec())
}

#[test]
fn uuids_are_the_kernel_s() {
    if !can_run("uuids_are_the_kernel_s", NEEDS) {
        return;
    }
    let ground = Ground::directory(history::plant);
    let had = |before: &str, mode: &str, driver: Driver| {
        let home = ground.tree().with_file_name(format!("{before}-{mode}-{}", driver.name()));
        fs::create_dir(&home).unwrap();
        let option = format!("uuid={before}");
        let mut union = ground.mount_with(Driver::Kernel, &home, &[option.as_str()]);
        // Something below is copied up, so the upper is old from now on.
        fs::remove_file(union.path().join("d/solo")).unwrap();
        union.unmount();
        let old = uuid(union.upper());
        ground.mount_with(driver, &home, &[format!("uuid={mode}").as_str()]).unmount();
        let new = uuid(union.upper());
        assert!(old.is_none() || old == new, "{before} {mode} {driver:?}");
        new.map(|uuid| (uuid.len(), uuid[6] >> 4, uuid[8] >> 6))
    };
    for before in ["null", "on"] {
        for mode in ["null", "off", "auto", "on"] {
            let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| had(before, mode, driver));
            assert_eq!(kernel, haosfs, "{before}, then {mode}");
        }
    }
    for mode in ["null", "off", "auto", "on"] {
        let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| {
            let home = ground.tree().with_file_name(format!("fresh-{mode}-{}", driver.name()));
            fs::create_dir(&home).unwrap();
            let mut union = ground.mount_with(driver, &home, &[format!("uuid={mode}").as_str()]);
            union.unmount();
            uuid(union.upper()).map(|uuid| uuid.len())
        });
        assert_eq!(kernel, haosfs, "a new upper with {mode}");
    }
}
