//! One big file of the image.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::corpus::BIG;
use crate::raw;
use crate::row::PREADS;

pub fn sequential(big: &Path) {
    let mut file = File::open(big).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            n => total += n as u64,
        }
    }
    assert_eq!(total, BIG);
}

pub fn random(big: &Path) {
    let file = File::open(big).unwrap();
    let mut random = fastrand::Rng::with_seed(21);
    let mut page = [0; 4096];
    for _ in 0..PREADS {
        file.read_exact_at(&mut page, random.u64(0..BIG / 4096 - 1) * 4096).unwrap();
    }
}

pub fn mapped(big: &Path) {
    let map = raw::map_shared_ro(&File::open(big).unwrap());
    let sum = map.iter().step_by(4096).fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    black_box(sum);
}

/// Copies it up.
pub fn write_one(big: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(big).unwrap();
    file.write_all_at(b"1", 1 << 20).unwrap();
}
