//! Images to measure, packed by mksquashfs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A tree, and the images packed from it; removed at the end.
pub struct Subject {
    dir: tempfile::TempDir,
}

impl Subject {
    /// A tree of `files` files named `name-N` of `size` bytes that shrink to about a third, in the directory `d`.
    pub fn new(files: usize, size: usize) -> Self {
        Self::named(files, size, "name-")
    }

    /// The same with another beginning of the names.
    pub fn named(files: usize, size: usize, name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree/d");
        fs::create_dir_all(&tree).unwrap();
        for i in 0..files {
            fs::write(tree.join(format!("{name}{i}")), text(size, i as u64)).unwrap();
        }
        Self { dir }
    }

    /// Packs the tree with these options of mksquashfs.
    pub fn pack(&self, options: &[&str]) -> PathBuf {
        let image = self.dir.path().join(options.join(""));
        let mut command = Command::new("mksquashfs");
        command.arg(self.dir.path().join("tree")).arg(&image).args(["-noappend", "-no-progress", "-quiet"]).args(options);
        assert!(command.status().unwrap().success(), "{command:?}");
        image
    }
}

/// Words and numbers; the same for the same seed.
fn text(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = Vec::with_capacity(size + 32);
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend_from_slice(format!("entry {} of {:x} is here\n", state % 1000, state >> 40).as_bytes());
    }
    text.truncate(size);
    text
}
