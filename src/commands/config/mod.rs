//! `haosfs config`: haos.ini without an editor.

mod check;
mod finding;
mod get;
mod key;
mod set;
mod show;

use std::path::{Path, PathBuf};

use crate::config::store::{self, Stored};
use crate::error::{Error, Result};

/// One of the subcommands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// All that is configured.
    Show { file: PathBuf, json: bool },
    /// One key; `KEY` in `[haos]`, or `SECTION.KEY`.
    Get { file: PathBuf, key: String, json: bool },
    /// Keys get values (`KEY=VALUE`), or go.
    Set { file: PathBuf, assignments: Vec<String>, unset: Vec<String>, json: bool },
    /// Whether this machine has what is configured.
    Check { file: PathBuf, json: bool },
}

/// Runs one of the subcommands; returns the exit code, 1 where [`Action::Check`] finds an error.
///
/// # Errors
/// A file that cannot be read or written or is not valid, and whatever writing the output answers.
pub fn run(action: &Action) -> Result<u8> {
    match action {
        Action::Show { file, json } => show::run(file, *json).map(|()| 0),
        Action::Get { file, key, json } => get::run(file, key, *json).map(|()| 0),
        Action::Set { file, assignments, unset, json } => set::run(file, assignments, unset, *json).map(|()| 0),
        Action::Check { file, json } => check::run(file, *json),
    }
}

/// What is configured.
fn configured(file: &Path) -> Result<Stored> {
    store::read(file)?.ok_or_else(|| not_configured(file))
}

fn not_configured(file: &Path) -> Error {
    Error::Refused(format!("{} is not there, nor is a backup of it: nothing is configured", file.display()))
}
