//! An upper without room: what cannot be copied up stays whole below, and nothing half-made shows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::io::Errno;

use crate::mounted::scratch::{Fs, Scratch, open_temp_dir};
use crate::mounted::squashfs;
use crate::mounted::union::{Driver, Lower, Union};
use crate::suite::assertions::{lstat, names, pattern, refused};

/// Bytes of the upper's file system.
const ROOM: u64 = 16 << 20;
/// Bytes of the file that does not fit.
const LARGE: usize = 24 << 20;

/// Runs everything on one union over a small upper.
pub fn run(driver: Driver, fs: Fs) {
    let (scratch, dir) = (Scratch::with_size(fs, ROOM), open_temp_dir());
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image.sqfs"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), pattern(LARGE, 1)).unwrap();
    fs::write(tree.join("small"), b"small").unwrap();
    squashfs::pack(&tree, &image, &[]);
    let mut union = Union::new(driver, &[Lower::Image(image)], &scratch.dir("home"));
    large_files_stay_below(&union);
    small_files_still_go(&union);
    filling_and_freeing(union.path());
    large_files_stay_below(&union);
    union.unmount();
    assert_eq!(names(union.upper()), ["small"]);
    assert_eq!(fs::read(union.upper().join("small")).unwrap(), b"small!");
    union.mount();
    assert_eq!(names(union.path()), ["large", "small"]);
}

/// Whether opening or writing is refused is the driver's own.
fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn large_files_stay_below(union: &Union) {
    let path = union.path().join("large");
    for _ in 0..3 {
        refused(append(&path, b"!"), Errno::NOSPC);
    }
    assert_eq!(lstat(&path).len(), LARGE as u64);
    assert!(fs::read(&path).unwrap() == pattern(LARGE, 1));
    assert!(!union.upper().join("large").exists());
}

fn small_files_still_go(union: &Union) {
    append(&union.path().join("small"), b"!").unwrap();
    assert_eq!(fs::read(union.path().join("small")).unwrap(), b"small!");
}

fn filling_and_freeing(root: &Path) {
    let mut file = File::create(root.join("filler")).unwrap();
    let mut answer = Ok(());
    for _ in 0..(2 * ROOM) >> 20 {
        answer = file.write_all(&[1; 1 << 20]).and_then(|()| file.sync_all());
        if answer.is_err() {
            break;
        }
    }
    refused(answer, Errno::NOSPC);
    drop(file);
    fs::remove_file(root.join("filler")).unwrap();
    fs::write(root.join("fits"), vec![2; 4 << 20]).unwrap();
    fs::remove_file(root.join("fits")).unwrap();
}
