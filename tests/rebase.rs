//! The generation of an upper for a trial: what the user changed is under the new image, what was merely copied is not, and the old
//! generation is as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[path = "rebase/story.rs"]
mod story;
mod tree;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use haosfs::config::image_source::ImageSource;
use haosfs::config::store::{self, Stored};
use haosfs::image::{Image, Options};
use haosfs::mount::image_choice::base_of;
use haosfs::mount::trial::{self, InUse};
use haosfs::sys::replace::Rights;
use haosfs::update::meta::{Backend, Meta};
use haosfs::update::uppers::Uppers;
use mounted::requirement::{Requirement, can_run, tool};
use mounted::scratch::{Fs, Scratch};
use mounted::squashfs::pack;
use mounted::union::{Driver, Lower, Union};
use tree::compare::{Tolerance, assert_same};
use tree::snapshot::Snapshot;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

const OLD: &str = "haos-x86_64_1.0.squashfs";
const NEW: &str = "haos-x86_64_2.0.squashfs";

/// One appliance at a time: mkfs runs in a mount namespace of its own, whose copies of mounts keep a kernel union alive until it ends,
/// and with it the upper in use.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// An appliance on one file system.
struct Home {
    _scratch: Scratch,
    path: PathBuf,
    stored: Stored,
    _turn: MutexGuard<'static, ()>,
}

impl Home {
    fn new(fs: Fs) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::new(fs);
        let path = scratch.dir("haos");
        for (name, plant) in [(OLD, story::old as fn(&Path)), (NEW, story::new)] {
            let tree = scratch.dir("tree");
            plant(&tree);
            pack(&tree, &path.join(name), &["-exports"]);
            fs::remove_dir_all(tree).unwrap();
        }
        fs::create_dir(path.join("data")).unwrap();
        fs::write(path.join("haos.ini"), format!("[haos]\ndata_partition = ./data\nsystem_image = {OLD}\n")).unwrap();
        let stored = store::read(&path.join("haos.ini")).unwrap().unwrap();
        let image = path.join(OLD);
        let base = base_of(&Image::open(&image, &Options::default()).unwrap(), &image).unwrap();
        let meta =
            Meta { base, backend: Some(Backend::Kernel), parent: None, mounts: 0, parent_mounts: 0, clean: true, used: true };
        Uppers::create(&path.join("data"), &meta, Rights { perm: 0o755, owner: None }).unwrap();
        Self { _scratch: scratch, path, stored, _turn: turn }
    }

    fn generation(&self, number: u64) -> PathBuf {
        self.path.join("data/haosfs/uppers").join(number.to_string())
    }

    fn mount(&self, driver: Driver, image: &str, number: u64) -> Union {
        Union::new(driver, &[Lower::Image(self.path.join(image))], &self.generation(number))
    }

    fn prepare(&self, anew: bool) -> u64 {
        trial::prepare(&self.stored, &self.path, &image(NEW), anew).unwrap()
    }

    fn numbers(&self) -> Vec<u64> {
        Uppers::open(&self.path.join("data")).unwrap().unwrap().numbers().unwrap()
    }

    fn current(&self) -> u64 {
        Uppers::open(&self.path.join("data")).unwrap().unwrap().current().unwrap().number
    }
}

fn image(name: &str) -> ImageSource {
    ImageSource::parse(name).unwrap()
}

/// What a path shows: the text of a file, the target of a link.
fn shown(path: &Path) -> Option<String> {
    let found = fs::symlink_metadata(path).ok()?;
    Some(if found.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_string().unwrap()
    } else {
        fs::read_to_string(path).unwrap()
    })
}

/// The part of a tree below a directory.
fn below(snapshot: &Snapshot, directory: &str) -> Snapshot {
    let inside = format!("{directory}/").into_bytes();
    let names = snapshot.names.iter().filter(|(name, _)| name.starts_with(&inside));
    let part = Snapshot { names: names.map(|(name, seen)| (name.clone(), seen.clone())).collect() };
    assert!(!part.names.is_empty(), "{directory}");
    part
}

