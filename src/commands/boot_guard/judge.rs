//! What the checks, the system and the application say.

use std::path::PathBuf;

use super::checks::{self, Answer};
use super::system::{self, Readiness};
use super::watch::Watch;
use super::{Case, Fate, GLANCE};
use crate::error::Result;
use crate::update::store::Store;

/// How a trial came out.
pub enum Verdict {
    /// It works.
    Green,
    /// It does not.
    Red(String),
    /// It had not said so when the time was over.
    Late,
    /// Somebody else has said so already.
    Decided(Fate),
    /// This process shall end.
    Ended,
}

/// Who is waited for when all checks are green.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Witness {
    Nobody,
    /// That systemd has started all that it shall.
    System,
    Application,
}

impl Case<'_> {
    /// Whatever goes wrong in this, nothing has shown that the image works.
    pub fn judge(&self, watch: &mut Watch) -> Verdict {
        let required = match checks::programs(&self.request.required) {
            Ok(required) => required,
            Err(e) => return Verdict::Red(e.to_string()),
        };
        match self.required(&required, watch) {
            Ok(None) => {}
            Ok(Some(verdict)) => return verdict,
            Err(e) => return Verdict::Red(e.to_string()),
        }
        self.await_witness(self.witness(required.is_empty()), watch)
    }

    /// Without a check nothing was shown yet by this process running.
    fn witness(&self, unchecked: bool) -> Witness {
        match unchecked {
            _ if self.application => Witness::Application,
            false => Witness::Nobody,
            true if system::is_systemd() => Witness::System,
            true => {
                tracing::warn!("no check is required, and there is no systemd: somebody must say haosfs update confirm");
                Witness::Application
            }
        }
    }

    fn required(&self, programs: &[PathBuf], watch: &mut Watch) -> Result<Option<Verdict>> {
        for program in programs {
            let shown = program.display();
            match checks::run(program, watch)? {
                Answer::Green => tracing::info!("{shown}: green"),
                Answer::Red(why) => return Ok(Some(Verdict::Red(format!("check {shown}: {why}")))),
                Answer::Late => return Ok(Some(Verdict::Red(format!("check {shown} was not ready in time")))),
                Answer::Ended => return Ok(Some(Verdict::Ended)),
            }
        }
        Ok(None)
    }

    /// They only tell, so they are run when all is decided and saved: one that hangs keeps nobody from that. What has not ended when the
    /// time is over is ended.
    pub fn tell_of_wanted(&self, watch: &mut Watch) {
        for program in checks::look(&self.request.wanted) {
            let program = match program {
                Ok(program) => program,
                Err(e) => {
                    tracing::warn!("{e}; it was only wanted");
                    continue;
                }
            };
            let shown = program.display();
            if watch.is_over() {
                tracing::warn!("the time is over: {shown} and what comes after it is not run; it was only wanted");
                return;
            }
            match checks::run(&program, watch) {
                Ok(Answer::Green) => tracing::info!("{shown}: green"),
                Ok(Answer::Red(why)) => tracing::warn!("{shown}: {why}; it was only wanted"),
                Ok(Answer::Late) => tracing::warn!("{shown} was not ready in time; it was only wanted"),
                Ok(Answer::Ended) => return,
                Err(e) => tracing::warn!("{e}; it was only wanted"),
            }
        }
    }

    fn await_witness(&self, witness: Witness, watch: &mut Watch) -> Verdict {
        let mut told = false;
        loop {
            match Store::look(self.ini).and_then(|store| store.read()) {
                Ok(standing) => {
                    if let Some(fate) = self.judged.fate(&standing.state) {
                        return Verdict::Decided(fate);
                    }
                }
                // It may be being written: that says nothing of the image.
                Err(e) if !told => {
                    tracing::warn!("{e}; it is tried again");
                    told = true;
                }
                Err(_) => {}
            }
            match witness {
                Witness::Nobody => return Verdict::Green,
                Witness::System => match system::readiness(watch) {
                    Readiness::Ready => return Verdict::Green,
                    Readiness::Failed(why) => return Verdict::Red(why),
                    Readiness::NotYet => {}
                },
                Witness::Application => {}
            }
            if watch.is_over() {
                return Verdict::Late;
            }
            if !watch.pause(GLANCE) {
                return Verdict::Ended;
            }
        }
    }
}
