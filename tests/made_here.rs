//! Directories that were made here, of whose names and attributes the daemon knows something without asking the upper.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs::{self, File, FileTimes};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::{Driver, Union};
use rustix::fs::{CWD, RenameFlags, renameat_with};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

fn ground() -> Ground {
    Ground::image(&[], |tree| {
        fs::create_dir_all(tree.join("old/deep")).unwrap();
        ["linked", "moved", "exchanged", "old/in", "old/deep/in"]
            .iter()
            .for_each(|name| fs::write(tree.join(name), name).unwrap());
    })
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound)
}

/// Names that are not there, each a request: from now on requests come in a burst.
fn begin_burst(dir: &Path) {
    (0..400).for_each(|n| assert!(is_absent(&dir.join(format!("absent-{n}")))));
}

/// A union in which a burst has begun in `new`, and what it is made of.
fn in_a_burst() -> (Ground, Union) {
    let ground = ground();
    let union = ground.mount(Driver::Haosfs, &[]);
    let dir = union.path().join("new");
    fs::create_dir(&dir).unwrap();
    begin_burst(&dir);
    (ground, union)
}

/// A name, and how the directory, which is in this root, gets it.
type Giving = (&'static str, fn(root: &Path, to: &Path));

/// What is moved to stands in the root before: `exchanged`, `moved` and `linked` below, and a tree that was made here.
const GIVINGS: [Giving; 9] = [
    ("made", |_, to| drop(File::create_new(to).unwrap())),
    ("Directory", |_, to| fs::create_dir(to).unwrap()),
    ("symbolic", |_, to| symlink("made", to).unwrap()),
    ("link", |_, to| fs::hard_link(to.with_file_name("made"), to).unwrap()),
    ("linked", |root, to| fs::hard_link(root.join("linked"), to).unwrap()),
    ("moved", |root, to| fs::rename(root.join("moved"), to).unwrap()),
    ("renamed", |_, to| fs::rename(to.with_file_name("link"), to).unwrap()),
    ("tree", |root, to| fs::rename(root.join("tree"), to).unwrap()),
    ("again", |_, to| {
        File::create_new(to).unwrap();
        fs::remove_file(to).unwrap();
        assert!(is_absent(to));
        fs::write(to, "again").unwrap();
    }),
];

#[test]
fn every_name_that_was_given_is_found() {
    if !can_run("every_name_that_was_given_is_found", NEEDS) {
        return;
    }
    let _alone = remembered();
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let ground = ground();
        let mut union = ground.mount(driver, &[]);
        let root = union.path().to_owned();
        fs::create_dir_all(root.join("tree/inner")).unwrap();
        fs::write(root.join("tree/inner/file"), "inner").unwrap();
        let dir = root.join("New");
        fs::create_dir(&dir).unwrap();
        begin_burst(&dir);
        for (name, give) in GIVINGS {
            let to = dir.join(name);
            assert!(is_absent(&to), "{driver:?} {name}");
            give(&root, &to);
            assert!(!is_absent(&to), "{driver:?} {name}");
        }
        let other = dir.join("Directory/other");
        fs::write(&other, "other").unwrap();
        assert!(is_absent(&dir.join("Directory/swapped")));
        for (name, to) in [(root.join("exchanged"), &other), (dir.join("made"), &dir.join("again"))] {
            renameat_with(CWD, &name, CWD, to, RenameFlags::EXCHANGE).unwrap();
            assert!(!is_absent(&name) && !is_absent(to), "{driver:?} {name:?}");
        }
        // What was moved knows its names as before.
        fs::rename(dir.join("tree"), dir.join("elsewhere")).unwrap();
        assert!(is_absent(&dir.join("elsewhere/later")));
        fs::write(dir.join("elsewhere/later"), "later").unwrap();
        let kept = renameat_with(CWD, root.join("old/in"), CWD, dir.join("elsewhere/later"), RenameFlags::NOREPLACE);
        assert_eq!(kept, Err(rustix::io::Errno::EXIST), "{driver:?}");
        fs::rename(root.join("old/in"), dir.join("elsewhere/in")).unwrap();
        drop_caches();
        for _ in 0..2 {
            assert!(is_absent(&dir.join("link")) && is_absent(&root.join("moved")), "{driver:?}");
            for (name, content) in [
                ("New/made", "again"),
                ("New/linked", "linked"),
                ("New/moved", "moved"),
                ("New/renamed", ""),
                ("New/again", ""),
                ("New/elsewhere/inner/file", "inner"),
                ("New/elsewhere/later", "later"),
                ("New/elsewhere/in", "old/in"),
                ("New/Directory/other", "exchanged"),
                ("exchanged", "other"),
            ] {
                assert_eq!(fs::read_to_string(root.join(name)).unwrap(), content, "{driver:?} {name}");
            }
            union.remount();
        }
    }
}

/// What the kernel has forgotten was not made here any more: nobody makes it forget meanwhile.
static REMEMBERED: Mutex<()> = Mutex::new(());

fn remembered() -> MutexGuard<'static, ()> {
    REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel forgets what nobody uses.
fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// The upper is not asked for names that it cannot have: one that somebody has put there meanwhile, which nobody may, is not seen.
#[test]
fn the_upper_is_not_asked_for_other_names() {
    if !can_run("the_upper_is_not_asked_for_other_names", NEEDS) {
        return;
    }
    let (_alone, ground) = (remembered(), ground());
    let mut union = ground.mount(Driver::Haosfs, &[]);
    fs::create_dir(union.path().join("old/made")).unwrap();
    fs::create_dir(union.path().join("123")).unwrap();
    for dir in ["old", "old/made", "123"] {
        fs::write(union.upper().join(dir).join("behind"), "").unwrap();
    }
    let is_seen = |union: &Union, dir: &str| !is_absent(&union.path().join(dir).join("behind"));
    assert!(!is_seen(&union, "old/made"));
    assert!(is_seen(&union, "old"), "it was not made here");
    assert!(is_seen(&union, "123"), "a name that tells nothing of upper and lower case");
    union.remount();
    assert!(is_seen(&union, "old/made"));
}

/// Who makes one file after the other is told attributes that were taken before he asked: they do not have the time that somebody has set in
/// the upper meanwhile, which nobody may.
#[test]
fn attributes_are_taken_before_they_are_asked_for() {
    if !can_run("attributes_are_taken_before_they_are_asked_for", NEEDS) {
        return;
    }
    let (_alone, (_ground, union)) = (remembered(), in_a_burst());
    let (dir, upper) = (union.path().join("new"), union.upper().join("new"));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let are_taken = |n: usize| {
        File::create_new(dir.join(n.to_string())).unwrap();
        // Elsewhere, for here the kernel would ask for the attributes first; and so many, or the burst would end.
        (0..20).for_each(|m| assert!(is_absent(&union.path().join(format!("old/absent-{n}-{m}")))));
        File::open(&upper).unwrap().set_times(FileTimes::new().set_modified(long_ago)).unwrap();
        fs::metadata(&dir).unwrap().modified().unwrap() != long_ago
    };
    let taken = (0..500).filter(|&n| are_taken(n)).count();
    // With one processor nobody has time.
    assert!(taken > 0 || thread::available_parallelism().is_ok_and(|n| n.get() == 1), "{taken}");
}

/// Two threads change one directory at a time: what it is shown to be afterwards is what it is in the upper.
#[test]
fn attributes_of_a_directory_are_those_after_its_last_change() {
    if !can_run("attributes_of_a_directory_are_those_after_its_last_change", NEEDS) {
        return;
    }
    let (_ground, union) = in_a_burst();
    let (dir, upper) = (union.path().join("new"), union.upper().join("new"));
    let (begins, ends) = (Barrier::new(2), Barrier::new(2));
    let take_turns = |name: &str, after: &dyn Fn(usize)| {
        for step in 0..600 {
            begins.wait();
            let at = dir.join(format!("{name}-{}", step / 6));
            match step % 6 {
                0 => drop(File::create_new(&at).unwrap()),
                1 => fs::set_permissions(&dir, fs::Permissions::from_mode(0o700 + u32::try_from(step % 64).unwrap())).unwrap(),
                2 => fs::remove_file(&at).unwrap(),
                3 => fs::create_dir(&at).unwrap(),
                4 => fs::rename(&at, at.with_extension("moved")).unwrap(),
                _ => fs::remove_dir(at.with_extension("moved")).unwrap(),
            }
            ends.wait();
            after(step);
        }
    };
    // Nobody may leave the other one waiting.
    let differences = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| take_turns("other", &|_| ()));
        take_turns("name", &|step| {
            let facts = |path: &Path| {
                let stat = fs::metadata(path).unwrap();
                (stat.mode(), stat.nlink(), stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec())
            };
            let (shown, is) = (facts(&dir), facts(&upper));
            if shown != is {
                differences.lock().unwrap().push((step, shown, is));
            }
        });
    });
    assert_eq!(differences.into_inner().unwrap(), []);
}

/// By either driver: who could not make a file is not told that others are absent.
#[test]
fn an_upper_that_has_failed_is_asked_again() {
    if !can_run("an_upper_that_has_failed_is_asked_again", NEEDS)
        || !can_run("an_upper_that_has_failed_is_asked_again", &["mkfs.xfs", "xfs_io"].map(Requirement::Tool))
    {
        return;
    }
    let changes: [fn(&Path) -> std::io::Result<()>; 3] = [
        |dir| File::create(dir.join("made")).map(drop),
        |dir| fs::rename(dir.join("x"), dir.join("y")),
        |dir| fs::hard_link(dir.join("x"), dir.join("y")),
    ];
    for (driver, change) in [Driver::Kernel, Driver::Haosfs].into_iter().flat_map(|driver| changes.map(|change| (driver, change)))
    {
        let (ground, scratch) = (ground(), Scratch::new(Fs::Xfs));
        let union = ground.mount_with(driver, &scratch.dir("home"), &[]);
        let dir = union.path().join("New");
        fs::create_dir(&dir).unwrap();
        File::create(dir.join("x")).unwrap();
        begin_burst(&dir);
        let shut = Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(scratch.path()).status().unwrap();
        assert!(shut.success());
        let made = change(&dir).unwrap_err();
        assert_eq!(made.raw_os_error(), Some(libc::EIO), "{driver:?} {made}");
        let other = fs::symlink_metadata(dir.join("other")).unwrap_err();
        assert_eq!(other.raw_os_error(), Some(libc::EIO), "{driver:?} {other}");
    }
}
