//! `haosfs demo`: everything haosfs is for, once, in a temporary directory; each step is checked.

mod image;
mod script;
mod stage;
mod steps;
mod upper_listing;

use crate::error::{Error, Result};
use crate::mount::{self, DeviceFact};
use crate::sys::namespace;
use crate::sys::signals::Termination;
use script::Script;
use stage::Stage;

/// Runs the demo.
///
/// # Errors
/// The first thing that is not as it should be. Nothing stays behind, mounts included.
pub fn run() -> Result<()> {
    // A demo that is interrupted must still clean up; so it looks for signals between steps.
    let termination = Termination::block().map_err(|e| Error::sys("block", "signals", e))?;
    let mut script = Script::new(termination);
    gain_a_way_to_mount(&mut script)?;
    let stage = Stage::build()?;
    script.say(&format!("Everything happens in {} and is removed at the end.", stage.path("").display()))?;
    let shown = steps::run(&stage, &mut script);
    let cleaned = stage.strike();
    shown?;
    cleaned?;
    script.say(&format!("\nAll {} checks passed; nothing is left behind.", script.checks()))
}

/// An ordinary user without fusermount3 may still mount in a namespace of its own.
fn gain_a_way_to_mount(script: &mut Script) -> Result<()> {
    let facts = mount::probe();
    let Err(refusal) = mount::ways(&facts) else { return Ok(()) };
    if facts.device != DeviceFact::Usable || facts.euid == 0 {
        return Err(refusal);
    }
    namespace::enter_own_namespaces()
        .map_err(|e| Error::Refused(format!("{refusal}; a user namespace of its own was refused, too: {e}")))?;
    script.say("(fusermount3 is missing: running in a user namespace of its own)")
}
