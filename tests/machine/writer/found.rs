//! What the tree is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::model::{Entry, Model, UNFINISHED};

enum Thing {
    File { bytes: Vec<u8>, mode: u32, names: u64 },
    Dir { mode: u32 },
    Symlink(String),
}

/// A tree that was read.
pub struct Found(BTreeMap<String, Thing>);

impl Found {
    /// Reads what is below a directory.
    pub fn below(dir: &Path) -> Self {
        let mut things = BTreeMap::new();
        let mut waiting = vec![String::new()];
        while let Some(parent) = waiting.pop() {
            for entry in fs::read_dir(dir.join(&parent)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let path = if parent.is_empty() { name } else { format!("{parent}/{name}") };
                if path == UNFINISHED {
                    continue;
                }
                let at = dir.join(&path);
                let meta = fs::symlink_metadata(&at).unwrap_or_else(|e| panic!("{path}: {e}"));
                let mode = meta.mode() & 0o7777;
                let thing = if meta.is_dir() {
                    waiting.push(path.clone());
                    Thing::Dir { mode }
                } else if meta.is_symlink() {
                    Thing::Symlink(fs::read_link(&at).unwrap().into_os_string().into_string().unwrap())
                } else {
                    let bytes = fs::read(&at).unwrap_or_else(|e| panic!("{path}: {e}"));
                    assert_eq!(bytes.len() as u64, meta.size(), "{path}");
                    Thing::File { bytes, mode, names: meta.nlink() }
                };
                things.insert(path, thing);
            }
        }
        Self(things)
    }

    /// Where it is not what it should be.
    pub fn differences(&self, model: &Model) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &model.names {
            match (self.0.get(path), entry) {
                (None, _) => lines.push(format!("{path} is missing")),
                (Some(Thing::Dir { mode }), Entry::Dir { mode: expected, .. }) if mode == expected => {}
                (Some(Thing::Symlink(target)), Entry::Symlink(expected)) if target == expected => {}
                (Some(Thing::File { bytes, mode, names }), Entry::File(file)) => {
                    let expected = &model.files[*file];
                    let named = model.names.values().filter(|other| *other == entry).count();
                    if *bytes != expected.bytes {
                        let same = bytes.iter().zip(&expected.bytes).take_while(|(a, b)| a == b).count();
                        let (len, wanted) = (bytes.len(), expected.bytes.len());
                        lines.push(format!("{path} has {len} bytes and not {wanted}, {same} of them right"));
                    }
                    if *mode != expected.mode || *names != named as u64 {
                        lines.push(format!("{path} has mode {mode:o} and {names} names, not {:o} and {named}", expected.mode));
                    }
                }
                _ => lines.push(format!("{path} is something else than {entry:?}")),
            }
        }
        let more = self.0.keys().filter(|path| !model.names.contains_key(*path));
        lines.extend(more.map(|path| format!("{path} should not be there")));
        lines
    }
}
