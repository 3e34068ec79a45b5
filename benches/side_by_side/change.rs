//! Changing the union.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::corpus::run;
use crate::row::{CREATED, NAMES, WRITTEN};

const CHUNK: usize = 1 << 20;
/// Bytes of the file that is overwritten here and there.
const OVERWRITTEN: u64 = 128 << 20;

pub fn chmod(names: &[PathBuf]) {
    names.iter().for_each(|name| fs::set_permissions(name, Permissions::from_mode(0o640)).unwrap());
}

pub fn append(names: &[PathBuf]) {
    for name in names {
        OpenOptions::new().append(true).open(name).unwrap().write_all(b"1").unwrap();
    }
}

pub fn unlink(names: &[PathBuf]) {
    names.iter().for_each(|name| fs::remove_file(name).unwrap());
}

/// Makes files of so many bytes in one new directory.
pub fn create(union: &Path, size: usize) {
    let dir = union.join("created");
    fs::create_dir(&dir).unwrap();
    let content = vec![7; size];
    for n in 0..CREATED {
        let mut file = File::create_new(dir.join(format!("file-{n}"))).unwrap();
        if size > 0 {
            file.write_all(&content).unwrap();
        }
    }
}

pub fn write(union: &Path) {
    let mut file = File::create_new(union.join("written")).unwrap();
    let chunk = vec![7; CHUNK];
    for _ in 0..WRITTEN / CHUNK as u64 {
        file.write_all(&chunk).unwrap();
    }
    file.sync_all().unwrap();
}

/// A file of the upper, on disk.
pub fn to_overwrite(union: &Path) -> File {
    let mut file = File::create_new(union.join("overwritten")).unwrap();
    let chunk = vec![7; CHUNK];
    for _ in 0..OVERWRITTEN / CHUNK as u64 {
        file.write_all(&chunk).unwrap();
    }
    file.sync_all().unwrap();
    file
}

pub fn overwrite(file: &File) {
    let mut random = fastrand::Rng::with_seed(22);
    for _ in 0..NAMES {
        file.write_all_at(&[8; 4096], random.u64(0..OVERWRITTEN / 4096) * 4096).unwrap();
    }
    file.sync_all().unwrap();
}

pub fn untar(union: &Path, archive: &Path) {
    let dir = union.join("untarred");
    fs::create_dir(&dir).unwrap();
    run(Command::new("tar").arg("-C").arg(&dir).arg("-xf").arg(archive));
}
