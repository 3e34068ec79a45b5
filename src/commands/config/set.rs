//! `haosfs config set`.

use std::path::Path;

use super::{key, show};
use crate::config::ini::Edit;
use crate::config::store;
use crate::error::{Error, Result};
use crate::update::record::Keys;
use crate::update::store::Store;

/// Makes all changes in one step, or none. With `json` prints what is configured then.
///
/// # Errors
/// Where the file would not be valid afterwards, or cannot be written; where an update is being seen to, which would change back the
/// keys that it goes by.
pub fn run(file: &Path, assignments: &[String], unset: &[String], json: bool) -> Result<()> {
    let mut edits = Vec::new();
    for assignment in assignments {
        let (section, key, value) = key::parse_assignment(assignment)?;
        edits.push(Edit::Set { section, key, value });
    }
    for name in unset {
        let (section, key) = key::parse(name);
        edits.push(Edit::Unset { section, key });
    }
    if edits.is_empty() {
        return Err(Error::Refused("nothing to set: expected KEY=VALUE or --unset KEY".to_owned()));
    }
    let _excluded = if edits.iter().any(Keys::are_changed_by) { Store::exclude(file)? } else { None };
    let stored = store::change(file, &edits)?;
    if json { show::print(&stored, true) } else { Ok(()) }
}
