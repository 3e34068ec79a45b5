//! `haosfs update fail`.

use std::path::Path;

use super::carry_out::happen;
use super::outcome::Failure;
use super::status;
use crate::update::state::{Event, State};
use crate::update::store::Store;

/// The image that waits or is tried goes, and is not tried again by accident. Done again, it changes nothing.
///
/// # Errors
/// Where there is no trial; what reading or writing the state answers.
pub fn run(ini: &Path, reason: &str, log: Option<&Path>, json: bool) -> Result<(), Failure> {
    let store = Store::take(ini)?;
    if let State::Stable { .. } = store.read()?.state {
        return Err(Failure::nothing("no image is tried: there is nothing that could fail".to_owned()));
    }
    let outcome = happen(&store, Event::Fail { why: reason.to_owned() }, log)?;
    status::print(&store, &outcome.state, json)?;
    if outcome.reboot {
        tracing::info!("boot once more: {} follows", outcome.state.proven().good);
    }
    Ok(())
}
