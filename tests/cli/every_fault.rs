//! A fault at one step after the other of what a process writes.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::support::Scratch;

/// Runs a command with a fault at one step after the other until it has no further step, and hands each end to `judge`: the name of
/// the step, and whether the command was killed. Returns the steps.
pub fn every_fault(what: &str, prepare: impl Fn() -> (Scratch, Command), judge: impl Fn(&Scratch, &str, &Output)) -> Vec<String> {
    let steps = {
        let (scratch, command) = prepare();
        let (output, steps) = faulty(&scratch, command, what, 0);
        assert!(output.status.success(), "{output:?}");
        judge(&scratch, "nothing", &output);
        steps
    };
    assert!(steps.len() > 2, "{steps:?}: was it built without debug assertions?");
    for at in 1..=steps.len() {
        let (scratch, command) = prepare();
        let (output, made) = faulty(&scratch, command, what, at);
        assert_eq!(made[..at], steps[..at]);
        let told = !output.status.success() || String::from_utf8_lossy(&output.stderr).contains(" WARN ");
        assert!(told || made[at - 1] == "unlink", "{what} at step {at} of {steps:?}: {output:?}");
        judge(&scratch, &format!("{what} at step {at} of {steps:?}"), &output);
    }
    steps
}

fn faulty(scratch: &Scratch, mut command: Command, what: &str, at: usize) -> (Output, Vec<String>) {
    let journal = scratch.path("journal");
    fs::write(&journal, "").unwrap();
    let order = format!("{}:{at}:{}", if at == 0 { "die" } else { what }, journal.display());
    let output = command.env("HAOSFS_FAULT", order).stdin(Stdio::null()).output().unwrap();
    let steps = fs::read_to_string(&journal).unwrap().lines().map(str::to_owned).collect();
    fs::remove_file(journal).unwrap();
    (output, steps)
}
