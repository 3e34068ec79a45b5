//! What becomes of an update: pure, from what is known and what happens to what is known then and what is to be done.
//!
//! ```text
//!            Stage               BootBegins                Confirm
//! Stable ------------> Staged ---------------> Trying -----------------> Stable (on the new image)
//!    ^                                         |   ^ |
//!    |                                         |   +-+ BootBegins: one attempt less
//!    |  Confirm                                | red check, deadline, mount failure, no attempt left
//!    +-------------- RolledBack <--------------+
//!                        | the good image fails as well
//!                        v
//!                       Safe
//! ```
//!
//! What [`step`] answers is saved ([`super::store`]) before its effects are carried out, but for those that
//! [`Effect::comes_first`]. Every effect may be carried out again after a power cut.

pub use super::effect::Effect;
pub use super::event::Event;
use crate::config::image_source::ImageSource;

/// The images that have proven themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The one in use.
    pub good: ImageSource,
    /// The one in use before it.
    pub previous: Option<ImageSource>,
}

/// An image that is not tried again unless somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The image.
    pub image: ImageSource,
    /// Why, in one line.
    pub why: String,
}

/// Where an update stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is going on.
    Stable {
        /// What can be booted.
        proven: Proven,
        /// The last image that failed.
        failed: Option<Failed>,
    },
    /// An image waits for the next boot.
    Staged {
        /// What can be booted.
        proven: Proven,
        /// The last image that failed.
        failed: Option<Failed>,
        /// The image that waits.
        next: ImageSource,
        /// Attempts that it has.
        left: u32,
    },
    /// An image was booted, and has not proven itself yet.
    Trying {
        /// What can be booted.
        proven: Proven,
        /// The last image that failed.
        failed: Option<Failed>,
        /// The image that is tried.
        next: ImageSource,
        /// Attempts after this one.
        left: u32,
        /// Attempts up to this one.
        tried: u32,
    },
    /// An image has failed; the good one has not been confirmed since.
    RolledBack {
        /// What can be booted.
        proven: Proven,
        /// The image that has failed.
        bad: Failed,
        /// Attempts that it had.
        tried: u32,
    },
    /// Neither image boots, or the only one does not: the data or the machine is at fault. Nothing of that is kept: the next boot
    /// begins where this one did.
    Safe {
        /// What is kept.
        before: Box<State>,
        /// Why, in one line.
        why: String,
    },
}

/// Why an image is left that nobody found a fault with.
pub const ON_REQUEST: &str = "it was rolled back on request";

impl State {
    /// What can be booted.
    #[must_use]
    pub fn proven(&self) -> &Proven {
        match self {
            Self::Stable { proven, .. }
            | Self::Staged { proven, .. }
            | Self::Trying { proven, .. }
            | Self::RolledBack { proven, .. } => proven,
            Self::Safe { before, .. } => before.proven(),
        }
    }

    /// The last image that failed.
    #[must_use]
    pub fn failed(&self) -> Option<&Failed> {
        match self {
            Self::Stable { failed, .. } | Self::Staged { failed, .. } | Self::Trying { failed, .. } => failed.as_ref(),
            Self::RolledBack { bad, .. } => Some(bad),
            Self::Safe { before, .. } => before.failed(),
        }
    }

    /// The image that waits or is tried.
    #[must_use]
    pub fn next(&self) -> Option<&ImageSource> {
        match self {
            Self::Staged { next, .. } | Self::Trying { next, .. } => Some(next),
            Self::Stable { .. } | Self::RolledBack { .. } => None,
            Self::Safe { before, .. } => before.next(),
        }
    }
}

