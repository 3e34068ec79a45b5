//! `haosfs update`: a new image, tried before it is trusted.

pub(super) mod carry_out;
mod confirm;
mod fail;
mod gc;
mod outcome;
mod place;
mod progress;
mod rollback;
mod stage;
mod status;

use std::path::PathBuf;

pub(super) use confirm::may_speak_for;
pub use outcome::{Failure, NO_ROOM, NOTHING_TO_DO, REFUSED_IMAGE};
pub use place::{digest_of_start, is_open};
pub use stage::Request as StageRequest;

/// One of the subcommands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// An image is put in its place and tried at the next boot.
    Stage(StageRequest),
    /// Where an update stands.
    Status { ini: PathBuf, json: bool },
    /// The image that is tried works.
    Confirm { ini: PathBuf, unrecorded: bool, json: bool },
    /// It does not.
    Fail { ini: PathBuf, reason: String, log: Option<PathBuf>, json: bool },
    /// The image before shall be booted again.
    Rollback { ini: PathBuf, json: bool },
    /// Images and uppers go that nobody needs.
    Gc { ini: PathBuf, dry_run: bool, json: bool },
}

/// Runs one of the subcommands.
///
/// # Errors
/// Whatever keeps it from what was asked for, with the exit code for it.
pub fn run(action: &Action) -> Result<(), Failure> {
    match action {
        Action::Stage(request) => stage::run(request),
        Action::Status { ini, json } => status::run(ini, *json),
        Action::Confirm { ini, unrecorded, json } => confirm::run(ini, *unrecorded, *json),
        Action::Fail { ini, reason, log, json } => fail::run(ini, reason, log.as_deref(), *json),
        Action::Rollback { ini, json } => rollback::run(ini, *json),
        Action::Gc { ini, dry_run, json } => gc::run(ini, *dry_run, *json),
    }
}