fn judge_union(root: &Path, what: &str) {
    for (path, expected) in story::SHOWN {
        assert_eq!(shown(&root.join(path)).as_deref(), expected, "{what}: {path}");
    }
    for (path, mode) in story::MODES {
        assert_eq!(fs::metadata(root.join(path)).unwrap().mode() & 0o7777, mode, "{what}: {path}");
    }
    let inside = fs::metadata(root.join("inside")).unwrap();
    assert_eq!((inside.uid(), inside.gid()), (7, 8), "{what}");
    let mut value = [0; 9];
    let len = rustix::fs::getxattr(root.join("inside"), "user.image", value.as_mut_slice()).unwrap();
    assert_eq!(&value[..len], b"new", "{what}");
    assert_eq!(fs::metadata(root.join("times/same")).unwrap().mtime(), 12, "{what}");
    let linked = ["link/a", "link/b"].map(|path| fs::metadata(root.join(path)).unwrap().ino());
    assert_eq!(linked[0], linked[1], "{what}");
}

fn judge_upper(home: &Home, what: &str) {
    let [old, new] = [1, 2].map(|number| Snapshot::read(&home.generation(number).join("upper")).unwrap());
    for path in story::LEFT_OUT {
        assert!(old.names.contains_key(path.as_bytes()) || path == "left/other" || path == "times/changed", "{what}: {path}");
        assert!(!new.names.contains_key(path.as_bytes()), "{what}: {path} is in the new upper");
    }
    for (directory, xattrs) in [("grown", false), ("special", false), ("opaque/dir", false), ("link", true)] {
        // A file with several names has no origin any more.
        let tolerance = Tolerance { xattrs, ..Tolerance::default() };
        assert_same(&format!("{what}: {directory}"), &below(&old, directory), &below(&new, directory), tolerance);
    }
    let blocks = |number: u64, path: &str| fs::metadata(home.generation(number).join("upper").join(path)).unwrap().blocks();
    for path in ["special/sparse", "grown/sparse/all-hole", "grown/sparse/holes-between"] {
        assert!(blocks(2, path) <= blocks(1, path) + 8, "{what}: {path} has {} blocks", blocks(2, path));
    }
    assert_eq!(fs::read_dir(home.generation(2).join("work")).unwrap().count(), 0, "{what}");
}

