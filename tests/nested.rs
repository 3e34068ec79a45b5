//! Unions in unions: a haosfs mount as a layer of the kernel's overlayfs and of another haosfs, and overlays made inside it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
mod tree;

use std::fs::{self, create_dir};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use mounted::ground::Ground;
use mounted::mount::Mount;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::{Driver, Lower, Union};
use tree::compare::{Tolerance, assert_same};
use tree::snapshot::Snapshot;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

const TOLERANCE: Tolerance =
    Tolerance { nanoseconds: false, times: true, directory_links: true, xattrs: false, acls: false, hard_links: false };

fn grow(tree: &Path) {
    for dir in ["a/b", "c/d/e", "gone"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for file in ["a/f", "a/b/f", "c/f", "c/d/e/f", "gone/f", "top"] {
        fs::write(tree.join(file), format!("content of {file}").repeat(200)).unwrap();
    }
    symlink("a/f", tree.join("link")).unwrap();
}

/// Whiteouts, opaque directories and copies of each kind in the inner union.
fn change(root: &Path) {
    fs::write(root.join("a/f"), "changed").unwrap();
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::remove_dir_all(root.join("c/d")).unwrap();
    create_dir(root.join("c/d")).unwrap();
    fs::write(root.join("c/d/fresh"), "fresh").unwrap();
    fs::remove_file(root.join("link")).unwrap();
    fs::rename(root.join("top"), root.join("a/moved")).unwrap();
}

/// More of the same in the outer one.
fn change_again(root: &Path) {
    fs::write(root.join("a/b/f"), "changed outside").unwrap();
    fs::remove_file(root.join("a/f")).unwrap();
    fs::remove_dir_all(root.join("c")).unwrap();
    fs::write(root.join("c"), "a file now").unwrap();
    create_dir(root.join("gone")).unwrap();
}

fn show(union: &Union) -> Snapshot {
    Snapshot::read(union.path()).unwrap().without_root()
}

/// What a chain of unions shows does not depend on who makes them.
#[test]
fn a_union_is_a_lower_of_another() {
    if !can_run("a_union_is_a_lower_of_another", NEEDS) {
        return;
    }
    let through = |inner: Driver, outer: Driver| {
        let (ground, scratch) = (Ground::image(&[], grow), Scratch::new(Fs::Ext4));
        let below = ground.mount(inner, &[]);
        change(below.path());
        let mut above = Union::new(outer, &[Lower::Dir(below.path().to_path_buf())], &scratch.dir("home"));
        assert_same(&format!("{outer:?} over {inner:?}"), &show(&below), &show(&above), TOLERANCE);
        change_again(above.path());
        above.remount();
        show(&above)
    };
    let expected = through(Driver::Kernel, Driver::Kernel);
    for (inner, outer) in [(Driver::Haosfs, Driver::Kernel), (Driver::Kernel, Driver::Haosfs), (Driver::Haosfs, Driver::Haosfs)] {
        assert_same(&format!("changed through {outer:?} over {inner:?}"), &expected, &through(inner, outer), TOLERANCE);
    }
}

fn overlay(lower: &Path, upper: &Path, work: &Path, at: &Path) -> Output {
    let [lower, upper, work] = [lower, upper, work].map(|path| path.to_str().unwrap());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(at).output().unwrap()
}

/// As Docker and podman do: an overlay whose lower lies inside the union, and its upper inside or outside.
#[test]
fn overlays_inside_are_made_or_refused_as_in_the_kernels() {
    if !can_run("overlays_inside_are_made_or_refused_as_in_the_kernels", NEEDS) {
        return;
    }
    let answers = [Driver::Kernel, Driver::Haosfs].map(|driver| {
        let (ground, scratch) = (Ground::image(&[], grow), Scratch::new(Fs::Ext4));
        let union = ground.mount(driver, &[]);
        ["upper", "work", "at"].iter().for_each(|name| create_dir(union.path().join(name)).unwrap());
        let [upper, work, at] = ["upper", "work", "at"].map(|name| scratch.dir(name));
        let outside = overlay(&union.path().join("a"), &upper, &work, &at);
        let mut shown = None;
        if outside.status.success() {
            let mount = Mount::adopt(&at);
            fs::write(mount.path().join("f"), "written").unwrap();
            fs::remove_dir_all(mount.path().join("b")).unwrap();
            shown = Some(Snapshot::read(mount.path()).unwrap().names.into_keys().collect::<Vec<_>>());
        }
        let [upper, work, at] = ["upper", "work", "at"].map(|name| union.path().join(name));
        let inside = overlay(&union.path().join("a"), &upper, &work, &at);
        if inside.status.success() {
            drop(Mount::adopt(&at));
        }
        (outside.status.success(), shown, inside.status.success())
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!((answers[0].0, answers[0].2), (true, false));
}

/// An upper of haosfs inside haosfs: whiteouts cannot be made there, and that is said.
#[test]
fn an_upper_inside_is_refused() {
    if !can_run("an_upper_inside_is_refused", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], grow);
    let union = ground.mount(Driver::Haosfs, &[]);
    let [upper, work] = ["upper", "work"].map(|name| {
        create_dir(union.path().join(name)).unwrap();
        union.path().join(name)
    });
    let at = ground.home().join("at");
    create_dir(&at).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_haosfs"));
    let answer =
        command.arg("mount").arg(ground.tree()).arg(&at).arg("--upper").arg(upper).arg("--work").arg(work).output().unwrap();
    let text = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(answer.status.code(), Some(32), "{text}");
    assert!(text.contains("cannot hold whiteouts"), "{text}");
}
