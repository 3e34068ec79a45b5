//! What is mounted on a name of a union stays there, whatever a listing says of that name.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use rustix::fs::XattrFlags;
use support::{Scratch, can_run, has_tool, is_root};

/// The kernel takes mounts away from a name that has become another inode.
#[test]
fn a_name_that_cannot_be_looked_up_keeps_its_mount() {
    let possible = is_root() && has_tool("umount");
    if !can_run("a_name_that_cannot_be_looked_up_keeps_its_mount", possible, "needs root and umount") {
        return;
    }
    let scratch = Scratch::with_image();
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "upper", "work"].map(|name| scratch.path(name).into_os_string());
    let words = ["mount", "--backend", "fuse", "--upper", "--work"].map(OsString::from);
    let [mount, backend, fuse, at_upper, at_work] = words;
    let arguments = [mount, backend, fuse, image, mnt, at_upper, upper, at_work, work].map(|word| word.into_string().unwrap());
    scratch.haosfs(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
    let dir = scratch.path("mnt/dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("below"), "the union's").unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&dir).status().unwrap().success());
    fs::write(dir.join("above"), "the mount's").unwrap();

    // From now on a look-up fails, as it would where the disk answers with an error.
    rustix::fs::setxattr(scratch.path("upper/dir"), "trusted.overlay.redirect", b"a//b", XattrFlags::empty()).unwrap();
    fs::write(scratch.path("mnt/new"), "").unwrap();
    let names: Vec<OsString> = fs::read_dir(scratch.path("mnt")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.contains(&"dir".into()) && names.contains(&"new".into()), "{names:?}");
    assert_eq!(fs::read_to_string(dir.join("above")).unwrap(), "the mount's");
    assert!(Command::new("umount").arg(&dir).status().unwrap().success());
    assert_eq!(fs::read_to_string(dir.join("below")).unwrap(), "the union's");
    scratch.umount("mnt");
}
