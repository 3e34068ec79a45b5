//! `haosfs update confirm`.

use std::path::Path;

use super::carry_out::happen;
use super::outcome::Failure;
use super::status;
use crate::config::image_source::ImageSource;
use crate::mount::boot_record;
use crate::update::state::{Event, State};
use crate::update::store::Store;

/// The image that is tried becomes the system image, its generation of the upper the one in use. Done again, it changes nothing. With
/// `unrecorded` that it is what is running is believed where no boot has left word of that.
///
/// # Errors
/// What reading or writing the state answers.
pub fn run(ini: &Path, unrecorded: bool, json: bool) -> Result<(), Failure> {
    let store = Store::take(ini)?;
    match store.read()?.state {
        State::Staged { next, .. } => {
            return Err(Failure::nothing(format!("{next} was not booted yet: there is nothing to confirm")));
        }
        State::Trying { next, .. } if !unrecorded || boot_record::read()?.is_some() => may_speak_for(&next)?,
        _ => {}
    }
    let outcome = happen(&store, Event::Confirm, None)?;
    Ok(status::print(&store, &outcome.state, json)?)
}

/// Whatever works now says nothing of an image that is not running, because its data could not be reached or it could not be counted.
///
/// # Errors
/// That it is another one, or that nobody knows.
pub fn may_speak_for(next: &ImageSource) -> Result<(), Failure> {
    match boot_record::read()? {
        Some(booted) if !booted.is_trial_of(next) => {
            let (mode, image) = (booted.mode.name(), booted.image);
            Err(Failure::nothing(format!("{next} is not what is running, which is {image} (mode {mode})")))
        }
        Some(_) => Ok(()),
        None => {
            let why = "haosfs boot has left no word of what is running (/run/haosfs/boot.env)";
            Err(Failure::nothing(format!("{why}: whether that is {next} is not known")))
        }
    }
}
