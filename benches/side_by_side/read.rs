//! Reading trees and names.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// `find -printf` with the attributes of everything.
pub fn find(union: &Path) {
    let mut find = Command::new("find");
    find.arg(union).args(["-printf", "%p %s %m %U %T@ %i\n"]).stdout(Stdio::null());
    assert!(find.status().unwrap().success());
}

pub fn lstat(names: &[PathBuf]) {
    for name in names {
        black_box(name.symlink_metadata().unwrap());
    }
}

pub fn absent(names: &[PathBuf]) {
    for name in names {
        assert_eq!(name.symlink_metadata().unwrap_err().kind(), ErrorKind::NotFound);
    }
}

pub fn open(names: &[PathBuf]) {
    let mut byte = [0];
    for name in names {
        // Empty files have none.
        let _got = File::open(name).unwrap().read(&mut byte).unwrap();
    }
}

/// tar(1) into a pipe: into /dev/null it reads no data.
pub fn tar(union: &Path) {
    let mut tar = Command::new("tar").arg("-C").arg(union).args(["-cf", "-", "."]).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = tar.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 20];
    while pipe.read(&mut buffer).unwrap() > 0 {}
    assert!(tar.wait().unwrap().success());
}

/// A reader for each list, all at the same time. What one has brought is rarely what another one needs just then, and of what a driver
/// has decompressed for one file more is needed later.
pub fn cat(orders: &[Vec<PathBuf>]) {
    thread::scope(|scope| {
        for order in orders {
            scope.spawn(|| {
                let mut buffer = vec![0; 128 << 10];
                order.iter().for_each(|name| cat_file(name, &mut buffer));
            });
        }
    });
}

/// So many readers, each of the whole tree in the order of the directories: in step, as whoever is behind finds what the first has
/// brought.
pub fn cat_in_step(union: &Path, readers: usize) {
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| cat_tree(union, &mut vec![0; 128 << 10]));
        }
    });
}

fn cat_tree(dir: &Path, buffer: &mut [u8]) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            cat_tree(&entry.path(), buffer);
        } else if kind.is_file() {
            cat_file(&entry.path(), buffer);
        }
    }
}

fn cat_file(name: &Path, buffer: &mut [u8]) {
    let mut file = File::open(name).unwrap();
    while file.read(buffer).unwrap() > 0 {}
}
