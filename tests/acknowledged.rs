//! What a program was told to be written is on the disk.

#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)]

#[path = "cli/support.rs"]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;

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
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    scratch.mkdir("disk");
    run("mount", &[disk, &[&path("disk")]].concat());
    ["disk/upper", "disk/work"].into_iter().for_each(|name| scratch.mkdir(name));
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "disk/upper", "disk/work"].map(path);
    let mount = ["mount", "--backend", "fuse", &image, &mnt, "--upper", &upper, "--work", &work];
    let mut command = Command::new(support::HAOSFS);
    command.args(mount).args(options.split_whitespace());
    command.envs(fault.map(|fault| ("HAOSFS_FAULT", format!("{fault}:{}", path("journal")))));
    let mounted = command.output().unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
    scratch
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
