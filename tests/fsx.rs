//! fsx: random reads, writes, mappings and lengths of one file, checked at every step by fsx itself. On a new file and on one
//! that comes from the lower, on the kernel's overlayfs and on haosfs, over ext4.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs;
use std::path::Path;
use std::process::Command;

use mounted::mount::run;
use mounted::requirement::{Requirement, can_run, tool};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("fsx"), Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// Bytes of the file in the lower, which is as long as fsx lets files grow.
const LEN: usize = 262_144;

/// Operations of one run.
const OPERATIONS: &str = "1500";

/// Everything that fsx can do on Linux.
const GROWING: &str = r"
[weights]
close_open = 1
invalidate = 1
truncate = 5
fsync = 1
fdatasync = 1
posix_fallocate = 1
punch_hole = 2
sendfile = 2
posix_fadvise = 1
copy_file_range = 2
";

/// The file keeps its length and is not truncated when it is opened, so that the first write copies it up.
const FIXED: &str = r"
blockmode = true
nosizechecks = true
[weights]
close_open = 0
invalidate = 1
truncate = 0
fsync = 1
fdatasync = 1
posix_fallocate = 0
punch_hole = 2
sendfile = 2
copy_file_range = 2
";

fn exercise(file: &Path, config: &str, seed: u32) {
    let dir = open_temp_dir();
    let settings = dir.path().join("fsx.toml");
    fs::write(&settings, config).unwrap();
    let mut fsx = Command::new(tool("fsx").unwrap());
    fsx.arg("-f").arg(&settings).arg("-P").arg(dir.path()).args(["-N", OPERATIONS, "-S", &seed.to_string()]).arg(file);
    run(&mut fsx);
}

fn union(driver: Driver) {
    if !can_run(&format!("fsx on {}", driver.name()), NEEDS) {
        return;
    }
    let (scratch, dir) = (Scratch::new(Fs::Ext4), open_temp_dir());
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image.sqfs"));
    fs::create_dir_all(tree.join("dir")).unwrap();
    for seed in 0..4 {
        fs::write(tree.join(format!("dir/lower{seed}")), vec![b'x'; LEN]).unwrap();
    }
    squashfs::pack(&tree, &image, &[]);
    let mut union = Union::new(driver, &[Lower::Image(image)], &scratch.dir("home"));
    for seed in 0..4 {
        exercise(&union.path().join("dir/new"), GROWING, seed);
        exercise(&union.path().join(format!("dir/lower{seed}")), [FIXED, GROWING][seed as usize % 2], seed);
    }
    let read = |union: &Union| {
        ["new", "lower0", "lower1", "lower2", "lower3"].map(|name| fs::read(union.path().join("dir").join(name)).unwrap())
    };
    let before = read(&union);
    union.remount();
    assert!(before == read(&union), "remounting changed content");
}

#[test]
fn bare_ext4() {
    if can_run("fsx on bare ext4", NEEDS) {
        let scratch = Scratch::new(Fs::Ext4);
        fs::write(scratch.path().join("fixed"), vec![b'x'; LEN]).unwrap();
        exercise(&scratch.path().join("new"), GROWING, 1);
        exercise(&scratch.path().join("fixed"), FIXED, 1);
        assert_eq!(fs::metadata(scratch.path().join("fixed")).unwrap().len(), LEN as u64);
    }
}

#[test]
fn overlay_ext4() {
    union(Driver::Kernel);
}

#[test]
fn haosfs_ext4() {
    union(Driver::Haosfs);
}
