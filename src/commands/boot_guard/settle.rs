//! Saving what was decided, unless somebody else has decided meanwhile.

use std::time::{Duration, Instant};

use super::watch::Watch;
use super::{Case, Fate, GLANCE};
use crate::commands::update::carry_out::happen;
use crate::error::{Error, Result};
use crate::update::state::Event;
use crate::update::store::Store;

/// How long it is tried at least.
const PATIENCE: Duration = Duration::from_secs(10);

/// How an attempt to save it came out.
enum Attempt {
    /// There is a decision, this one or another.
    Decided(Fate),
    /// The state could be read, nobody has decided, and the decision cannot be saved.
    Unsaved(Error),
    /// What the state is, nobody knows.
    Unknown(Error),
}

impl Case<'_> {
    /// Somebody else may just be looking after the state, its partition may be full. That an image works is tried to save until the
    /// deadline, for else a good one would be left; that it has failed not for so long, since its attempts are counted all the same.
    ///
    /// # Errors
    /// Why it could not be saved, or the state not be read.
    pub fn settle(&self, event: &Event, watch: &mut Watch) -> Result<Fate> {
        let (end, mut again, mut told) = (Instant::now() + PATIENCE, false, false);
        loop {
            let attempt = self.attempt(event, again);
            let patient = Instant::now() < end || !watch.is_over();
            let e = match attempt {
                Attempt::Decided(fate) => return Ok(fate),
                Attempt::Unsaved(e) if *event != Event::Confirm && Instant::now() >= end => {
                    tracing::error!("that it has failed is not saved: {e}");
                    return Ok(Fate::Failed);
                }
                Attempt::Unsaved(e) | Attempt::Unknown(e) => e,
            };
            if !patient {
                return Err(e);
            }
            if !told {
                tracing::warn!("{e}; it is tried again");
            }
            (again, told) = (true, true);
            if !watch.pause(GLANCE) {
                return Ok(Fate::Undecided);
            }
        }
    }

    /// What was saved may have effects that failed, which are carried out `again`.
    fn attempt(&self, event: &Event, again: bool) -> Attempt {
        let unknown = Attempt::Unknown;
        let state = match Store::look(self.ini).and_then(|store| store.read()) {
            Ok(standing) => standing.state,
            Err(e) => return unknown(e),
        };
        let fate = self.judged.fate(&state);
        let confirmed = matches!(fate, Some(Fate::Works)) && *event == Event::Confirm;
        match fate {
            Some(fate) if !(confirmed && again) => return Attempt::Decided(fate),
            _ => {}
        }
        match Store::take(self.ini).and_then(|store| self.decide_on(&store, event)) {
            Ok(fate) => Attempt::Decided(fate),
            Err(e) if confirmed => {
                tracing::warn!("it is confirmed, but {e}");
                Attempt::Decided(Fate::Works)
            }
            Err(e) => Attempt::Unsaved(e),
        }
    }

    fn decide_on(&self, store: &Store, event: &Event) -> Result<Fate> {
        let state = store.read()?.state;
        match self.judged.fate(&state) {
            Some(fate) if !matches!(fate, Fate::Works) || *event != Event::Confirm => Ok(fate),
            _ => {
                let state = happen(store, event.clone(), None)?.state;
                Ok(self.judged.fate(&state).unwrap_or(Fate::Undecided))
            }
        }
    }
}
