//! Unions, without a mount.

use std::ffi::OsString;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use haosfs::image::{Image, Options as ImageOptions};
use haosfs::types::Atime;
use haosfs::union::lower::Lower;
use haosfs::union::{NodeId, Options, Prefix, ROOT, SquashfsLower, Union, Upper};

use crate::axis::{Axis, Growth};
use crate::packed::{decades, shuffled};
use crate::{image, timing};

/// Names that each layer has of its own.
const OWN: usize = 200;

fn lower(image: &Path) -> Box<dyn Lower> {
    Box::new(SquashfsLower::new(Image::open(image, &ImageOptions::default()).unwrap()))
}

/// A union with an upper below `home` of which `grow` makes the content.
fn union(lowers: Vec<Box<dyn Lower>>, home: &Path, grow: impl FnOnce(&Path)) -> Union {
    let (upper, work) = (home.join("upper"), home.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    grow(&upper);
    let upper = Upper::open(&upper, &work, Prefix::Auto, Atime::Relative, |_| Ok(())).unwrap();
    Union::new(lowers, Some(upper), Options::default()).unwrap()
}

/// Looks up a name as one that nobody knows.
fn look(union: &Union, directory: NodeId, name: &OsString) {
    let (node, attr) = union.lookup(directory, name).unwrap();
    black_box(attr);
    union.forget(node.id, 1);
}

fn listed(union: &Union, directory: NodeId) -> usize {
    let mut names = 0;
    let counted = union.read_dir(directory, 0, |_, entry, _| {
        black_box(entry);
        names += 1;
        true
    });
    counted.unwrap();
    names
}

/// Looks up `names`, one that is absent, and lists: seconds for one name each.
fn measured(union: &Union, names: &[OsString]) -> [f64; 3] {
    let directory = union.lookup(ROOT, "d".as_ref()).unwrap().0.id;
    let mut next = names.iter().cycle();
    let present = timing::of(|| look(union, directory, next.next().unwrap()));
    let absent = timing::of(|| assert!(union.lookup(directory, "name-5x".as_ref()).is_err()));
    let mut count = 0;
    let list = timing::of(|| count = listed(union, directory));
    assert!(count >= names.len(), "{count}");
    [present, absent, list / count as f64]
}

/// A directory that an image and the upper have, with as many names in either.
pub fn directories(largest: usize) -> Axis {
    let series = [
        ("look up a name", Growth::Logarithmic),
        ("look up an absent name", Growth::Logarithmic),
        ("list, for each name", Growth::Logarithmic),
    ];
    Axis::along("names in a merged directory", series, &decades(10, largest), |files| {
        let subject = image::Subject::new(files, 0);
        let packed = subject.pack(&["-comp", "zstd"]);
        let home = tempfile::tempdir().unwrap();
        let union = union(vec![lower(&packed)], home.path(), |upper| {
            let directory = upper.join("d");
            fs::create_dir(&directory).unwrap();
            (0..files).for_each(|i| fs::write(directory.join(format!("name-{}", i + files / 2)), "").unwrap());
        });
        measured(&union, &shuffled(files).map(|i| format!("name-{i}").into()).collect::<Vec<_>>())
    })
}

/// Images above each other that all have the directory.
pub fn layers() -> Axis {
    let series = [
        ("look up a name of the lowest", Growth::Linear),
        ("look up an absent name", Growth::Linear),
        ("list, for each name", Growth::Logarithmic),
    ];
    let subjects: Vec<_> = (0..16)
        .map(|layer| {
            let subject = image::Subject::named(OWN, 0, &format!("of-{layer}-"));
            let packed = subject.pack(&["-comp", "zstd"]);
            (subject, packed)
        })
        .collect();
    Axis::along("images below an upper", series, &[1, 2, 4, 8, 16], |count| {
        let home = tempfile::tempdir().unwrap();
        // The first is the lowest.
        let lowers = subjects[..count].iter().rev().map(|(_, packed)| lower(packed)).collect();
        let union = union(lowers, home.path(), |upper| fs::create_dir(upper.join("d")).unwrap());
        measured(&union, &shuffled(OWN).map(|i| format!("of-0-{i}").into()).collect::<Vec<_>>())
    })
}
