//! Lowers that are not plain trees, and directories that give way to others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[allow(dead_code, reason = "shared with the POSIX suite")]
#[path = "posix/assertions.rs"]
mod assertions;
mod mounted;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

use assertions::{exists, lstat, names, refused};
use mounted::daemon::drop_caches;
use mounted::ground::Ground;
use mounted::mount::{Mount, run};
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::union::{Driver, Lower, Union};
use mounted::user::{NOBODY, as_user};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Timespec, Timestamps, utimensat};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// Neither a redirect nor the data of a file with attributes only are followed.
const NOT_FOLLOWING: &[&str] = &["redirect_dir=nofollow", "metacopy=off"];

/// Has the kernel write an upper with a redirected directory `moved` and a file `owned` without data.
fn write_by_the_kernel(ground: &Ground) -> PathBuf {
    let kernel = ground.mount(Driver::Kernel, &["redirect_dir=on", "metacopy=on"]);
    fs::rename(kernel.path().join("dir"), kernel.path().join("moved")).unwrap();
    chown(kernel.path().join("owned"), Some(12), None).unwrap();
    kernel.upper().to_path_buf()
}

/// That upper as a lower, over the tree that the kernel had below it.
fn over_a_kernel_upper(ground: &Ground) -> Union {
    let upper = write_by_the_kernel(ground);
    let home = ground.home().join("second");
    fs::create_dir(&home).unwrap();
    Union::with_options(Driver::Haosfs, &[Lower::Dir(upper), Lower::Dir(ground.tree())], &home, NOT_FOLLOWING)
}

fn featured() -> Ground {
    Ground::directory(|tree| {
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/below"), b"below").unwrap();
        fs::write(tree.join("owned"), b"content of the lower").unwrap();
        fs::write(tree.join("plain"), b"plain").unwrap();
    })
}

#[test]
fn features_in_a_lower_directory_are_refused() {
    if !can_run("features_in_a_lower_directory_are_refused", NEEDS) {
        return;
    }
    let ground = featured();
    let union = over_a_kernel_upper(&ground);
    let (moved, owned) = (union.path().join("moved"), union.path().join("owned"));
    refused(fs::read(&owned), Errno::OPNOTSUPP);
    refused(OpenOptions::new().append(true).open(&owned), Errno::OPNOTSUPP);
    refused(chown(&owned, Some(13), None), Errno::OPNOTSUPP);
    refused(fs::read_dir(&moved), Errno::OPNOTSUPP);
    refused(fs::write(moved.join("new"), b""), Errno::OPNOTSUPP);
    refused(fs::rename(&owned, union.path().join("elsewhere")), Errno::OPNOTSUPP);
    assert_eq!(names(union.upper()), Vec::<String>::new());
    assert_eq!(fs::read(union.path().join("plain")).unwrap(), b"plain");
    refused(fs::metadata(union.path().join("dir")), Errno::NOENT);
}

#[test]
fn names_that_cannot_be_looked_up_are_listed() {
    if !can_run("names_that_cannot_be_looked_up_are_listed", NEEDS) {
        return;
    }
    let ground = featured();
    write_by_the_kernel(&ground);
    lists_what_it_refuses(&ground.mount(Driver::Haosfs, NOT_FOLLOWING));
    let ground = featured();
    lists_what_it_refuses(&over_a_kernel_upper(&ground));
}

fn lists_what_it_refuses(union: &Union) {
    for _ in 0..2 {
        assert_eq!(names(union.path()), ["moved", "owned", "plain"]);
        refused(fs::metadata(union.path().join("moved")), Errno::OPNOTSUPP);
    }
}

/// The kernel's overlayfs shows the lower's own directory, not what is mounted on it: so does haosfs.
fn a_mount_below_is_not_seen(make: impl Fn(&Path, &Path) -> Mount) {
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let ground = Ground::directory(|tree| {
            fs::create_dir_all(tree.join("x/mnt")).unwrap();
            fs::create_dir_all(tree.join("other/dir")).unwrap();
            fs::write(tree.join("other/file"), b"other").unwrap();
        });
        let mount = make(&ground.tree().join("other"), &ground.tree().join("x/mnt"));
        let union = ground.mount(driver, &[]);
        let x = union.path().join("x");
        assert_eq!(names(&x), ["mnt"], "{driver:?}");
        assert!(lstat(x.join("mnt")).is_dir(), "{driver:?}");
        assert_eq!(names(x.join("mnt")), Vec::<String>::new(), "{driver:?}");
        fs::remove_dir_all(&x).unwrap_or_else(|e| panic!("{driver:?}: {e}"));
        assert!(!exists(&x), "{driver:?}");
        assert_eq!(fs::read(union.path().join("other/file")).unwrap(), b"other", "{driver:?}");
        drop((union, mount));
    }
}

