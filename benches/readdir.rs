//! Listings: from the cache, and decoded anew.
#![allow(clippy::unwrap_used, missing_docs)]

mod image;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haosfs::image::{Image, Options};

fn listings(c: &mut Criterion) {
    for files in [100, 10_000, 100_000] {
        let subject = image::Subject::new(files, 0);
        let path = subject.pack(&["-comp", "zstd"]);
        let mut group = c.benchmark_group(format!("readdir of {files}"));
        group.throughput(Throughput::Elements(files as u64));
        for (name, listing_cache) in [("kept", 64 << 20), ("decoded anew", 0)] {
            let image = Image::open(&path, &Options { listing_cache, ..Options::default() }).unwrap();
            let dir = image.lookup(image.root(), "d".as_ref()).unwrap().unwrap().inode;
            group.bench_function(name, |b| {
                b.iter(|| black_box(image.entries(dir).unwrap().iter().map(|(name, _)| name.len()).sum::<usize>()))
            });
        }
        group.finish();
    }
}

criterion_group!(benches, listings);
criterion_main!(benches);
