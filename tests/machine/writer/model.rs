//! What the tree must be after so many steps, and which step comes next: by a seed alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::file_system::FileSystem;
use super::step::{Step, parent};

/// A file that is not in its place yet; no part of the tree.
pub const UNFINISHED: &str = ".unfinished";

/// More names than this are not made.
const MOST: usize = 120;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One of the files.
    File(usize),
    /// A directory with its permissions; those that no lower has may move.
    Dir { mode: u32, of_lower: bool },
    /// A symbolic link.
    Symlink(String),
}

/// A file, whatever its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// The tree.
#[derive(Clone, Debug)]
pub struct Model {
    /// By path.
    pub names: BTreeMap<String, Entry>,
    /// By number; those without a name stay.
    pub files: Vec<Contents>,
    /// Where it is.
    pub file_system: FileSystem,
}

/// What the image has.
fn lower() -> impl Iterator<Item = (String, Vec<u8>)> {
    let files = (0..4).flat_map(|dir| (0..16).map(move |file| (dir, file)));
    files.map(|(dir, file)| {
        // Every fourth one is longer than what a copy-up copies at once in a guest of little memory.
        let lines = if file % 4 == 0 { 12_000 } else { 40 };
        (format!("lower{dir}/{file}"), format!("{dir}/{file} of the image\n").repeat(lines).into_bytes())
    })
}

/// Makes what the image has.
pub fn grow(at: &Path) {
    for (path, contents) in lower() {
        let file = at.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, contents).unwrap();
    }
}

/// Numbers by chance (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> Option<T> {
        if choices.is_empty() { None } else { Some(choices[self.below(choices.len())].clone()) }
    }
}

impl Model {
    /// After so many steps.
    pub fn after(seed: u64, steps: u64, file_system: FileSystem) -> Self {
        let mut model = Self { names: BTreeMap::new(), files: Vec::new(), file_system };
        for (path, bytes) in lower() {
            model.names.insert(parent(&path).to_owned(), Entry::Dir { mode: 0o755, of_lower: true });
            model.names.insert(path, Entry::File(model.files.len()));
            model.files.push(Contents { bytes, mode: 0o644 });
        }
        for number in 0..steps {
            let step = model.step(seed, number);
            model.apply(&step);
        }
        model
    }

    /// Whether a file has this name.
    pub fn is_file(&self, path: &str) -> bool {
        matches!(self.names.get(path), Some(Entry::File(_)))
    }

    /// The next step.
    pub fn step(&self, seed: u64, number: u64) -> Step {
        let mut chance = Chance(seed.wrapping_mul(1_000_003).wrapping_add(number));
        loop {
            if let Some(step) = self.try_step(&mut chance, number) {
                return step;
            }
        }
    }

    fn try_step(&self, chance: &mut Chance, number: u64) -> Option<Step> {
        let paths = |wanted: fn(&Entry) -> bool| -> Vec<String> {
            self.names.iter().filter(|(_, entry)| wanted(entry)).map(|(path, _)| path.clone()).collect()
        };
        let files = paths(|entry| matches!(entry, Entry::File(_)));
        let dirs = paths(|entry| matches!(entry, Entry::Dir { .. }));
        let own_dirs = paths(|entry| matches!(entry, Entry::Dir { of_lower: false, .. }));
        let leaves = paths(|entry| !matches!(entry, Entry::Dir { .. }));
        let fresh = |chance: &mut Chance, kind: &str| {
            let dir = chance.of(&dirs).filter(|_| chance.below(8) > 0);
            dir.map_or_else(|| format!("{kind}{number}"), |dir| format!("{dir}/{kind}{number}"))
        };
        let is_full = self.names.len() >= MOST;
        let keeps_renamed = self.file_system.keeps_what_is_renamed();
        Some(match chance.below(16) {
            0 | 1 if !is_full => Step::Put { path: fresh(chance, "f"), contents: text(chance, number) },
            2 => Step::Put { path: chance.of(&files)?, contents: text(chance, number) },
            3..=5 => Step::Append { path: chance.of(&files)?, line: format!("appended {number}\n").into_bytes() },
            6 => {
                let path = chance.of(&files)?;
                let Some(Entry::File(file)) = self.names.get(&path) else { return None };
                let len = self.files[*file].bytes.len();
                Step::Cut { path, len: u64::try_from(chance.below(len + 1)).unwrap() }
            }
            7 if keeps_renamed => Step::Mode { path: chance.of(&files)?, mode: chance.of(&[0o600, 0o640, 0o755, 0o4711])? },
            8 if keeps_renamed => Step::Mode { path: chance.of(&dirs)?, mode: chance.of(&[0o700, 0o755, 0o1777])? },
            9 => {
                let movable = if keeps_renamed { &leaves } else { &files };
                Step::Move { from: chance.of(movable)?, to: fresh(chance, "m") }
            }
            10 => {
                let (from, to) = (chance.of(&own_dirs)?, fresh(chance, "d"));
                if format!("{to}/").starts_with(&format!("{from}/")) {
                    return None;
                }
                Step::Move { from, to }
            }
            11 if !is_full => Step::Link { from: chance.of(&files)?, to: fresh(chance, "l") },
            12 if !is_full => Step::Symlink { path: fresh(chance, "s"), target: format!("to/{number}") },
            13 => Step::Unlink { path: chance.of(&leaves)? },
            14 if !is_full => Step::MakeDir { path: fresh(chance, "d") },
            15 => {
                let is_empty = |dir: &&String| !self.names.keys().any(|path| path.starts_with(&format!("{dir}/")));
                Step::RemoveDir { path: chance.of(&dirs.iter().filter(is_empty).cloned().collect::<Vec<_>>())? }
            }
            _ => return None,
        })
    }

    /// Takes the step.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Put { path, contents } => {
                self.names.insert(path.clone(), Entry::File(self.files.len()));
                self.files.push(Contents { bytes: contents.clone(), mode: 0o644 });
            }
            Step::Append { path, line } => self.file(path).bytes.extend_from_slice(line),
            Step::Cut { path, len } => self.file(path).bytes.truncate(usize::try_from(*len).unwrap()),
            Step::Mode { path, mode } => match self.names.get_mut(path) {
                Some(Entry::Dir { mode: old, .. }) => *old = *mode,
                _ => self.file(path).mode = *mode,
            },
            Step::Move { from, to } => self.relocate(from, to),
            Step::Link { from, to } => drop(self.names.insert(to.clone(), self.names[from].clone())),
            Step::Symlink { path, target } => drop(self.names.insert(path.clone(), Entry::Symlink(target.clone()))),
            Step::MakeDir { path } => drop(self.names.insert(path.clone(), Entry::Dir { mode: 0o755, of_lower: false })),
            Step::Unlink { path } | Step::RemoveDir { path } => drop(self.names.remove(path)),
        }
    }

    fn file(&mut self, path: &str) -> &mut Contents {
        let Some(Entry::File(file)) = self.names.get(path) else { panic!("{path} is no file") };
        &mut self.files[*file]
    }

    fn relocate(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moving: Vec<String> = self.names.keys().filter(|path| *path == from || path.starts_with(&below)).cloned().collect();
        for path in moving {
            let entry = self.names.remove(&path).unwrap();
            self.names.insert(format!("{to}{}", &path[from.len()..]), entry);
        }
    }
}

fn text(chance: &mut Chance, number: u64) -> Vec<u8> {
    format!("{number} is written\n").repeat(chance.below(400)).into_bytes()
}
