//! `haosfs check`: what is wrong with an upper that is not mounted.

mod tally;
mod told;

use std::path::PathBuf;

use super::output::Output;
use crate::error::Result;
use crate::mount;
use crate::union::check;
use tally::Tally;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The upper directory.
    pub upper: PathBuf,
    /// Its work directory.
    pub work: PathBuf,
    /// All lowers, topmost first, or none where what needs them is not to be checked.
    pub lowers: Vec<PathBuf>,
    /// The upper is mounted with `userxattr`.
    pub userxattr: bool,
    /// Mend what can be mended.
    pub repair: bool,
    /// Print JSON.
    pub json: bool,
}

/// Checks, prints what is found, and returns the exit code as fsck(8) counts it.
///
/// # Errors
/// What keeps it from checking at all: a directory that is missing or in use, a lower that cannot be opened.
pub fn run(request: &Request) -> Result<u8> {
    let lowers = request.lowers.iter().map(|path| mount::open_lower_at(path)).collect::<Result<Vec<_>>>()?;
    let Request { upper, work, userxattr, repair, json, .. } = request.clone();
    let (mut output, mut tally) = (Output::open(), Tally::default());
    let may_take = |both: &_| mount::refuse_in_use(both, None);
    check::check(&check::Request { upper, work, userxattr, repair }, lowers, may_take, &mut |finding| {
        let explanation = finding.defect.explain();
        tally.count(&finding, &explanation);
        output.line(&if json { told::json(&finding, &explanation).to_string() } else { told::line(&finding, &explanation) })
    })?;
    if !json {
        output.line(&tally.line(repair))?;
    }
    output.finish()?;
    Ok(tally.exit_code())
}
