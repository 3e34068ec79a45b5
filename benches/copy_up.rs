//! Copy-up by the union's core, without a mount: the temporary file, its data, attributes and place.
#![allow(clippy::unwrap_used, missing_docs)]

mod image;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use haosfs::image::{Image, Options as ImageOptions};
use haosfs::types::{Atime, Caller};
use haosfs::union::file::Writer;
use haosfs::union::{Durability, NodeId, Options, Prefix, ROOT, SquashfsLower, Union, Upper};
use image::Subject;

const ASKER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const WRITER: Writer = Writer { caller: ASKER, kill_set_id: false, append: false, whole: false };

/// A union over a fresh upper, and its files that were not copied up yet.
struct Supply {
    union: Arc<Union>,
    left: Vec<NodeId>,
    _home: tempfile::TempDir,
}

impl Supply {
    fn new(image: &Path, files: usize, fsync: Durability) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (upper, work) = (home.path().join("upper"), home.path().join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let lower = SquashfsLower::new(Image::open(image, &ImageOptions::default()).unwrap());
        let upper = Upper::open(&upper, &work, Prefix::Auto, Atime::Relative, |_| Ok(())).unwrap();
        let union = Union::new(vec![Box::new(lower)], Some(upper), Options { fsync, ..Options::default() }).unwrap();
        let dir = union.lookup(ROOT, OsStr::new("d")).unwrap().0.id;
        let left = (0..files).map(|i| union.lookup(dir, OsStr::new(&format!("name-{i}"))).unwrap().0.id).collect();
        Self { union: Arc::new(union), left, _home: home }
    }
}

fn copy_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("copy_up");
    group.sample_size(20);
    for (name, size, files) in [("4k", 4 << 10, 4000), ("1m", 1 << 20, 200)] {
        let image_of = Subject::new(files, size);
        let image = image_of.pack(&["-comp", "zstd"]);
        for (policy, fsync) in [("durable", Durability::Auto), ("volatile", Durability::Volatile)] {
            let mut supply = Supply::new(&image, files, fsync);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(format!("first_write/{name}/{policy}"), |b| {
                let next = || {
                    if supply.left.is_empty() {
                        supply = Supply::new(&image, files, fsync);
                    }
                    (Arc::clone(&supply.union), supply.left.pop().unwrap())
                };
                b.iter_batched(next, |(union, id)| union.write(id, 0, b"!", WRITER).unwrap(), BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, copy_up);
criterion_main!(benches);