#[test]
fn a_file_system_mounted_in_a_lower_is_not_seen() {
    if can_run("a_file_system_mounted_in_a_lower_is_not_seen", NEEDS) {
        a_mount_below_is_not_seen(|_, at| {
            let mount = Mount::new(&["-t", "tmpfs"], Path::new("below"), at);
            fs::write(at.join("inside"), b"").unwrap();
            mount
        });
    }
}

#[test]
fn a_bind_mount_in_a_lower_is_not_seen() {
    if can_run("a_bind_mount_in_a_lower_is_not_seen", NEEDS) {
        a_mount_below_is_not_seen(|other, at| Mount::new(&["--bind"], other, at));
    }
}

#[test]
fn a_directory_of_whiteouts_gives_way_to_a_rename() {
    if !can_run("a_directory_of_whiteouts_gives_way_to_a_rename", NEEDS) {
        return;
    }
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let ground = Ground::image(&[], |tree| {
            fs::create_dir(tree.join("old")).unwrap();
            ["a", "b"].iter().for_each(|name| fs::write(tree.join("old").join(name), b"").unwrap());
        });
        let mut union = ground.mount(driver, &[]);
        let (old, new) = (union.path().join("old"), union.path().join("new"));
        ["a", "b"].iter().for_each(|name| fs::remove_file(old.join(name)).unwrap());
        fs::create_dir(&new).unwrap();
        fs::write(new.join("kept"), b"kept").unwrap();
        let replaced = File::open(&old).unwrap();
        fs::rename(&new, &old).unwrap_or_else(|e| panic!("{driver:?}: {e}"));
        assert!(replaced.metadata().unwrap().is_dir(), "{driver:?}");
        // The listing of a directory without a name ends at once, or with ENOENT (readdir.c, `IS_DEADDIR`).
        let listing =
            Dir::read_from(&replaced).unwrap().filter_map(|entry| entry.err().is_none_or(|e| e != Errno::NOENT).then_some(()));
        assert!(listing.count() <= 2, "{driver:?}");
        drop(replaced);
        for _ in 0..2 {
            assert_eq!(names(union.path()), ["old"], "{driver:?}");
            assert_eq!(names(union.path().join("old")), ["kept"], "{driver:?}");
            union.remount();
        }
    }
}

/// Inodes of several devices in one lower, some with the same number: each name shows its own.
#[test]
fn subvolumes_of_a_lower_are_seen() {
    if !can_run("subvolumes_of_a_lower_are_seen", &[NEEDS[0], NEEDS[1], NEEDS[2], Requirement::Tool("btrfs")]) {
        return;
    }
    let scratch = Scratch::new(Fs::Btrfs);
    let tree = scratch.dir("tree");
    for n in 0..4 {
        let subvolume = tree.join(format!("sub{n}"));
        run(Command::new("btrfs").args(["subvolume", "create"]).arg(&subvolume));
        fs::write(subvolume.join("inside"), format!("in {n}")).unwrap();
        fs::write(tree.join(format!("plain{n}")), format!("plain {n}")).unwrap();
    }
    let home = open_temp_dir();
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let home = home.path().join(driver.name());
        fs::create_dir(&home).unwrap();
        let union = Union::new(driver, &[Lower::Dir(tree.clone())], &home);
        for round in ["written", "written again"] {
            assert_eq!(names(union.path()).len(), 8, "{driver:?}");
            if driver == Driver::Haosfs {
                assert_eq!(numbers(union.path(), round).len(), 8);
            }
            for n in 0..4 {
                let (inside, plain) = (union.path().join(format!("sub{n}/inside")), union.path().join(format!("plain{n}")));
                fs::read_dir(union.path().join(format!("sub{n}"))).unwrap().for_each(|entry| drop(entry.unwrap()));
                if round == "written" {
                    assert_eq!(fs::read_to_string(&inside).unwrap(), format!("in {n}"), "{driver:?}");
                    assert_eq!(fs::read_to_string(&plain).unwrap(), format!("plain {n}"), "{driver:?}");
                }
                fs::write(&inside, round).unwrap();
                fs::write(&plain, format!("{round} {n}")).unwrap();
                assert_eq!(fs::read_to_string(&inside).unwrap(), round, "{driver:?}");
                assert_eq!(fs::read_to_string(&plain).unwrap(), format!("{round} {n}"), "{driver:?}");
            }
        }
    }
}

