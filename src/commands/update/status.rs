//! `haosfs update status`.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use super::outcome::Failure;
use crate::commands::output::{Output, add, add_bytes, printable};
use crate::config::image_source::ImageSource;
use crate::error::Result;
use crate::update::state::State;
use crate::update::store::Store;

/// Says where an update stands. Nothing is written.
///
/// # Errors
/// Where haos.ini or `trial/` cannot be read.
pub fn run(ini: &Path, json: bool) -> Result<(), Failure> {
    let store = Store::look(ini)?;
    let state = store.read()?.state;
    Ok(print(&store, &state, json)?)
}

/// Prints a state.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(store: &Store, state: &State, json: bool) -> Result<()> {
    let mut output = Output::open();
    if json {
        output.line(&object(store, state).to_string())?;
        return output.finish();
    }
    output.line(&format!("state           {}", word(state)))?;
    output.line(&format!("system image    {}", state.proven().good))?;
    output.line(&format!("previous image  {}", name(state.proven().previous.as_ref())))?;
    output.line(&format!("update image    {}", name(state.next()) + &attempts(state)))?;
    if let Some(failed) = state.failed() {
        output.line(&format!("failed image    {}: {}", failed.image, printable(OsStr::new(&failed.why))))?;
        if let Some(log) = log(store, state) {
            output.line(&format!("its log         {}", printable(log.as_os_str())))?;
        }
    }
    output.finish()
}

fn name(image: Option<&ImageSource>) -> String {
    image.map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// The word for a state.
const fn word(state: &State) -> &'static str {
    match state {
        State::Stable { .. } => "stable",
        State::Staged { .. } => "staged",
        State::Trying { .. } => "trying",
        State::RolledBack { .. } => "rolled back",
        State::Safe { .. } => "safe",
    }
}

fn attempts(state: &State) -> String {
    match state {
        State::Staged { left, .. } => format!(", not tried yet, {left} attempts"),
        State::Trying { left, tried, .. } => format!(", attempt {tried}, {left} more"),
        _ => String::new(),
    }
}

fn log(store: &Store, state: &State) -> Option<std::path::PathBuf> {
    store.logs().last(&state.failed()?.image)
}

fn object(store: &Store, state: &State) -> Value {
    let name = |image: Option<&ImageSource>| image.map(ImageSource::as_str).map(str::to_owned);
    let (left, tried) = match state {
        State::Staged { left, .. } => (Some(*left), Some(0)),
        State::Trying { left, tried, .. } => (Some(*left), Some(*tried)),
        State::RolledBack { tried, .. } => (None, Some(*tried)),
        _ => (None, None),
    };
    let mut object = json!({
        "state": word(state).replace(' ', "-"),
        "system_image": state.proven().good.as_str(),
        "previous_image": name(state.proven().previous.as_ref()),
        "update_image": name(state.next()),
        "attempts_left": left,
        "attempts_made": tried,
        "failed_image": name(state.failed().map(|failed| &failed.image)),
        "failed_reason": state.failed().map(|failed| failed.why.clone()),
        "failed_log": null,
    });
    if let Some(log) = log(store, state) {
        add_bytes(&mut object, "failed_log", log.as_os_str());
    }
    add(&mut object, "format", 1.into());
    add_bytes(&mut object, "file", store.ini().as_os_str());
    object
}
