//! The names that are there now, for choosing among them.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What is under a name, as far as choosing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    Dir,
    File,
    Symlink,
    /// A pipe, socket or device: opening it may wait, or reach a device.
    Special,
}

/// All names of a tree, sorted, without the root.
#[derive(Debug, Default)]
pub struct Landscape {
    names: Vec<(PathBuf, Shape)>,
}

impl Landscape {
    /// Lists everything below a root.
    pub fn of(root: &Path) -> std::io::Result<Self> {
        let mut landscape = Self::default();
        landscape.visit(root, Path::new(""))?;
        landscape.names.sort();
        Ok(landscape)
    }

    fn visit(&mut self, root: &Path, at: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(root.join(at))? {
            let entry = entry?;
            let (path, kind) = (at.join(entry.file_name()), entry.file_type()?);
            let shape = match kind {
                kind if kind.is_dir() => Shape::Dir,
                kind if kind.is_symlink() => Shape::Symlink,
                kind if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() => Shape::Special,
                _ => Shape::File,
            };
            self.names.push((path.clone(), shape));
            if shape == Shape::Dir {
                self.visit(root, &path)?;
            }
        }
        Ok(())
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The names of a shape, or of any.
    pub fn names(&self, wanted: Option<Shape>) -> Vec<&Path> {
        let fits = |shape: Shape| wanted.is_none_or(|wanted| wanted == shape);
        self.names.iter().filter(|(_, shape)| fits(*shape)).map(|(path, _)| path.as_path()).collect()
    }

    /// Everything below a directory and itself, deepest first.
    pub fn what_is_below(&self, dir: &Path) -> Vec<(&Path, Shape)> {
        let below = self.names.iter().rev().filter(|(path, _)| path.starts_with(dir));
        below.map(|(path, shape)| (path.as_path(), *shape)).collect()
    }
}
