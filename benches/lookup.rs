//! One name in a directory: kept whole, kept in part through its index, and absent.
#![allow(clippy::unwrap_used, missing_docs)]

mod image;

use std::ffi::OsString;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use haosfs::image::{Image, Options};

fn lookups(c: &mut Criterion) {
    for files in [100, 10_000, 100_000] {
        let subject = image::Subject::new(files, 0);
        let image = Image::open(&subject.pack(&["-comp", "zstd"]), &Options::default()).unwrap();
        let dir = image.lookup(image.root(), "d".as_ref()).unwrap().unwrap().inode;
        let names: Vec<OsString> = (0..files).map(|i| format!("name-{}", i * 7919 % files).into()).collect();
        let mut group = c.benchmark_group(format!("lookup in {files}"));
        let mut next = names.iter().cycle();
        group.bench_function("present", |b| b.iter(|| black_box(image.lookup(dir, next.next().unwrap()).unwrap()).unwrap()));
        group.bench_function("absent", |b| b.iter(|| black_box(image.lookup(dir, "name-5x".as_ref()).unwrap())));
        let inode = image.lookup(dir, "name-5".as_ref()).unwrap().unwrap().inode;
        group.bench_function("attr", |b| b.iter(|| black_box(image.attr(inode).unwrap())));
        group.finish();
    }
}

criterion_group!(benches, lookups);
criterion_main!(benches);
