//! A mount makes and removes things before it serves: a death there, too, leaves an upper that can be mounted.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::changes::empty_full;
use crate::ground;
use crate::mounted::ground::Ground;
use crate::mounted::union::Driver;
use crate::tree::compare::{Tolerance, assert_same};
use crate::tree::snapshot::Snapshot;

/// A first mount, and one that must clean up.
pub fn every_death() {
    assert!(deaths(leave_nothing) > 10);
    assert!(deaths(leave_something) > 15);
}

/// As before the first mount.
fn leave_nothing(work: &Path) {
    fs::remove_dir_all(work).unwrap();
    fs::create_dir(work).unwrap();
}

/// What a daemon that died while it replaced a directory would leave, and what a nested one could be.
fn leave_something(work: &Path) {
    fs::create_dir_all(work.join("work/#1/dir/dir")).unwrap();
    for name in ["#2", "#1/file", "#1/dir/dir/file"] {
        fs::write(work.join("work").join(name), "half").unwrap();
    }
}

/// Dies at each step of a mount, with this in the work directory; returns the number of steps.
fn deaths(leave: impl Fn(&Path)) -> usize {
    let ground = Ground::directory(ground::grow);
    let mut union = ground.mount(Driver::Haosfs, &[]);
    empty_full(union.path());
    let expected = Snapshot::read(union.path()).unwrap();
    let journal = ground.home().join("journal");
    for step in 1.. {
        union.unmount();
        leave(&ground.home().join("work"));
        fs::write(&journal, "").unwrap();
        let mut mount = Command::new(env!("CARGO_BIN_EXE_haosfs"));
        mount.arg("mount").arg(ground.tree()).arg(union.path());
        mount.arg("--upper").arg(union.upper()).arg("--work").arg(ground.home().join("work"));
        mount.env("HAOSFS_FAULT", format!("die:{step}:{}", journal.display()));
        let survived = mount.output().unwrap().status.success();
        let steps = fs::read_to_string(&journal).unwrap().lines().count();
        fs::remove_file(&journal).unwrap();
        if survived {
            union.adopt();
            assert_eq!(steps, step - 1);
            return steps;
        }
        assert_eq!(steps, step);
        union.mount();
        let what = format!("dead before step {step} of a mount");
        assert_same(&what, &expected, &Snapshot::read(union.path()).unwrap(), Tolerance::default());
        assert_eq!(fs::read_dir(ground.home().join("work/work")).unwrap().count(), 0, "{what}");
    }
    0
}
