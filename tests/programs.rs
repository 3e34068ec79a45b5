//! Programs that other unions have hurt, on files and directories that come from an image: databases, watchers, version control.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "programs/crowd.rs"]
mod crowd;
#[path = "programs/database.rs"]
mod database;
mod mounted;
#[path = "programs/packages.rs"]
mod packages;
mod tree;
#[path = "programs/watching.rs"]
mod watching;

use std::fs;
use std::path::Path;
use std::process::Command;

use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::union::Driver;

/// What every test here needs.
pub const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
const NEEDS_GIT: &[Requirement] = &[NEEDS[0], NEEDS[1], NEEDS[2], Requirement::Tool("git")];
const NEEDS_RSYNC: &[Requirement] = &[NEEDS[0], NEEDS[1], NEEDS[2], Requirement::Tool("rsync")];

fn git(at: &Path, arguments: &[&str]) -> String {
    let settings =
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "safe.directory=*", "-c", "init.defaultBranch=main"];
    let mut command = Command::new("git");
    command.args(settings).arg("-C").arg(at).args(arguments).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", at);
    String::from_utf8(run(&mut command)).unwrap()
}

/// A repository in the image, with a directory of it renamed as by mv(1).
#[test]
fn git_works_in_a_repository_of_the_image() {
    if !can_run("git_works_in_a_repository_of_the_image", NEEDS_GIT) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        git(tree, &["init", "--quiet"]);
        for n in 0..40 {
            fs::create_dir_all(tree.join(format!("dir{}", n % 4))).unwrap();
            fs::write(tree.join(format!("dir{}/file{n}", n % 4)), format!("{n}\n").repeat(50)).unwrap();
        }
        git(tree, &["add", "."]);
        git(tree, &["commit", "--quiet", "-m", "first"]);
    });
    let mut union = ground.mount(Driver::Haosfs, &[]);
    let at = union.path().to_path_buf();
    assert_eq!(git(&at, &["status", "--porcelain"]), "");
    run(Command::new("mv").arg(at.join("dir0")).arg(at.join("moved")));
    git(&at, &["add", "--all"]);
    fs::write(at.join("dir1/file1"), "changed\n").unwrap();
    git(&at, &["rm", "--quiet", "-r", "dir2"]);
    git(&at, &["commit", "--quiet", "-a", "-m", "second"]);
    git(&at, &["gc", "--quiet", "--prune=now"]);
    git(&at, &["checkout", "--quiet", "HEAD~1"]);
    git(&at, &["checkout", "--quiet", "main"]);
    git(&at, &["fsck", "--strict"]);
    for _ in 0..2 {
        assert_eq!(git(&at, &["status", "--porcelain"]), "");
        assert!(at.join("moved/file4").exists() && !at.join("dir0").exists() && !at.join("dir2").exists());
        union.remount();
    }
}

/// `rsync --delete` and `mv` make one tree another, and leave nothing of the lower behind.
#[test]
fn rsync_makes_a_tree_of_the_image_another() {
    if !can_run("rsync_makes_a_tree_of_the_image_another", NEEDS_RSYNC) {
        return;
    }
    let grow = |tree: &Path| {
        for n in 0..60 {
            let dir = tree.join(format!("d{}/e{}", n % 3, n % 5));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("f{n}")), format!("{n}").repeat(n)).unwrap();
        }
    };
    let ground = Ground::image(&[], grow);
    let mut union = ground.mount(Driver::Haosfs, &[]);
    let other = mounted::scratch::open_temp_dir();
    grow(other.path());
    run(Command::new("mv").arg(other.path().join("d1")).arg(other.path().join("renamed")));
    fs::remove_dir_all(other.path().join("d2/e1")).unwrap();
    fs::write(other.path().join("d0/e0/f0"), "longer than before").unwrap();
    run(Command::new("mv").arg(union.path().join("d1")).arg(union.path().join("renamed")));
    let rsync = |more: &[&str]| {
        let mut command = Command::new("rsync");
        command.args(["-aHAX", "--checksum", "--delete", "--itemize-changes"]).args(more);
        let mut from = other.path().as_os_str().to_owned();
        from.push("/");
        String::from_utf8(run(command.arg(from).arg(union.path()))).unwrap()
    };
    rsync(&[]);
    assert_eq!(rsync(&["--dry-run"]), "");
    union.remount();
    let mut check = Command::new("diff");
    run(check.arg("-r").arg(other.path()).arg(union.path()));
}
