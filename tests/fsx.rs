//! fsx: random reads, writes, mappings and lengths of one file, checked at every step by fsx itself. On a new file and on one
//! that comes from the lower, on the kernel's overlayfs and on haosfs, as root and as an ordinary user, over ext4.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use mounted::mount::run;
use mounted::requirement::{Requirement, can_run, tool};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use mounted::user::NOBODY;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("fsx"), Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// Bytes of the file in the lower, which is as long as fsx lets files grow.
const LEN: usize = 262_144;

/// Operations of one run.
const OPERATIONS: &str = "500";

/// Runs, each of a new file and of one that comes from the lower.
const SEEDS: u32 = 14;

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

fn exercise(file: &Path, config: &str, seed: u32, user: u32) {
    let dir = open_temp_dir();
    chown(dir.path(), Some(user), Some(user)).unwrap();
    let settings = dir.path().join("fsx.toml");
    fs::write(&settings, config).unwrap();
    // Programs that cargo installed lie in a home that others may not enter. Copied by another process, for a child that
    // another test is starting could hold our descriptor, and make the copy busy.
    let program = dir.path().join("fsx");
    run(Command::new("cp").arg(tool("fsx").unwrap()).arg(&program));
    let mut fsx = Command::new("setpriv");
    fsx.args(["--reuid", &user.to_string(), "--regid", &user.to_string(), "--clear-groups", "--"]).arg(program);
    fsx.arg("-f").arg(&settings).arg("-P").arg(dir.path()).args(["-N", OPERATIONS, "-S", &seed.to_string()]).arg(file);
    run(&mut fsx);
}

fn lower_name(seed: u32) -> String {
    format!("dir/lower{seed}")
}

fn union(driver: Driver) {
    if !can_run(&format!("fsx on {}", driver.name()), NEEDS) {
        return;
    }
    let user = if driver == Driver::HaosfsUser { NOBODY } else { 0 };
    let (scratch, dir) = (Scratch::new(Fs::Ext4), open_temp_dir());
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image.sqfs"));
    fs::create_dir_all(tree.join("dir")).unwrap();
    (0..SEEDS).for_each(|seed| fs::write(tree.join(lower_name(seed)), vec![b'x'; LEN]).unwrap());
    let owner = user.to_string();
    squashfs::pack(&tree, &image, &["-force-uid", &owner, "-force-gid", &owner]);
    let mut union = Union::new(driver, &[Lower::Image(image)], &scratch.dir("home"));
    for seed in 0..SEEDS {
        exercise(&union.path().join("dir/new"), GROWING, seed, user);
        exercise(&union.path().join(lower_name(seed)), [FIXED, GROWING][seed as usize % 2], seed, user);
    }
    // Root may not look into a user's mount; what is there afterwards is in the upper.
    let read = |union: &Union| {
        let root = if user == 0 { union.path() } else { union.upper() };
        let names = (0..SEEDS).map(lower_name).chain(["dir/new".to_owned()]);
        names.map(|name| fs::read(root.join(name)).unwrap()).collect::<Vec<_>>()
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
        exercise(&scratch.path().join("new"), GROWING, 1, 0);
        exercise(&scratch.path().join("fixed"), FIXED, 1, 0);
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

#[test]
fn haosfs_user_ext4() {
    union(Driver::HaosfsUser);
}
