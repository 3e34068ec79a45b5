//! `haosfs update confirm`.

use std::path::Path;

use super::carry_out::happen;
use super::outcome::Failure;
use super::status;
use crate::update::state::{Event, State};
use crate::update::store::Store;

/// The image that is tried becomes the system image, its generation of the upper the one in use. Done again, it changes nothing.
///
/// # Errors
/// What reading or writing the state answers.
pub fn run(ini: &Path, json: bool) -> Result<(), Failure> {
    let store = Store::take(ini)?;
    if let State::Staged { next, .. } = store.read()?.state {
        return Err(Failure::nothing(format!("{next} was not booted yet: there is nothing to confirm")));
    }
    let outcome = happen(&store, Event::Confirm, None)?;
    Ok(status::print(&store, &outcome.state, json)?)
}
