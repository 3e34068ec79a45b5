//! What a program was told to be written is on the disk.

#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)]

#[path = "cli/support.rs"]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::sync::Mutex;

use support::{Scratch, can_run, is_root, wait_until};

/// What the image's file has, and what is written over it in place.
const OLD: &[u8] = b"hello\n";
const NEW: &[u8] = b"HELLO\n";

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

/// A program that another test has just forked may have a file open still.
fn umount(scratch: &Scratch, name: &str) {
    let done = || Command::new("umount").arg(scratch.path(name)).output().unwrap().status.success();
    wait_until("it is unmounted", done);
}

/// A union whose upper is on a file system of its own, at `disk`.
fn union_on(disk: &[&str], options: &str) -> Scratch {
    union_with_fault(disk, options, None)
}

/// With a fault to order (src/sys/fault.rs), which waits for the file `journal`.
fn union_with_fault(disk: &[&str], options: &str, fault: Option<&str>) -> Scratch {
    let scratch = Scratch::with_image();
    mount_union(&scratch, disk, &format!("--backend fuse {options}"), fault);
    scratch
}

fn mount_union(scratch: &Scratch, disk: &[&str], options: &str, fault: Option<&str>) {
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    scratch.mkdir("disk");
    run("mount", &[disk, &[&path("disk")]].concat());
    ["disk/upper", "disk/work"].into_iter().for_each(|name| scratch.mkdir(name));
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "disk/upper", "disk/work"].map(path);
    let mount = ["mount", &image, &mnt, "--upper", &upper, "--work", &work];
    let mut command = Command::new(support::HAOSFS);
    command.args(mount).args(options.split_whitespace());
    command.envs(fault.map(|fault| ("HAOSFS_FAULT", format!("{fault}:{}", path("journal")))));
    let mounted = command.output().unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
}

/// ext4 that writes its journal out when it is told to. It counts a new name, as a copy-up gives, among what fdatasync(2) may leave out.
fn writes_over_a_file_of_the_image(test: &str, options: &str, before: impl Fn(&File)) {
    if !can_run(test, is_root() && support::has_tool("losetup"), "needs root and losetup") {
        return;
    }
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let device = disk.path().to_str().unwrap();
    run("mkfs.ext4", &["-q", device]);
    let scratch = union_on(&["-o", "loop,commit=300", device], options);
    run("sync", &["-f", scratch.path("disk").to_str().unwrap()]);
    let file = File::options().read(true).write(true).open(scratch.path("mnt/hello")).unwrap();
    before(&file);
    file.write_all_at(NEW, 0).unwrap();
    file.sync_data().unwrap();

    // As a power cut just now would leave it.
    let left = scratch.path("left.img");
    fs::copy(disk.path(), &left).unwrap();
    scratch.mkdir("left");
    run("mount", &["-o", "loop", left.to_str().unwrap(), scratch.path("left").to_str().unwrap()]);
    let upper = scratch.path("left/upper/hello");
    assert_eq!(fs::read(&upper).unwrap(), NEW);
    let mark = rustix::fs::getxattr(&upper, "trusted.overlay.metacopy", &mut [0; 16]);
    assert_eq!(mark.unwrap_err(), rustix::io::Errno::NODATA, "the image's data would show");
    drop(file);
    scratch.umount("mnt");
    umount(&scratch, "left");
    umount(&scratch, "disk");
}

#[test]
fn data_that_were_synchronised_after_a_copy_up_survive() {
    writes_over_a_file_of_the_image("data_that_were_synchronised_after_a_copy_up_survive", "", |_| {});
}

#[test]
fn data_that_were_synchronised_after_their_copy_up_survive() {
    writes_over_a_file_of_the_image("data_that_were_synchronised_after_their_copy_up_survive", "-o metacopy=on", |file| {
        file.set_permissions(PermissionsExt::from_mode(0o600)).unwrap();
        file.sync_all().unwrap();
        let mut bytes = [0; OLD.len()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, OLD);
    });
}

