//! `haosfs config get`.

use std::path::Path;

use serde_json::json;

use super::{configured, key};
use crate::commands::output::Output;
use crate::config::ini::{self, Entry};
use crate::error::{Error, Result};

/// Prints the value of a key, a line for each where it stands several times.
///
/// # Errors
/// Where nothing valid is configured or the key is not there.
pub fn run(file: &Path, name: &str, json: bool) -> Result<()> {
    let stored = configured(file)?;
    let (section, key) = key::parse(name);
    // What was validated can be read again.
    let sections = ini::read(&stored.text).unwrap_or_default();
    let entries = sections.iter().filter(|found| found.name == section).flat_map(|found| &found.entries);
    let found: Vec<&Entry> = entries.filter(|entry| entry.key == key).collect();
    if found.is_empty() {
        return Err(Error::Refused(format!("{}: {key} is not set in [{section}]", file.display())));
    }
    let mut output = Output::open();
    for Entry { key, value, line } in found {
        let object = json!({ "section": section, "key": key, "value": value, "line": line });
        output.line(&if json { object.to_string() } else { value.clone() })?;
    }
    output.finish()
}
