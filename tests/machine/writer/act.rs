//! Carries steps out, and makes them durable by what is promised of files and directories: nothing is synchronised but they.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Result, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::model::{Model, UNFINISHED};
use super::step::{Step, parent};

/// Removes what a step that was broken off has left.
pub fn clear(dir: &Path) {
    let _ = fs::remove_file(dir.join(UNFINISHED));
}

/// Carries a step out; it is durable when this returns.
pub fn carry_out(dir: &Path, step: &Step, model: &Model) -> Result<()> {
    let at = |path: &str| dir.join(path);
    let sync = |path: &str| File::open(dir.join(path))?.sync_all();
    match step {
        Step::Put { path, contents } => {
            let mut file = File::create(at(UNFINISHED))?;
            file.write_all(contents)?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.sync_all()?;
            fs::rename(at(UNFINISHED), at(path))?;
            sync(parent(path))
        }
        Step::Append { path, line } => {
            let mut file = OpenOptions::new().append(true).open(at(path))?;
            file.write_all(line)?;
            file.sync_all()
        }
        Step::Cut { path, len } => {
            let file = OpenOptions::new().write(true).open(at(path))?;
            file.set_len(*len)?;
            file.sync_all()
        }
        Step::Mode { path, mode } => {
            fs::set_permissions(at(path), Permissions::from_mode(*mode))?;
            sync(path)
        }
        Step::Move { from, to } => {
            fs::rename(at(from), at(to))?;
            sync(parent(to))?;
            sync(parent(from))
        }
        Step::Link { from, to } => {
            fs::hard_link(at(from), at(to))?;
            if model.is_file(from) {
                sync(from)?;
            }
            sync(parent(to))
        }
        Step::Symlink { path, target } => {
            symlink(target, at(path))?;
            sync(parent(path))
        }
        Step::Unlink { path } => {
            fs::remove_file(at(path))?;
            sync(parent(path))
        }
        Step::MakeDir { path } => {
            fs::create_dir(at(path))?;
            sync(parent(path))
        }
        Step::RemoveDir { path } => {
            fs::remove_dir(at(path))?;
            sync(parent(path))
        }
    }
}
