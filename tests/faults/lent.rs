//! A daemon without privilege that dies while it copies up into a directory that its owner may not write to.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::copies::append;
use crate::mounted::ground::Ground;
use crate::mounted::union::{Driver, Union};
use crate::mounted::user::{NOBODY, as_user};

/// The directory's mode in the lower, and with the right that is lent.
const OWN: u32 = 0o500;
const LENT: u32 = 0o700;

fn grow(tree: &Path) {
    fs::create_dir(tree.join("dir")).unwrap();
    fs::write(tree.join("dir/file"), "content ").unwrap();
    for name in ["", "dir", "dir/file"] {
        chown(tree.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(tree.join("dir"), Permissions::from_mode(OWN)).unwrap();
}

/// Whatever the step, content is old or new, and the mode the lower's or the lent one.
pub fn every_death() {
    let ground = Ground::directory(grow);
    let mut modes = Vec::new();
    for step in 1.. {
        let home = ground.home().join(step.to_string());
        fs::create_dir(&home).unwrap();
        let journal = home.join("journal");
        let fault = format!("die:{step}:{}", journal.display());
        let mut union = Union::with_fault(Driver::HaosfsUser, std::slice::from_ref(ground.lower()), &home, &[], fault);
        fs::write(&journal, "").unwrap();
        chown(&journal, Some(NOBODY), Some(NOBODY)).unwrap();
        let file = union.path().join("dir/file");
        let survived = as_user(NOBODY, NOBODY, &[], || append(&file)).is_ok();
        fs::remove_file(&journal).unwrap();
        union.remount();
        let (content, mode) = as_user(NOBODY, NOBODY, &[], || {
            let mode = fs::metadata(union.path().join("dir")).unwrap().permissions().mode() & 0o7777;
            (fs::read_to_string(&file).unwrap(), mode)
        });
        assert_eq!(content, if survived { "content appended" } else { "content " }, "dead before step {step}");
        assert!(mode == OWN || mode == LENT, "dead before step {step}: {mode:o}");
        modes.push(mode);
        if survived {
            break;
        }
    }
    assert!(modes.len() > 10 && modes.contains(&LENT));
    assert_eq!(modes.last(), Some(&OWN));
}