/// The kernel writes pages back by requests of whose answers it looks at errors alone.
#[test]
fn a_mapping_that_finds_no_room_is_told() {
    if !can_run("a_mapping_that_finds_no_room_is_told", is_root(), "needs root") {
        return;
    }
    let scratch = union_on(&["-t", "tmpfs", "-o", "size=256k", "none"], "");
    let file = File::options().read(true).write(true).create_new(true).open(scratch.path("mnt/mapped")).unwrap();
    file.set_len(512 << 10).unwrap();
    // SAFETY: nobody else changes the file.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    map.fill(1);
    let flushed = map.flush().and_then(|()| file.sync_all());
    assert_eq!(flushed.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    drop((map, file));
    scratch.umount("mnt");
    umount(&scratch, "disk");
}

/// The kernel tells of what could not be written once for each time the file was opened; upper files are opened once for all of them.
#[test]
fn each_program_is_told_what_was_lost() {
    if !can_run("each_program_is_told_what_was_lost", is_root(), "needs root") {
        return;
    }
    let scratch = union_with_fault(&["-t", "tmpfs", "none"], "", Some("eio:1"));
    let path = scratch.path("mnt/hello");
    let mine = File::options().read(true).write(true).open(&path).unwrap();
    mine.write_all_at(NEW, 0).unwrap();
    mine.sync_all().unwrap();
    fs::write(scratch.path("journal"), "").unwrap();
    let sync = || Command::new("sync").arg(&path).output().unwrap();
    let theirs = sync();
    let words = String::from_utf8_lossy(&theirs.stderr).into_owned();
    assert!(!theirs.status.success() && words.contains("Input/output error"), "{theirs:?}");
    assert!(fs::read_to_string(scratch.path("journal")).unwrap().lines().count() == 1, "the upper's file system was asked once");
    assert_eq!(mine.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
    mine.sync_data().unwrap();
    drop(mine);
    scratch.umount("mnt");
    umount(&scratch, "disk");
}

/// One of those who have many files drops what the kernel keeps, also of the others' files.
static MANY: Mutex<()> = Mutex::new(());

/// More files than the daemon keeps open (`MOST` of src/union/open.rs), by which the descriptors of those before are closed.
fn write_many(scratch: &Scratch) {
    let open = |n| File::options().write(true).create(true).truncate(false).open(scratch.path(&format!("mnt/many{n}"))).unwrap();
    (0..1100).for_each(|n| open(n).write_all_at(b"x", 0).unwrap());
}

/// What a descriptor that was closed would have told is asked for once for all such files.
#[test]
fn files_whose_descriptors_were_closed_are_told() {
    if !can_run("files_whose_descriptors_were_closed_are_told", is_root(), "needs root") {
        return;
    }
    let _alone = MANY.lock().unwrap();
    let scratch = union_with_fault(&["-t", "tmpfs", "none"], "", Some("eio:2"));
    let create = |name| File::create(scratch.path(&format!("mnt/{name}"))).unwrap();
    let [first, second, unwritten] = ["first", "second", "unwritten"].map(create);
    [&first, &second].into_iter().for_each(|file| file.write_all_at(NEW, 0).unwrap());
    write_many(&scratch);
    let last = create("last");
    last.write_all_at(NEW, 0).unwrap();
    let journal = scratch.path("journal");
    fs::write(&journal, "").unwrap();
    let errno = |file: &File| file.sync_all().err().and_then(|e| e.raw_os_error());
    assert_eq!([&first, &second, &unwritten, &last].map(errno), [Some(libc::EIO), Some(libc::EIO), None, None]);
    assert_eq!([&first, &second].map(errno), [None, None], "once");
    let steps = fs::read_to_string(&journal).unwrap();
    let asked: Vec<&str> = steps.lines().filter(|step| step.ends_with("syncfs")).collect();
    assert_eq!(asked.len(), 1, "{steps}");
    drop([first, second, unwritten, last]);
    scratch.umount("mnt");
    umount(&scratch, "disk");
}

/// A disk that cannot take what was written, which the kernel finds while nobody has the upper's file open, and then forgets the file.
#[test]
fn what_a_disk_lost_meanwhile_is_told() {
    if !can_run("what_a_disk_lost_meanwhile_is_told", is_root() && support::has_tool("losetup"), "needs root and losetup") {
        return;
    }
    let _alone = MANY.lock().unwrap();
    for backend in ["kernel", "fuse"] {
        let scratch = Scratch::with_image();
        scratch.mkdir("ram");
        run("mount", &["-t", "tmpfs", "-o", "size=48m", "none", scratch.path("ram").to_str().unwrap()]);
        let device = scratch.path("ram/disk.img");
        File::create(&device).unwrap().set_len(256 << 20).unwrap();
        let device = device.to_str().unwrap();
        run("mkfs.ext4", &["-q", "-N", "4096", "-O", "^has_journal", device]);
        mount_union(&scratch, &["-o", "loop", device], &format!("--backend {backend}"), None);
        let file = File::create(scratch.path("mnt/mine")).unwrap();
        write_many(&scratch);
        // From here on nothing but the file's bytes has no place on the disk yet.
        run("sync", &["-f", scratch.path("disk").to_str().unwrap()]);
        file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
        write_many(&scratch);
        let balloon = scratch.path("ram/balloon");
        let full = fs::write(&balloon, vec![1; 64 << 20]).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        // It asks no file system for errors, so nobody is told of any.
        rustix::fs::sync();
        for _ in 0..2 {
            fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        }
        assert!(file.sync_all().is_err(), "{backend}");
        file.sync_all().unwrap();
        fs::remove_file(balloon).unwrap();
        drop(file);
        scratch.umount("mnt");
        umount(&scratch, "disk");
        umount(&scratch, "ram");
    }
}