/// The kernel's overlayfs shows what lies in the upper below a mount, whenever it was mounted, and leaves the mount free to go.
#[test]
fn what_is_mounted_in_an_upper_is_not_seen() {
    if !can_run("what_is_mounted_in_an_upper_is_not_seen", NEEDS) {
        return;
    }
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let ground = Ground::directory(|tree| {
            fs::create_dir(tree.join("merged")).unwrap();
            fs::write(tree.join("merged/lower"), b"lower").unwrap();
        });
        let upper = ground.home().join("upper");
        let covered = ["merged", "own", "later"].map(|name| upper.join(name));
        covered.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        covered.iter().for_each(|dir| fs::write(dir.join("below"), b"below").unwrap());
        let cover = |at: &Path| {
            let mount = Mount::new(&["-t", "tmpfs"], Path::new("above"), at);
            fs::write(at.join("inside"), b"").unwrap();
            mount
        };
        let before = [cover(&covered[0]), cover(&covered[1])];
        let union = ground.mount(driver, &[]);
        let after = cover(&covered[2]);
        let [merged, own, later] = ["merged", "own", "later"].map(|name| union.path().join(name));
        assert_eq!(names(&merged), ["below", "lower"], "{driver:?}");
        fs::write(merged.join("lower"), b"copied up").unwrap();
        fs::rename(merged.join("lower"), own.join("moved")).unwrap_or_else(|e| panic!("{driver:?}: {e}"));
        fs::rename(own.join("moved"), later.join("moved")).unwrap_or_else(|e| panic!("{driver:?}: {e}"));
        for mount in before.iter().chain([&after]) {
            // A program that another test has just forked may have a file open still.
            let begun = Instant::now();
            while let Err(e) = rustix::mount::unmount(mount.path(), UnmountFlags::NOFOLLOW) {
                assert!(e == Errno::BUSY && begun.elapsed() < Duration::from_secs(60), "{driver:?}: {e}");
                sleep(Duration::from_millis(50));
            }
        }
        assert_eq!((names(&merged), names(&own)), (vec!["below".to_owned()], vec!["below".to_owned()]), "{driver:?}");
        assert_eq!(names(&covered[2]), ["below", "moved"], "{driver:?}");
        assert_eq!(fs::read(later.join("moved")).unwrap(), b"copied up", "{driver:?}");
    }
}

/// Reads everything that stands in a lower made by [`aged`].
fn read_all(root: &Path) {
    assert_eq!(names(root), ["dir", "file", "link"]);
    assert_eq!(names(root.join("dir")), ["inner"]);
    assert_eq!(fs::read(root.join("file")).unwrap(), b"file");
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("file"));
}

/// Last read so long ago that the next reading is worth a stamp (mount(8), `relatime`).
const LONG_AGO: Timespec = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };

fn aged(owner: u32) -> Ground {
    Ground::directory(|tree| {
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/inner"), b"inner").unwrap();
        fs::write(tree.join("file"), b"file").unwrap();
        std::os::unix::fs::symlink("file", tree.join("link")).unwrap();
        for path in ["link", "file", "dir", ""].map(|name| tree.join(name)) {
            std::os::unix::fs::lchown(&path, Some(owner), Some(owner)).unwrap();
            let times = Timestamps { last_access: LONG_AGO, last_modification: LONG_AGO };
            utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    })
}

#[test]
fn reading_leaves_the_access_times_of_a_lower() {
    if !can_run("reading_leaves_the_access_times_of_a_lower", NEEDS) {
        return;
    }
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let ground = aged(0);
        read_all(ground.mount(driver, &[]).path());
        for name in ["link", "file", "dir", ""] {
            assert_eq!(lstat(ground.tree().join(name)).atime(), LONG_AGO.tv_sec, "{driver:?}: {name:?}");
        }
    }
}

