//! `haosfs update rollback`.

use std::path::Path;

use super::carry_out::happen;
use super::outcome::Failure;
use super::status;
use crate::update::state::{Event, ON_REQUEST, State};
use crate::update::store::Store;

/// Leaves the image that waits or is tried, or else goes back from the system image to the one before.
///
/// # Errors
/// Where there is no image to go back to; what reading or writing the state answers.
pub fn run(ini: &Path, json: bool) -> Result<(), Failure> {
    let store = Store::take(ini)?;
    match store.read()?.state {
        State::Stable { proven, .. } if proven.previous.is_none() => {
            return Err(Failure::nothing(format!("no image before {} is known", proven.good)));
        }
        State::RolledBack { proven, bad, .. } if bad.why != ON_REQUEST => {
            let good = proven.good;
            return Err(Failure::nothing(format!(
                "{} was left already, and {good} has not been confirmed since: `haosfs update confirm` if it works, and then once more",
                bad.image
            )));
        }
        _ => {}
    }
    let outcome = happen(&store, Event::Rollback, None)?;
    status::print(&store, &outcome.state, json)?;
    if outcome.reboot {
        tracing::info!("boot once more: {} follows", outcome.state.proven().good);
    }
    Ok(())
}
