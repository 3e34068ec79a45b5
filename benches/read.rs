//! Content: each compressor, in sequence and at random, in pieces of 128 KiB as FUSE asks for, and again from the cache.
#![allow(clippy::unwrap_used, missing_docs)]

mod image;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haosfs::image::{Image, Options};

const SIZE: usize = 32 << 20;
const PIECE: usize = 128 << 10;

fn reads(c: &mut Criterion) {
    let subject = image::Subject::new(1, SIZE);
    let packed: [(&str, &[&str]); 6] = [
        ("gzip", &["-comp", "gzip"]),
        ("lzo", &["-comp", "lzo", "-Xalgorithm", "lzo1x_1"]),
        ("xz", &["-comp", "xz"]),
        ("lz4", &["-comp", "lz4"]),
        ("zstd", &["-comp", "zstd"]),
        ("stored", &["-noD"]),
    ];
    for (name, options) in packed {
        let path = subject.pack(options);
        let mut group = c.benchmark_group(format!("read {name}"));
        group.sample_size(10);
        let image = Image::open(&path, &Options { data_cache: 0, ..Options::default() }).unwrap();
        let dir = image.lookup(image.root(), "d".as_ref()).unwrap().unwrap().inode;
        let file = image.lookup(dir, "name-0".as_ref()).unwrap().unwrap().inode;
        let read = |piece: usize, len: usize| black_box(image.read(file, (piece * PIECE) as u64, len).unwrap().len());
        group.throughput(Throughput::Bytes(SIZE as u64));
        group.bench_function("sequential", |b| b.iter(|| (0..SIZE / PIECE).map(|i| read(i, PIECE)).sum::<usize>()));
        group.throughput(Throughput::Bytes(4096));
        let mut at = 0;
        group.bench_function("random 4 KiB", |b| {
            b.iter(|| {
                at = (at + 97) % (SIZE / PIECE);
                read(at, 4096)
            });
        });
        group.bench_function("cached 4 KiB", |b| b.iter(|| read(3, 4096)));
        group.finish();
    }
}

criterion_group!(benches, reads);
criterion_main!(benches);
