//! One lower, grown by the test, and a home for the upper.

use std::fs::create_dir;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::scratch::open_temp_dir;
use super::squashfs;
use super::union::{Driver, Lower, Union};

/// A tree, the lower made from it, and a home for the upper; they go when this is dropped.
pub struct Ground {
    dir: TempDir,
    lower: Lower,
}

impl Ground {
    /// The tree itself is the lower.
    pub fn directory(grow: impl FnOnce(&Path)) -> Self {
        let dir = grown(grow);
        let lower = Lower::Dir(dir.path().join("tree"));
        Self { dir, lower }
    }

    /// The tree is packed with extra arguments of mksquashfs.
    pub fn image(args: &[&str], grow: impl FnOnce(&Path)) -> Self {
        let dir = grown(grow);
        let image = dir.path().join("image.sqfs");
        squashfs::pack(&dir.path().join("tree"), &image, args);
        Self { dir, lower: Lower::Image(image) }
    }

    /// The lower made from the tree.
    pub fn lower(&self) -> &Lower {
        &self.lower
    }

    /// The tree.
    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// Where [`Ground::mount`] keeps the upper and the work directory.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Mounts it.
    pub fn mount(&self, driver: Driver, options: &[&str]) -> Union {
        self.mount_with(driver, &self.home(), options)
    }

    /// Mounts it with the upper and the work directory elsewhere.
    pub fn mount_with(&self, driver: Driver, home: &Path, options: &[&str]) -> Union {
        Union::with_options(driver, std::slice::from_ref(&self.lower), home, options)
    }
}

fn grown(grow: impl FnOnce(&Path)) -> TempDir {
    let dir = open_temp_dir();
    for name in ["tree", "home"] {
        create_dir(dir.path().join(name)).unwrap();
    }
    grow(&dir.path().join("tree"));
    dir
}
