//! What a command does of what follows from an event. Booting is the boot's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};
use crate::mount::trial;
use crate::update::state::{Effect, Event, State, step};
use crate::update::store::{Standing, Store};
use crate::update::trial_log::Attempt;

/// What became of an event.
pub struct Outcome {
    /// The state now.
    pub state: State,
    /// The machine must be booted once more.
    pub reboot: bool,
}

/// Lets an event happen: the state is saved, then what follows is done; all of it may be done again. `log` is a file with the log
/// of a boot that failed.
///
/// # Errors
/// What reading the state, saving it, or the effects answer.
pub fn happen(store: &Store, event: Event, log: Option<&Path>) -> Result<Outcome> {
    let Standing { stored, state: before, .. } = store.read()?;
    let (state, effects) = step(before.clone(), event);
    // A log belongs to the failure: who reads of that shall find it.
    if let Some((attempt, words)) = ended(&before, &state) {
        let more = log.map(read_log).transpose()?;
        match store.logs().close(&attempt, more.as_deref(), &words) {
            Err(e) if more.is_some() => return Err(e),
            Err(e) => tracing::warn!("{e}"),
            Ok(()) => {}
        }
    }
    let (first, then): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(Effect::comes_first);
    let (mut reboot, directory) = (false, store.directory());
    for effect in &first {
        if let Effect::Return { image } = effect {
            trial::take_into_use(&stored, &directory, image)?;
        }
    }
    store.save(&state)?;
    for effect in &then {
        match effect {
            Effect::Use { image } => trial::take_into_use(&stored, &directory, image)?,
            Effect::Drop { image } => {
                if let Err(e) = trial::discard(&stored, &directory, image) {
                    tracing::warn!("the upper that {image} was tried with stays: {e}");
                }
            }
            Effect::Reboot => reboot = true,
            _ => {}
        }
    }
    Ok(Outcome { state, reboot })
}

/// The attempt that is over, and how it came out.
fn ended(before: &State, after: &State) -> Option<(Attempt, String)> {
    let State::Trying { next, tried, .. } = before else { return None };
    let words = match after {
        State::Trying { next: still, .. } if still == next => return None,
        State::Stable { .. } => "it was confirmed".to_owned(),
        State::RolledBack { bad, .. } => bad.why.clone(),
        _ => "another image was staged".to_owned(),
    };
    Some((Attempt { image: next.clone(), number: *tried }, words))
}

/// More of a log is not kept, in bytes: its end tells what went wrong.
const LONGEST_LOG: u64 = 512 << 10;

fn read_log(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::sys("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > LONGEST_LOG {
        file.seek(SeekFrom::Start(size - LONGEST_LOG)).map_err(failed)?;
    }
    let mut log = Vec::new();
    file.take(LONGEST_LOG).read_to_end(&mut log).map_err(failed)?;
    Ok(log)
}
