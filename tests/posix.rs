//! The POSIX suite on bare file systems, on the kernel's overlayfs and on haosfs. `HAOSFS_POSIX=part` runs the functions
//! whose name has that part.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[path = "posix/mod.rs"]
mod suite;
mod tree;

use std::fs;

use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use suite::case::{Actor, run_in};

const BARE: &[Requirement] = &[Requirement::Root, Requirement::Tool("mkfs.xfs"), Requirement::Tool("mkfs.btrfs")];
const UNION: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

fn bare(fs: Fs) {
    let target = format!("bare {}", fs.name());
    if can_run(&target, BARE) {
        let scratch = Scratch::new(fs);
        run_in(&target, scratch.path(), Actor::Root, &suite::anywhere());
    }
}

/// The suite within a directory of the lower, so that every function begins with a copied-up parent.
fn union(driver: Driver, fs: Fs) {
    let target = format!("{} {}", driver.name(), fs.name());
    if !can_run(&target, BARE) || !can_run(&target, UNION) {
        return;
    }
    let (scratch, dir) = (Scratch::new(fs), open_temp_dir());
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image.sqfs"));
    fs::create_dir_all(tree.join("below")).unwrap();
    let actor = if driver == Driver::HaosfsUser { Actor::Nobody } else { Actor::Root };
    if actor == Actor::Nobody {
        let nobody = Some(mounted::user::NOBODY);
        std::os::unix::fs::chown(&tree, nobody, nobody).unwrap();
        std::os::unix::fs::chown(tree.join("below"), nobody, nobody).unwrap();
    }
    squashfs::pack(&tree, &image, &[]);
    let home = scratch.dir("home");
    let union = Union::new(driver, &[Lower::Image(image)], &home);
    run_in(&target, &union.path().join("below"), actor, &suite::anywhere());
}

/// The functions over a lower with known content, each on an upper of its own.
fn lowered(driver: Driver, fs: Fs) {
    let target = format!("{} {}", driver.name(), fs.name());
    if !can_run(&target, BARE) || !can_run(&target, UNION) {
        return;
    }
    let (scratch, dir) = (Scratch::new(fs), open_temp_dir());
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image.sqfs"));
    fs::create_dir(&tree).unwrap();
    suite::lowered::content::make(&tree);
    let nobody = mounted::user::NOBODY.to_string();
    let (actor, owner): (_, &[&str]) = match driver {
        Driver::HaosfsUser => (Actor::Nobody, &["-force-uid", &nobody, "-force-gid", &nobody]),
        Driver::Kernel | Driver::Haosfs => (Actor::Root, &[]),
    };
    squashfs::pack(&tree, &image, owner);
    suite::lowered::run_over(&target, driver, actor, &Lower::Image(image), &scratch.dir("homes"), &[]);
}

/// The functions over several lowers.
fn layered(driver: Driver, fs: Fs) {
    let target = format!("{} {}", driver.name(), fs.name());
    if can_run(&target, BARE) && can_run(&target, UNION) && can_run(&target, &[Requirement::Tool("setfacl")]) {
        suite::lowered::layers::run_layers(&target, driver, &Scratch::new(fs).dir("homes"));
    }
}

/// Over an upper that is too small.
fn cramped(driver: Driver, fs: Fs) {
    if can_run("cramped", UNION) {
        suite::lowered::space::run(driver, fs);
    }
}

macro_rules! targets {
    ($($name:ident: $run:ident($($arg:expr),*);)*) => { $(#[test] fn $name() { $run($($arg),*); })* };
}

targets! {
    bare_ext4: bare(Fs::Ext4);
    bare_xfs: bare(Fs::Xfs);
    bare_btrfs: bare(Fs::Btrfs);
    bare_tmpfs: bare(Fs::Tmpfs);
    overlay_ext4: union(Driver::Kernel, Fs::Ext4);
    overlay_xfs: union(Driver::Kernel, Fs::Xfs);
    overlay_btrfs: union(Driver::Kernel, Fs::Btrfs);
    overlay_tmpfs: union(Driver::Kernel, Fs::Tmpfs);
    haosfs_ext4: union(Driver::Haosfs, Fs::Ext4);
    haosfs_xfs: union(Driver::Haosfs, Fs::Xfs);
    haosfs_btrfs: union(Driver::Haosfs, Fs::Btrfs);
    haosfs_tmpfs: union(Driver::Haosfs, Fs::Tmpfs);
    haosfs_user_ext4: union(Driver::HaosfsUser, Fs::Ext4);
    overlay_lowered_ext4: lowered(Driver::Kernel, Fs::Ext4);
    overlay_lowered_xfs: lowered(Driver::Kernel, Fs::Xfs);
    overlay_lowered_btrfs: lowered(Driver::Kernel, Fs::Btrfs);
    overlay_lowered_tmpfs: lowered(Driver::Kernel, Fs::Tmpfs);
    haosfs_lowered_ext4: lowered(Driver::Haosfs, Fs::Ext4);
    haosfs_lowered_xfs: lowered(Driver::Haosfs, Fs::Xfs);
    haosfs_lowered_btrfs: lowered(Driver::Haosfs, Fs::Btrfs);
    haosfs_lowered_tmpfs: lowered(Driver::Haosfs, Fs::Tmpfs);
    overlay_layered_ext4: layered(Driver::Kernel, Fs::Ext4);
    overlay_layered_btrfs: layered(Driver::Kernel, Fs::Btrfs);
    haosfs_layered_ext4: layered(Driver::Haosfs, Fs::Ext4);
    haosfs_layered_xfs: layered(Driver::Haosfs, Fs::Xfs);
    haosfs_layered_btrfs: layered(Driver::Haosfs, Fs::Btrfs);
    haosfs_layered_tmpfs: layered(Driver::Haosfs, Fs::Tmpfs);
    overlay_cramped_ext4: cramped(Driver::Kernel, Fs::Ext4);
    overlay_cramped_tmpfs: cramped(Driver::Kernel, Fs::Tmpfs);
    haosfs_cramped_ext4: cramped(Driver::Haosfs, Fs::Ext4);
    haosfs_cramped_tmpfs: cramped(Driver::Haosfs, Fs::Tmpfs);
    haosfs_user_lowered_ext4: lowered(Driver::HaosfsUser, Fs::Ext4);
}
