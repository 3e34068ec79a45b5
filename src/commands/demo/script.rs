//! What the demo says, and the checks behind it.

use std::fmt::Debug;
use std::io::{self, Write};

use crate::error::{Error, Result};
use crate::sys::signals::Termination;

/// Prints steps and counts checks.
pub struct Script {
    termination: Termination,
    steps: u32,
    checks: u32,
}

impl Script {
    /// A script that ends early when one of the signals arrives.
    pub const fn new(termination: Termination) -> Self {
        Self { termination, steps: 0, checks: 0 }
    }

    /// Checks made so far.
    pub const fn checks(&self) -> u32 {
        self.checks
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|e| Error::sys("write to", "standard output", e))
    }

    /// Begins a step.
    ///
    /// # Errors
    /// When a signal has arrived, or standard output cannot be written.
    pub fn step(&mut self, title: &str) -> Result<()> {
        if self.termination.is_pending() {
            return Err(Error::Refused("demo: interrupted".to_owned()));
        }
        self.steps += 1;
        let steps = self.steps;
        self.say(&format!("\n{steps}. {title}"))
    }

    /// Shows a command that a user would type for what is done here.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn command(&mut self, command: &str) -> Result<()> {
        self.say(&format!("   $ {command}"))
    }

    /// Shows what a command prints.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn output(&mut self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| self.say(&format!("     {line}")))
    }

    /// Goes on only if what was found is what must be.
    ///
    /// # Errors
    /// [`Error::Refused`] with both.
    pub fn check<T: PartialEq + Debug>(&mut self, what: &str, found: &T, must_be: &T) -> Result<()> {
        if found != must_be {
            return Err(Error::Refused(format!("demo: {what}: found {found:?}, must be {must_be:?}")));
        }
        self.checks += 1;
        Ok(())
    }
}
