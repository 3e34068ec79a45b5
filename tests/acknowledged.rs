//! What a program was told to be written is on the disk.

#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)]

#[path = "cli/support.rs"]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;

use support::{Scratch, can_run, is_root};

/// What the image's file has, and what is written over it in place.
const OLD: &[u8] = b"hello\n";
const NEW: &[u8] = b"HELLO\n";

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

/// A union whose upper is on a file system of its own, at `disk`.
fn union_on(disk: &[&str], options: &str) -> Scratch {
    let scratch = Scratch::with_image();
    let path = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    scratch.mkdir("disk");
    run("mount", &[disk, &[&path("disk")]].concat());
    ["disk/upper", "disk/work"].into_iter().for_each(|name| scratch.mkdir(name));
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "disk/upper", "disk/work"].map(path);
    let mount = ["mount", "--backend", "fuse", &image, &mnt, "--upper", &upper, "--work", &work];
    scratch.haosfs(&[&mount, options.split_whitespace().collect::<Vec<_>>().as_slice()].concat()).succeeded();
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
    run("umount", &[scratch.path("left").to_str().unwrap()]);
    run("umount", &[scratch.path("disk").to_str().unwrap()]);
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
    run("umount", &[scratch.path("disk").to_str().unwrap()]);
}
