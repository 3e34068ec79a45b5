//! `haosfs image`: looking into an image without mounting it.

mod attributes;
mod cat;
mod extract;
mod extract_target;
mod info;
mod ls;
mod ls_line;
mod verify;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::image::{Image, Options};
use crate::union::SquashfsLower;

/// One of the subcommands; `offset` is in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// What the superblock says.
    Info { image: PathBuf, offset: u64, json: bool },
    /// A directory, or all below it.
    Ls { image: PathBuf, offset: u64, path: PathBuf, recursive: bool, json: bool },
    /// The content of a file.
    Cat { image: PathBuf, offset: u64, path: PathBuf },
    /// Unpack.
    Extract { image: PathBuf, offset: u64, path: PathBuf, directory: PathBuf },
    /// Read everything.
    Verify { image: PathBuf, offset: u64 },
}

/// Runs one of the subcommands.
///
/// # Errors
/// Damage of the image, paths that it does not have, and whatever writing the output answers.
pub fn run(action: &Action) -> Result<()> {
    match action {
        Action::Info { image, offset, json } => info::run(&open(image, *offset)?, image, *json),
        Action::Ls { image, offset, path, recursive, json } => ls::run(&lower(image, *offset)?, path, *recursive, *json),
        Action::Cat { image, offset, path } => cat::run(&lower(image, *offset)?, path),
        Action::Extract { image, offset, path, directory } => extract::run(&lower(image, *offset)?, path, directory),
        Action::Verify { image, offset } => verify::run(&open(image, *offset)?),
    }
}

fn open(image: &Path, offset: u64) -> Result<Image> {
    Image::open(image, &Options { offset, ..Options::default() })
}

fn lower(image: &Path, offset: u64) -> Result<SquashfsLower> {
    open(image, offset).map(SquashfsLower::new)
}
