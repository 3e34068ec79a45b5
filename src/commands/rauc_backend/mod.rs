//! `haosfs rauc-backend`: RAUC's custom bootloader backend (RAUC documentation, "Custom Bootloader Backend"). What RAUC installs is
//! tried as any other update.

mod checked;
mod slots;

use std::path::Path;

use super::output::Output;
use super::update::carry_out::happen;
use super::update::may_speak_for;
use crate::config::image_source::ImageSource;
use crate::error::{Error, Result};
use crate::mount::{boot_record, image_choice};
use crate::update::state::{Effect, Event, State, step};
use crate::update::store::{Standing, Store};
use checked::Checked;
use slots::Slots;

/// Why an image is left that RAUC has marked.
const MARKED: &str = "RAUC has marked it bad";

/// What RAUC asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// The slot that is booted next.
    GetPrimary,
    /// This one shall be.
    SetPrimary { slot: String },
    /// Whether one can be booted.
    GetState { slot: String },
    /// Whether one shall be taken for good.
    SetState { slot: String, good: bool },
    /// The slot that is running.
    GetCurrent,
}

/// Does it.
///
/// # Errors
/// Where there is no such slot, or it cannot be done; what reading or writing the state answers.
pub fn run(ini: &Path, action: &Action) -> Result<()> {
    match action {
        Action::GetPrimary | Action::GetState { .. } | Action::GetCurrent => {
            let store = Store::look(ini)?;
            let standing = store.read()?;
            let answer = answer(&store, &standing, action)?;
            let mut output = Output::open();
            output.line(&answer)?;
            output.finish()
        }
        Action::SetPrimary { slot } => set_primary(ini, slot),
        Action::SetState { slot, good } => {
            let store = Store::take(ini)?;
            let event = marked(&store.read()?, slot, *good)?;
            event.map_or(Ok(()), |event| happen(&store, event, None).map(drop))
        }
    }
}

/// The image is checked before the state is taken. What was decided meanwhile may make of it another's.
fn set_primary(ini: &Path, slot: &str) -> Result<()> {
    // Nothing is begun where somebody else is at it.
    drop(Store::take(ini)?);
    let store = Store::look(ini)?;
    let standing = store.read()?;
    let checked = match primary(&standing, slot)? {
        Some(Event::Stage { image, .. }) => Some(Checked::check(&store, &standing, image)?),
        _ => None,
    };
    let store = Store::await_turn(ini)?;
    let standing = store.read()?;
    let Some(event) = primary(&standing, slot)? else { return Ok(()) };
    if let Event::Stage { image, .. } = &event
        && !checked.is_some_and(|checked| checked.is(&store, &standing, image))
    {
        return Err(Error::Refused(format!("{image}, or {}, was changed while it was checked; try again", ini.display())));
    }
    happen(&store, event, None).map(drop)
}

fn answer(store: &Store, standing: &Standing, action: &Action) -> Result<String> {
    let (slots, state) = (Slots::of(&standing.stored.config)?, &standing.state);
    match action {
        Action::GetState { slot } => {
            let image = slots.image(slot)?;
            let has_failed = state.failed().is_some_and(|failed| failed.image == image);
            let good = !has_failed && image_choice::find_sound(&image, &store.directory()).is_ok();
            Ok(if good { "good" } else { "bad" }.to_owned())
        }
        Action::GetCurrent => {
            let missing = || Error::Refused("haosfs boot has left no word of what is running".to_owned());
            slots.name(&running(&slots, &boot_record::read()?.ok_or_else(missing)?.image, &store.directory())?)
        }
        _ => slots.name(&booted_next(state)),
    }
}

fn booted_next(state: &State) -> ImageSource {
    let (_, effects) = step(state.clone(), Event::BootBegins);
    let booted = effects.into_iter().find_map(|effect| if let Effect::Boot { image } = effect { Some(image) } else { None });
    booted.unwrap_or_else(|| state.proven().good.clone())
}

/// In safe mode its path is known alone.
fn running(slots: &Slots, image: &str, home: &Path) -> Result<ImageSource> {
    let at_path = |source: &&ImageSource| image_choice::find(source, home).is_ok_and(|path| path == Path::new(image));
    match slots.images().find(at_path) {
        Some(source) => Ok(source.clone()),
        None => ImageSource::parse(image).map_err(Error::Refused),
    }
}

/// One that is not the good one is tried.
fn primary(standing: &Standing, slot: &str) -> Result<Option<Event>> {
    let (image, state) = (Slots::of(&standing.stored.config)?.image(slot)?, &standing.state);
    if state.proven().good == image {
        return Ok(state.next().is_some().then_some(Event::Rollback));
    }
    if state.next() == Some(&image) {
        return Ok(None);
    }
    Ok(Some(Event::Stage { image, tries: standing.rules.tries }))
}

fn marked(standing: &Standing, slot: &str, good: bool) -> Result<Option<Event>> {
    let (image, state) = (Slots::of(&standing.stored.config)?.image(slot)?, &standing.state);
    let has_failed = state.failed().is_some_and(|failed| failed.image == image);
    Ok(match (good, state) {
        (true, State::Trying { next, .. }) if *next == image => {
            may_speak_for(next).map_err(|failure| failure.error)?;
            Some(Event::Confirm)
        }
        (true, State::RolledBack { proven, .. }) if proven.good == image => Some(Event::Confirm),
        (true, _) => has_failed.then_some(Event::Absolve { image }),
        (false, State::Stable { proven, .. }) if proven.good == image && proven.previous.is_none() => {
            return Err(Error::Refused(format!(
                "{image} cannot be marked bad: there is nothing that could be booted in its place"
            )));
        }
        (false, State::Staged { .. } | State::Trying { .. } | State::RolledBack { .. }) if state.proven().good == image => {
            return Err(Error::Refused(format!("{image} cannot be marked bad while an update is tried or has just failed")));
        }
        (false, State::RolledBack { bad, .. }) if bad.image != image => {
            let failed = &bad.image;
            return Err(Error::Refused(format!(
                "{image} cannot be marked bad before what is running after the failure of {failed} is confirmed: haosfs update confirm"
            )));
        }
        (false, _) => (!has_failed).then(|| Event::Condemn { image, why: MARKED.to_owned() }),
    })
}