fn judge_report(home: &Home, what: &str) {
    let text = fs::read_to_string(home.generation(2).join("rebase-report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["format"], &report["parent"], &report["policy"]), (&1.into(), &1.into(), &"mine".into()));
    assert_eq!((&report["from"]["name"], &report["to"]["version"]), (&OLD.into(), &"2.0".into()));
    let field = |conflict: &serde_json::Value, name: &str| conflict[name].as_str().unwrap().to_owned();
    let found: Vec<[String; 4]> = report["conflicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|conflict| ["path", "user", "image", "outcome"].map(|name| field(conflict, name)))
        .collect();
    let mut expected = story::CONFLICTS.map(|conflict| conflict.map(str::to_owned));
    expected.sort();
    assert_eq!(found, expected, "{what}");
}

/// `haosfs check` finds nothing in the new upper.
fn judge_marks(home: &Home, what: &str) {
    let mut check = Command::new(env!("CARGO_BIN_EXE_haosfs"));
    let at = home.generation(2);
    check.arg("check").arg(at.join("upper")).arg(at.join("work")).arg("--lower").arg(home.path.join(NEW));
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
}

/// A trial, and its end: `driver` had the old upper, `then` has the new one.
fn tells_the_story(fs: Fs, driver: Driver, then: Driver) {
    let what = format!("{} by {}", fs.name(), driver.name());
    let home = Home::new(fs);
    let mut union = home.mount(driver, OLD, 1);
    story::act(union.path());
    union.unmount();
    let before = Snapshot::read(&home.generation(1)).unwrap();
    assert_eq!(home.prepare(true), 2);
    let is_subvolume = fs::metadata(home.generation(2)).unwrap().ino() == 256;
    assert_eq!(is_subvolume, fs == Fs::Btrfs, "{what}: a snapshot where that can be");
    judge_upper(&home, &what);
    judge_report(&home, &what);
    judge_marks(&home, &what);
    let mut union = home.mount(then, NEW, 2);
    judge_union(union.path(), &what);
    fs::write(union.path().join("tried"), "x").unwrap();
    union.unmount();
    assert_eq!(home.prepare(false), 2, "a later attempt goes on with what the first made");
    assert!(home.generation(2).join("upper/tried").exists());
    assert_eq!(home.prepare(true), 3, "a first attempt begins anew");
    assert!(!home.generation(3).join("upper/tried").exists() && !home.generation(2).exists());
    assert_same(&format!("{what}: the old upper"), &before, &Snapshot::read(&home.generation(1)).unwrap(), Tolerance::default());
    trial::discard(&home.stored, &home.path, &image(NEW)).unwrap();
    assert_eq!((home.numbers(), home.current()), (vec![1], 1));
    assert_same(&format!("{what}: left"), &before, &Snapshot::read(&home.generation(1)).unwrap(), Tolerance::default());
    let union = home.mount(driver, OLD, 1);
    assert_eq!(shown(&union.path().join("edited/changed")).unwrap(), "mine\n");
}

fn on(test: &str, fs: Fs) {
    let mkfs = format!("mkfs.{}", fs.name());
    if can_run(test, NEEDS) && (fs == Fs::Tmpfs || tool(&mkfs).is_some() || can_run(test, &[Requirement::Tool("mkfs")])) {
        tells_the_story(fs, Driver::Kernel, Driver::Haosfs);
        tells_the_story(fs, Driver::Haosfs, Driver::Kernel);
    }
}

#[test]
fn a_trial_on_ext4() {
    on("a_trial_on_ext4", Fs::Ext4);
}

#[test]
fn a_trial_on_xfs() {
    on("a_trial_on_xfs", Fs::Xfs);
}

#[test]
fn a_trial_on_btrfs() {
    on("a_trial_on_btrfs", Fs::Btrfs);
}

#[test]
fn a_trial_on_tmpfs() {
    on("a_trial_on_tmpfs", Fs::Tmpfs);
}

#[test]
fn a_confirmed_generation_is_in_use_and_can_be_left_again() {
    if !can_run("a_confirmed_generation_is_in_use_and_can_be_left_again", NEEDS) {
        return;
    }
    let home = Home::new(Fs::Ext4);
    let mut union = home.mount(Driver::Kernel, OLD, 1);
    story::act(union.path());
    let busy = trial::prepare(&home.stored, &home.path, &image(NEW), true).unwrap_err().to_string();
    assert!(busy.contains("upper generation 1 is in use by a mount"), "{busy}");
    union.unmount();
    home.prepare(true);
    for (name, current) in [(NEW, 2), (NEW, 2), (OLD, 1), (NEW, 2)] {
        assert!(matches!(trial::take_into_use(&home.stored, &home.path, &image(name)), Ok(InUse::Its)));
        assert_eq!(home.current(), current);
    }
    let sources = [image(OLD), image(NEW)];
    assert_eq!(trial::collect(&home.stored, &home.path, &[&sources[0], &sources[1]], false).unwrap().clear().unwrap(), [0; 0]);
    assert_eq!(trial::collect(&home.stored, &home.path, &[&sources[1]], true).unwrap().clear().unwrap(), [1]);
    assert_eq!(trial::collect(&home.stored, &home.path, &[&sources[1]], false).unwrap().clear().unwrap(), [1]);
    assert_eq!(home.numbers(), [2]);
}

/// Where a rollback leads stays, whatever the image is called by now, and while it is tried once more.
#[test]
fn the_upper_of_the_image_before_is_not_collected() {
    if !can_run("the_upper_of_the_image_before_is_not_collected", NEEDS) {
        return;
    }
    let mut home = Home::new(Fs::Ext4);
    home.prepare(true);
    let _its = trial::take_into_use(&home.stored, &home.path, &image(NEW)).unwrap();
    home.stored.config.system_image = image(NEW);
    fs::rename(home.path.join(OLD), home.path.join("renamed.squashfs")).unwrap();
    let sources = [image(NEW), image("renamed.squashfs")];
    let collect = || trial::collect(&home.stored, &home.path, &[&sources[0], &sources[1]], false).unwrap().clear().unwrap();
    assert_eq!(collect(), [0; 0]);
    assert_eq!(trial::prepare(&home.stored, &home.path, &sources[1], true).unwrap(), 3);
    assert_eq!(collect(), [0; 0]);
    assert_eq!(home.numbers(), [1, 2, 3]);
    // An image that is gone is known by its name.
    fs::remove_file(home.path.join("renamed.squashfs")).unwrap();
    assert_eq!(collect(), [1], "it had another name when its upper was made");
    assert_eq!(home.numbers(), [2, 3]);
}

/// Nothing is taken for a copy of what cannot be read.
#[test]
fn without_the_old_image_all_of_the_upper_stays() {
    if !can_run("without_the_old_image_all_of_the_upper_stays", NEEDS) {
        return;
    }
    let home = Home::new(Fs::Tmpfs);
    let mut union = home.mount(Driver::Haosfs, OLD, 1);
    story::act(union.path());
    union.unmount();
    let old = home.path.join(OLD);
    // Data begin behind the superblock of 96 bytes; tables, by which the image is known, come last.
    fs::File::options().write(true).open(&old).unwrap().write_all_at(&[0xff; 8], 96).unwrap();
    let upper = |number: u64| Snapshot::read(&home.generation(number).join("upper")).unwrap();
    assert_eq!(home.prepare(true), 2);
    assert!(upper(2).names.contains_key(b"copied/changed".as_slice()), "its data are damaged");
    assert!(!upper(2).names.contains_key(b"empty".as_slice()), "a directory has no data");
    fs::remove_file(old).unwrap();
    assert_eq!(home.prepare(true), 3);
    let whiteouts = ["removed/gone"];
    let expected: Vec<Vec<u8>> = upper(1)
        .names
        .into_keys()
        .filter(|name| !whiteouts.iter().any(|whiteout| whiteout.as_bytes() == name.as_slice()))
        .collect();
    assert_eq!(upper(3).names.into_keys().collect::<Vec<_>>(), expected);
}

/// A full partition costs the trial, not the upper.
#[test]
fn without_room_there_is_no_trial_and_nothing_is_left() {
    if !can_run("without_room_there_is_no_trial_and_nothing_is_left", NEEDS) {
        return;
    }
    let home = Home::new(Fs::Tmpfs);
    let mut union = home.mount(Driver::Haosfs, OLD, 1);
    fs::write(union.path().join("large"), vec![b'x'; 9 << 20]).unwrap();
    union.unmount();
    let mut filler = fs::File::create(home.path.join("filler")).unwrap();
    while filler.write_all(&[0; 1 << 20]).is_ok() {}
    let before = Snapshot::read(&home.generation(1)).unwrap();
    let refused = trial::prepare(&home.stored, &home.path, &image(NEW), true).unwrap_err();
    assert_eq!(refused.errno(), haosfs::error::Errno::ENOSPC, "{refused}");
    assert!(!home.path.join("data/haosfs/uppers/.unfinished").exists());
    assert_same("the old upper", &before, &Snapshot::read(&home.generation(1)).unwrap(), Tolerance::default());
    drop(filler);
    fs::remove_file(home.path.join("filler")).unwrap();
    assert_eq!(home.prepare(true), 2);
    assert_eq!(fs::read(home.generation(2).join("upper/large")).unwrap().len(), 9 << 20);
}

/// What depends on its image cannot be moved to another.
#[test]
fn a_redirect_is_refused() {
    if !can_run("a_redirect_is_refused", NEEDS) {
        return;
    }
    let home = Home::new(Fs::Ext4);
    let options = ["redirect_dir=on"];
    let lower = Lower::Image(home.path.join(OLD));
    let mut union = Union::with_options(Driver::Kernel, &[lower], &home.generation(1), &options);
    fs::rename(union.path().join("deep"), union.path().join("moved")).unwrap();
    union.unmount();
    let refused = trial::prepare(&home.stored, &home.path, &image(NEW), true).unwrap_err().to_string();
    assert!(refused.contains("moved in the upper has a redirect attribute"), "{refused}");
    assert_eq!(home.numbers(), [1]);
}
