//! What systemd says of the system as a whole.

use std::path::Path;
use std::process::Command;

use super::checks::follow;
use super::watch::Watch;

/// There where systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Units are named up to so many characters.
const LONGEST: usize = 120;

/// Whether all is started that shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Ready,
    /// Something has failed.
    Failed(String),
    /// It is being started, or nobody can tell.
    NotYet,
}

/// Whether the first process is systemd.
pub fn is_systemd() -> bool {
    Path::new(SYSTEMD).is_dir()
}

/// Asks systemctl(1), `is-system-running`.
pub fn readiness(watch: &mut Watch) -> Readiness {
    match said(&["is-system-running"], watch).as_deref() {
        Some("running") => Readiness::Ready,
        Some(state @ ("degraded" | "maintenance")) => {
            let failed = said(&["list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"], watch);
            let unit = failed.and_then(|line| line.split_whitespace().next().map(|unit| unit.chars().take(LONGEST).collect()));
            let unit = unit.map_or_else(String::new, |unit: String| format!(": {unit} has failed"));
            Readiness::Failed(format!("systemd is {state}{unit}"))
        }
        _ => Readiness::NotYet,
    }
}

/// The last line that it says; `None` where it says nothing in time.
fn said(arguments: &[&str], watch: &mut Watch) -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    match follow(&mut command, watch) {
        Ok(ended) => ended.map(|(_, line)| line),
        Err(e) => {
            tracing::debug!("systemctl: {e}");
            None
        }
    }
}