/// What follows when something happens.
#[must_use]
pub fn step(state: State, event: Event) -> (State, Vec<Effect>) {
    match state {
        State::Safe { before, why } => match event {
            Event::Stage { .. }
            | Event::BootBegins
            | Event::Confirm
            | Event::Rollback
            | Event::Condemn { .. }
            | Event::Absolve { .. } => step(*before, event),
            _ => (State::Safe { before, why }, Vec::new()),
        },
        _ => match event {
            Event::Stage { image, tries } => stage(state, image, tries.max(1)),
            Event::BootBegins => boot(state),
            Event::MountFailed { image, why } => unbootable(state, &image, why),
            Event::DataMissing { why } => safe(state, why),
            Event::DeadlinePassed { image } => unhealthy(state, &image, "it was not confirmed in time".to_owned()),
            Event::CheckRed { image, why } => unhealthy(state, &image, why),
            Event::Confirm => confirm(state),
            Event::Fail { why } => fail(state, why),
            Event::Rollback => roll_back(state),
            Event::Condemn { image, why } => condemn(state, image, why),
            Event::Absolve { image } => absolve(state, &image),
        },
    }
}

/// One that waits or is tried keeps its attempts: whoever stages it at each boot does not have it tried for ever.
fn stage(state: State, image: ImageSource, tries: u32) -> (State, Vec<Effect>) {
    if state.next() == Some(&image) || state.proven().good == image {
        return (state, Vec::new());
    }
    let failed = state.failed().filter(|failed| failed.image != image).cloned();
    let staged = |proven, next| State::Staged { proven, failed, next, left: tries };
    match state {
        State::RolledBack { proven, bad, .. } => (staged(proven, image), vec![Effect::Drop { image: bad.image }]),
        State::Trying { proven, next, .. } => (staged(proven, image), vec![Effect::Drop { image: next }]),
        other => (staged(other.proven().clone(), image), Vec::new()),
    }
}

fn boot(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Staged { proven, failed, next, left } if left > 0 => {
            let effects = vec![Effect::Prepare { image: next.clone(), anew: true }, Effect::Boot { image: next.clone() }];
            (State::Trying { proven, failed, next, left: left - 1, tried: 1 }, effects)
        }
        State::Trying { proven, failed, next, left, tried } if left > 0 => {
            let effects = vec![Effect::Prepare { image: next.clone(), anew: false }, Effect::Boot { image: next.clone() }];
            (State::Trying { proven, failed, next, left: left - 1, tried: tried.saturating_add(1) }, effects)
        }
        State::Staged { proven, next, .. } => boot_good(proven, Failed { image: next, why: no_attempt(0) }, 0),
        State::Trying { proven, next, tried, .. } => boot_good(proven, Failed { image: next, why: no_attempt(tried) }, tried),
        State::RolledBack { proven, bad, tried } => boot_good(proven, bad, tried),
        State::Stable { .. } | State::Safe { .. } => {
            let good = state.proven().good.clone();
            (state, vec![Effect::Use { image: good.clone() }, Effect::Boot { image: good }])
        }
    }
}

fn no_attempt(tried: u32) -> String {
    format!("none of {tried} attempts to boot it was confirmed")
}

/// What the trial had goes when there is a root without it: where the good image fails as well, the trial goes on with that.
fn boot_good(proven: Proven, bad: Failed, tried: u32) -> (State, Vec<Effect>) {
    let good = proven.good.clone();
    let effects =
        vec![Effect::Use { image: good.clone() }, Effect::Boot { image: good }, Effect::Drop { image: bad.image.clone() }];
    (State::RolledBack { proven, bad, tried }, effects)
}

fn unbootable(state: State, image: &ImageSource, why: String) -> (State, Vec<Effect>) {
    match state {
        State::Trying { proven, next, tried, .. } if next == *image => {
            let (state, mut effects) = boot_good(proven, Failed { image: next, why }, tried);
            effects.insert(0, Effect::SaveLog { image: image.clone() });
            (state, effects)
        }
        State::Stable { ref proven, .. } | State::RolledBack { ref proven, .. } if proven.good == *image => safe(state, why),
        other => (other, Vec::new()),
    }
}

/// A proven image is not left for a red check alone: there is nothing better.
fn unhealthy(state: State, image: &ImageSource, why: String) -> (State, Vec<Effect>) {
    match state {
        State::Trying { proven, next, tried, .. } if next == *image => {
            let effects = vec![Effect::SaveLog { image: next.clone() }, Effect::Reboot];
            (State::RolledBack { proven, bad: Failed { image: next, why }, tried }, effects)
        }
        State::RolledBack { ref proven, .. } if proven.good == *image => safe(state, why),
        other => (other, Vec::new()),
    }
}

