//! Opening an image, small and large, and its first lookup.
#![allow(clippy::unwrap_used, missing_docs)]

mod image;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use haosfs::image::{Image, Options};

fn opening(c: &mut Criterion) {
    for files in [10, 100_000] {
        let subject = image::Subject::new(files, 10);
        let path = subject.pack(&["-comp", "zstd"]);
        let mut group = c.benchmark_group(format!("open an image of {files} files"));
        group.bench_function("open", |b| b.iter(|| black_box(Image::open(&path, &Options::default()).unwrap())));
        group.bench_function("open and look up", |b| {
            b.iter(|| {
                let image = Image::open(&path, &Options::default()).unwrap();
                let dir = image.lookup(image.root(), "d".as_ref()).unwrap().unwrap().inode;
                black_box(image.lookup(dir, "name-7".as_ref()).unwrap().unwrap())
            });
        });
        group.finish();
    }
}

criterion_group!(benches, opening);
criterion_main!(benches);