/// Reads two files of an upper: one last read long ago, and one that was read after the last change of its inode. Which get a stamp?
fn read_in_upper(scratch: &Scratch, lower: &Path, driver: Driver, options: &[&str]) -> [bool; 2] {
    let home = scratch.dir(&format!("{}-{}", driver.name(), options.concat()));
    fs::create_dir(home.join("upper")).unwrap();
    let ahead = UNIX_EPOCH.elapsed().unwrap().as_secs() as i64 + 3600;
    let ahead = Timespec { tv_sec: ahead, tv_nsec: 0 };
    let files = [("old", LONG_AGO), ("fresh", ahead)].map(|(name, last_access)| (home.join("upper").join(name), last_access));
    for (file, last_access) in &files {
        fs::write(file, b"data").unwrap();
        utimensat(CWD, file, &Timestamps { last_access: *last_access, last_modification: LONG_AGO }, AtFlags::empty()).unwrap();
        chown(file, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let union = Union::with_options(driver, &[Lower::Dir(lower.to_owned())], &home, options);
    as_user(NOBODY, NOBODY, &[], || ["old", "fresh"].map(|name| assert_eq!(fs::read(union.path().join(name)).unwrap(), b"data")));
    if options == ["strictatime"] {
        let stamp = || lstat(union.path().join("fresh")).atime_nsec();
        let first = stamp();
        sleep(Duration::from_millis(50));
        assert_eq!(fs::read(union.path().join("fresh")).unwrap(), b"data");
        assert_ne!(stamp(), first, "{driver:?}: of the second reading");
    }
    drop(union);
    files.map(|(file, last_access)| lstat(file).atime() != last_access.tv_sec)
}

/// The mount of the union says it, whatever that of the upper's file system does.
#[test]
fn reading_stamps_access_times_of_the_upper_as_the_mount_says() {
    if !can_run("reading_stamps_access_times_of_the_upper_as_the_mount_says", NEEDS) {
        return;
    }
    for fs_options in ["relatime", "noatime"] {
        let scratch = Scratch::new(Fs::Ext4);
        let lower = scratch.dir("lower");
        run(Command::new("mount").args(["-o", &format!("remount,{fs_options}")]).arg(scratch.path()));
        for driver in [Driver::Kernel, Driver::Haosfs] {
            for (options, stamped) in [
                (&[][..], [true, false]),
                (&["relatime"], [true, false]),
                (&["strictatime"], [true, true]),
                (&["noatime"], [false, false]),
                (&["ro", "strictatime"], [false, false]),
            ] {
                assert_eq!(read_in_upper(&scratch, &lower, driver, options), stamped, "{driver:?} on {fs_options}: {options:?}");
            }
        }
    }
}

/// Without a mount of one's own that holds for one's own files and directories.
#[test]
fn reading_leaves_the_access_times_of_a_user_s_lower() {
    let needs = [NEEDS, &[Requirement::Tool("fusermount3")]].concat();
    if !can_run("reading_leaves_the_access_times_of_a_user_s_lower", &needs) {
        return;
    }
    let ground = aged(NOBODY);
    let union = ground.mount(Driver::HaosfsUser, &[]);
    as_user(NOBODY, NOBODY, &[], || read_all(union.path()));
    for name in ["file", "dir", ""] {
        assert_eq!(lstat(ground.tree().join(name)).atime(), LONG_AGO.tv_sec, "{name:?}");
    }
}

/// What readdir(3) and stat(2) say of the names in a directory: number and type of each, all numbers apart.
fn numbers(dir: &Path, what: &str) -> Vec<u64> {
    let entries = Dir::read_from(File::open(dir).unwrap()).unwrap().map(Result::unwrap);
    let mut told: Vec<u64> = Vec::new();
    for entry in entries.filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")) {
        let name = entry.file_name().to_str().unwrap();
        let found = lstat(dir.join(name));
        assert_eq!((entry.ino(), FileType::from_raw_mode(found.mode())), (found.ino(), entry.file_type()), "{what}: {name}");
        told.push(found.ino());
    }
    told.sort_unstable();
    told.dedup();
    told
}

/// An overlay of a container or a live system as a lower: directories, the files of its upper and those of its lower each have
/// an `st_dev` of their own, and numbers that may be the same.
#[test]
fn an_overlay_over_several_file_systems_is_a_lower() {
    if !can_run("an_overlay_over_several_file_systems_is_a_lower", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        fs::create_dir(tree.join("dd")).unwrap();
        ["lowfile", "dd/in"].iter().for_each(|name| fs::write(tree.join(name), name).unwrap());
        fs::hard_link(tree.join("lowfile"), tree.join("lowlink")).unwrap();
    });
    let below = ground.mount(Driver::Kernel, &[]);
    fs::write(below.path().join("upfile"), "upfile").unwrap();
    let scratch = Scratch::with_size(Fs::Tmpfs, 16 << 20);
    let mut union = Union::new(Driver::Haosfs, &[Lower::Dir(below.path().to_path_buf())], &scratch.dir("home"));
    let contents = [("dd/in", "dd/in"), ("lowfile", "lowfile"), ("lowlink", "lowfile"), ("upfile", "upfile")];
    for round in 0..2 {
        assert_eq!(names(union.path()), ["dd", "lowfile", "lowlink", "upfile"]);
        assert!(lstat(union.path().join("dd")).is_dir());
        for (name, content) in contents {
            assert_eq!(fs::read_to_string(union.path().join(name)).unwrap(), content, "{name}");
        }
        assert_eq!(numbers(union.path(), "overlay").len(), 3);
        // Whatever the overlay numbers its directories after they were forgotten.
        drop_caches();
        if round == 0 {
            union.remount();
        }
    }
    fs::write(union.path().join("dd/in"), "changed").unwrap();
    fs::write(union.path().join("lowlink"), "changed").unwrap();
    for name in ["dd/in", "lowfile", "lowlink"] {
        assert_eq!(fs::read_to_string(union.path().join(name)).unwrap(), "changed", "{name}");
    }
    assert_eq!(fs::read_to_string(below.path().join("dd/in")).unwrap(), "dd/in");
}