fn safe(state: State, why: String) -> (State, Vec<Effect>) {
    (State::Safe { before: Box::new(state), why: why.clone() }, vec![Effect::SafeMode { why }])
}

fn confirm(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Trying { proven, failed, next, .. } => {
            let proven = Proven { good: next.clone(), previous: Some(proven.good) };
            (State::Stable { proven, failed }, vec![Effect::Use { image: next }])
        }
        State::RolledBack { proven, bad, .. } => {
            let effects = vec![Effect::Drop { image: bad.image.clone() }, Effect::Use { image: proven.good.clone() }];
            (State::Stable { proven, failed: Some(bad) }, effects)
        }
        State::Stable { ref proven, .. } => {
            let good = proven.good.clone();
            (state, vec![Effect::Use { image: good }])
        }
        other => (other, Vec::new()),
    }
}

fn fail(state: State, why: String) -> (State, Vec<Effect>) {
    match state {
        State::Trying { proven, next, tried, .. } => {
            let effects = vec![Effect::SaveLog { image: next.clone() }, Effect::Reboot];
            (State::RolledBack { proven, bad: Failed { image: next, why }, tried }, effects)
        }
        // Nothing of it was booted.
        State::Staged { proven, next, .. } => (State::Stable { proven, failed: Some(Failed { image: next, why }) }, Vec::new()),
        other => (other, Vec::new()),
    }
}

fn roll_back(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Trying { proven, next, tried, .. } => {
            (State::RolledBack { proven, bad: Failed { image: next, why: ON_REQUEST.to_owned() }, tried }, vec![Effect::Reboot])
        }
        State::Staged { proven, failed, .. } => (State::Stable { proven, failed }, Vec::new()),
        State::Stable { proven: Proven { good, previous: Some(previous) }, .. } => {
            let failed = Some(Failed { image: good, why: ON_REQUEST.to_owned() });
            let effects = vec![Effect::Return { image: previous.clone() }, Effect::Reboot];
            (State::Stable { proven: Proven { good: previous, previous: None }, failed }, effects)
        }
        other => (other, Vec::new()),
    }
}

/// The good one is left only for one that was good before it.
fn condemn(state: State, image: ImageSource, why: String) -> (State, Vec<Effect>) {
    if state.next() == Some(&image) {
        return fail(state, why);
    }
    if state.proven().good == image {
        let (mut state, effects) = match state {
            State::Stable { .. } => roll_back(state),
            other => (other, Vec::new()),
        };
        if let State::Stable { failed: Some(failed), .. } = &mut state
            && failed.image == image
        {
            failed.why = why;
        }
        return (state, effects);
    }
    let forget = |proven: Proven| Proven { previous: proven.previous.filter(|previous| *previous != image), ..proven };
    let failed = Some(Failed { image: image.clone(), why });
    let state = match state {
        State::Stable { proven, .. } => State::Stable { proven: forget(proven), failed },
        State::Staged { proven, next, left, .. } => State::Staged { proven: forget(proven), failed, next, left },
        State::Trying { proven, next, left, tried, .. } => State::Trying { proven: forget(proven), failed, next, left, tried },
        State::RolledBack { proven, bad, tried } => State::RolledBack { proven: forget(proven), bad, tried },
        safe @ State::Safe { .. } => safe,
    };
    (state, Vec::new())
}

fn absolve(state: State, image: &ImageSource) -> (State, Vec<Effect>) {
    let keep = |failed: Option<Failed>| failed.filter(|failed| failed.image != *image);
    match state {
        State::RolledBack { proven, bad, .. } if bad.image == *image => {
            (State::Stable { proven, failed: None }, vec![Effect::Drop { image: image.clone() }])
        }
        State::Stable { proven, failed } => (State::Stable { proven, failed: keep(failed) }, Vec::new()),
        State::Staged { proven, failed, next, left } => (State::Staged { proven, failed: keep(failed), next, left }, Vec::new()),
        State::Trying { proven, failed, next, left, tried } => {
            (State::Trying { proven, failed: keep(failed), next, left, tried }, Vec::new())
        }
        other => (other, Vec::new()),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
