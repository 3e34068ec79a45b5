//! Random operations. Few names, so that they meet; and mostly on what is there, so that they succeed.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::select;

use super::target::{Answer, Replace, SLOTS, Target};
use super::tree::{Shape, Tree};

/// One operation, on paths or on places that become paths when its turn comes.
#[derive(Clone, Debug)]
pub enum Op<P = PathBuf> {
    /// [`Target::create`]
    Create(P),
    /// [`Target::write`]
    Write(P, u64, Vec<u8>),
    /// [`Target::truncate`]
    Truncate(P, u64),
    /// [`Target::mkdir`]
    Mkdir(P),
    /// [`Target::rmdir`]
    Rmdir(P),
    /// [`Target::unlink`]
    Unlink(P),
    /// [`Target::rename`]
    Rename(P, P, Replace),
    /// [`Target::link`]
    Link(P, P),
    /// [`Target::symlink`]
    Symlink(&'static str, P),
    /// [`Target::chmod`]
    Chmod(P, u32),
    /// [`Target::set_mtime`]
    SetMtime(P, (i64, u32)),
    /// [`Target::set_xattr`]
    SetXattr(P, &'static str, Vec<u8>),
    /// [`Target::remove_xattr`]
    RemoveXattr(P, &'static str),
    /// [`Target::open`]
    Open(usize, P),
    /// [`Target::read_open`]
    ReadOpen(usize),
    /// [`Target::remount`]
    Remount,
}

/// Where an operation happens. The numbers choose among what the model has at that moment.
#[derive(Clone, Debug)]
pub enum Place {
    /// A path that may name nothing.
    Path(PathBuf),
    /// Anything that is there.
    Any(usize),
    /// Something that is no directory.
    File(usize),
    /// A directory, not the root.
    Dir(usize),
    /// Something that has extended attributes.
    Attributed(usize),
    /// A name in a directory that is there, or in the root.
    Inside(usize, &'static str),
}

impl Place {
    fn path(&self, tree: &Tree) -> PathBuf {
        let choose = |n: usize, wanted: fn(Shape) -> bool| {
            let mut paths = tree.paths(wanted);
            if paths.is_empty() { PathBuf::from("a") } else { paths.swap_remove(n % paths.len()) }
        };
        match self {
            Self::Path(path) => path.clone(),
            Self::Any(n) => choose(*n, |_| true),
            Self::File(n) => choose(*n, |shape| !shape.is_dir),
            Self::Dir(n) => choose(*n, |shape| shape.is_dir),
            Self::Attributed(n) => choose(*n, |shape| shape.has_xattrs),
            Self::Inside(n, name) => {
                let mut dirs = tree.paths(|shape| shape.is_dir);
                dirs.push(PathBuf::new());
                dirs.swap_remove(n % dirs.len()).join(name)
            }
        }
    }
}

impl Op<Place> {
    /// The operation on paths, chosen by what the tree has now.
    pub fn place(&self, tree: &Tree) -> Op {
        let at = |place: &Place| place.path(tree);
        match self {
            Self::Create(place) => Op::Create(at(place)),
            Self::Write(place, offset, bytes) => Op::Write(at(place), *offset, bytes.clone()),
            Self::Truncate(place, len) => Op::Truncate(at(place), *len),
            Self::Mkdir(place) => Op::Mkdir(at(place)),
            Self::Rmdir(place) => Op::Rmdir(at(place)),
            Self::Unlink(place) => Op::Unlink(at(place)),
            Self::Rename(from, to, replace) => Op::Rename(at(from), at(to), *replace),
            Self::Link(from, to) => Op::Link(at(from), at(to)),
            Self::Symlink(target, place) => Op::Symlink(target, at(place)),
            Self::Chmod(place, mode) => Op::Chmod(at(place), *mode),
            Self::SetMtime(place, time) => Op::SetMtime(at(place), *time),
            Self::SetXattr(place, name, value) => Op::SetXattr(at(place), name, value.clone()),
            Self::RemoveXattr(place, name) => Op::RemoveXattr(at(place), name),
            Self::Open(slot, place) => Op::Open(*slot, at(place)),
            Self::ReadOpen(slot) => Op::ReadOpen(*slot),
            Self::Remount => Op::Remount,
        }
    }
}

impl Op {
    /// The name of the operation.
    pub fn name(&self) -> String {
        format!("{self:?}").split('(').next().unwrap_or_default().to_owned()
    }

    /// Does it; what it reads is the answer, else nothing.
    pub fn apply(&self, target: &mut dyn Target) -> Answer<Vec<u8>> {
        let done = match self {
            Self::Create(path) => target.create(path),
            Self::Write(path, offset, bytes) => target.write(path, *offset, bytes),
            Self::Truncate(path, len) => target.truncate(path, *len),
            Self::Mkdir(path) => target.mkdir(path),
            Self::Rmdir(path) => target.rmdir(path),
            Self::Unlink(path) => target.unlink(path),
            Self::Rename(from, to, replace) => target.rename(from, to, *replace),
            Self::Link(from, to) => target.link(from, to),
            Self::Symlink(to, path) => target.symlink(to, path),
            Self::Chmod(path, mode) => target.chmod(path, *mode),
            Self::SetMtime(path, time) => target.set_mtime(path, *time),
            Self::SetXattr(path, name, value) => target.set_xattr(path, name, value),
            Self::RemoveXattr(path, name) => target.remove_xattr(path, name),
            Self::Open(slot, path) => target.open(*slot, path),
            Self::ReadOpen(slot) => return target.read_open(*slot),
            Self::Remount => {
                target.remount();
                Ok(())
            }
        };
        done.map(|()| Vec::new())
    }
}

const NAMES: &[&str] = &["a", "b", "c", "d", "e", "odd \n\u{7f}ü"];
const XATTRS: &[&str] = &["user.x", "user.overlay.y"];

fn anywhere() -> impl Strategy<Value = Place> {
    proptest::collection::vec(select(NAMES), 1..4).prop_map(|names| Place::Path(names.iter().collect::<PathBuf>()))
}

fn mostly(place: fn(usize) -> Place) -> impl Strategy<Value = Place> {
    prop_oneof![16 => any::<usize>().prop_map(place), 2 => any::<usize>().prop_map(Place::Any), 1 => anywhere()]
}

fn new_name() -> impl Strategy<Value = Place> {
    prop_oneof![16 => (any::<usize>(), select(NAMES)).prop_map(|(n, name)| Place::Inside(n, name)), 1 => anywhere()]
}

/// Where a rename goes: a new name, or over something.
fn destination() -> impl Strategy<Value = Place> {
    prop_oneof![3 => new_name(), 3 => mostly(Place::Any), 1 => mostly(Place::File), 1 => mostly(Place::Dir)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 1..40),
        1 => (any::<u8>(), 1..20_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..64_u64, 1 => 4000..4200_u64, 1 => 0..150_000_u64]
}

fn on_attributes() -> impl Strategy<Value = Op<Place>> {
    let mode = select(&[0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0o000, 0o444][..]);
    let value = proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => (mostly(Place::Any), mode).prop_map(|(place, mode)| Op::Chmod(place, mode)),
        3 => (mostly(Place::Any), (0..4_000_000_000_i64, 0..1_000_000_000_u32)).prop_map(|(place, time)| Op::SetMtime(place, time)),
        3 => (mostly(Place::Any), select(XATTRS), value).prop_map(|(place, name, value)| Op::SetXattr(place, name, value)),
        3 => (mostly(Place::Attributed), select(XATTRS)).prop_map(|(place, name)| Op::RemoveXattr(place, name)),
    ]
}

fn on_names() -> impl Strategy<Value = Op<Place>> {
    let replace = prop_oneof![4 => Just(Replace::Yes), 1 => Just(Replace::No), 2 => Just(Replace::Exchange)];
    prop_oneof![
        10 => new_name().prop_map(Op::Create),
        8 => new_name().prop_map(Op::Mkdir),
        4 => mostly(Place::Dir).prop_map(Op::Rmdir),
        6 => mostly(Place::File).prop_map(Op::Unlink),
        14 => (mostly(Place::Any), destination(), replace).prop_map(|(from, to, replace)| Op::Rename(from, to, replace)),
        4 => (mostly(Place::File), new_name()).prop_map(|(from, to)| Op::Link(from, to)),
        2 => (select(&["nowhere", "no/where/else"][..]), new_name()).prop_map(|(target, place)| Op::Symlink(target, place)),
    ]
}

/// Any operation but remounting.
pub fn op() -> impl Strategy<Value = Op<Place>> {
    prop_oneof![
        48 => on_names(),
        13 => on_attributes(),
        8 => (mostly(Place::File), offset(), bytes()).prop_map(|(place, offset, bytes)| Op::Write(place, offset, bytes)),
        4 => (mostly(Place::File), offset()).prop_map(|(place, len)| Op::Truncate(place, len)),
        8 => (0..SLOTS, mostly(Place::File)).prop_map(|(slot, place)| Op::Open(slot, place)),
        6 => (0..SLOTS).prop_map(Op::ReadOpen),
    ]
}

/// A history: what makes the lower, then what happens in the union.
pub fn history(remounts: bool) -> impl Strategy<Value = (Vec<Op<Place>>, Vec<Op<Place>>)> {
    let changes = prop_oneof![24 => op(), u32::from(remounts) => Just(Op::Remount)];
    (proptest::collection::vec(op(), 0..60), proptest::collection::vec(changes, 1..60))
}
