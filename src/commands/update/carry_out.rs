//! What a command does of what follows from an event. Booting is the boot's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::config::image_source::ImageSource;
use crate::error::{Error, Result};
use crate::mount::trial::{self, InUse};
use crate::update::state::{Effect, Event, State, step};
use crate::update::store::{Standing, Store};
use crate::update::trial_log::{Attempt, MOST_AT_ONCE};

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
    let ended = ended(&before, &state);
    // A log belongs to the failure: who reads of that shall find it.
    if let (Some((attempt, _)), Some(log)) = (&ended, log) {
        let log = read_log(log)?;
        // The failure counts without it, too.
        if let Err(e) = store.logs().add(attempt, &log) {
            tracing::warn!("{e}");
        }
    }
    let (first, then): (Vec<Effect>, Vec<Effect>) = effects.into_iter().partition(Effect::comes_first);
    let (mut reboot, directory) = (false, store.directory());
    for effect in &first {
        if let Effect::Return { image } = effect
            && let InUse::Anothers(number) = trial::take_into_use(&stored, &directory, image)?
        {
            return Err(Error::Refused(format!(
                "there is no upper that was made on {image}, and generation {number} does not go with it: nothing is changed; \
                 `haosfs config set {} update_image={image}` has it tried with what was changed up to now",
                stored.path.display()
            )));
        }
    }
    save(store, &state, ended.as_ref().map(|(attempt, _)| &attempt.image))?;
    // Not before: by that, whoever stands by the trial knows that it is over.
    if let Some((attempt, words)) = &ended
        && let Err(e) = store.logs().close(attempt, None, words)
    {
        tracing::warn!("{e}");
    }
    for effect in &then {
        match effect {
            Effect::Use { image } => {
                // The next boot says what becomes of another's.
                let _its_or_anothers = trial::take_into_use(&stored, &directory, image)?;
            }
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

/// Where there is no room, the logs of the trial go: that it is over is worth more.
fn save(store: &Store, state: &State, tried: Option<&ImageSource>) -> Result<()> {
    match (store.save(state), tried) {
        (Err(e), Some(image)) if e.is_full() => {
            tracing::warn!("{e}: the logs of {image} go, to make room");
            if let Err(e) = store.logs().forget(image) {
                tracing::warn!("{e}");
            }
            store.save(state)
        }
        (saved, _) => saved,
    }
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

/// No more of it than is kept: its end tells what went wrong.
fn read_log(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::sys("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size > MOST_AT_ONCE {
        file.seek(SeekFrom::Start(size - MOST_AT_ONCE)).map_err(failed)?;
    }
    let mut log = Vec::new();
    file.take(MOST_AT_ONCE).read_to_end(&mut log).map_err(failed)?;
    Ok(log)
}
