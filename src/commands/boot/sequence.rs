//! In which order a boot does what follows from its state: nothing here touches the machine, that is for [`Acts`].

use crate::commands::mount::Side;
use crate::config::image_source::ImageSource;
use crate::error::{Errno, Error, Result};
use crate::update::state::{Effect, Event, State, step};
use crate::update::trial_log::Attempt;

/// What a boot can do. None of it is harmed by being done twice.
pub trait Acts {
    /// Whether nobody has asked this process to end.
    fn go_on(&self) -> Result<()>;
    /// Makes a state durable.
    fn save(&mut self, state: &State) -> Result<()>;
    /// Starts who stands by a trial, and ends it where that comes to nothing: it was counted, and nothing of the image was touched.
    fn stand_by(&mut self, state: &State) -> Result<()>;
    /// Makes the generation for a trial.
    fn prepare(&mut self, image: &ImageSource, anew: bool) -> Result<()>;
    /// Has the deadline of a trial run from now on: how long its upper took to be copied is no image's doing.
    fn begin_time(&mut self);
    /// Makes the generation of an image the one in use.
    fn take_into_use(&mut self, image: &ImageSource) -> Result<()>;
    /// Takes the generation of a trial away.
    fn discard(&mut self, image: &ImageSource) -> Result<()>;
    /// Ends who stands by a trial that has failed, and closes its log.
    fn close_log(&mut self, attempt: &Attempt, why: &str);
    /// Mounts an image with its upper, and looks whether it can be booted.
    fn mount(&mut self, image: &ImageSource, trial: bool) -> Result<Side>;
}

/// How a boot came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// This image is mounted.
    Mounted {
        /// The image.
        image: ImageSource,
        /// It is tried.
        trial: bool,
        /// Why it is not another one.
        why: Option<String>,
    },
    /// This process has served the union, which is gone.
    Served,
    /// No image could be booted with its upper.
    Safe {
        /// Why.
        why: String,
    },
    /// Somebody has asked this process to end. That is no image's fault, and nothing is decided.
    Interrupted {
        /// What it was at.
        at: String,
    },
}

/// Boots from a state on which `event` follows.
pub fn run(mut state: State, mut event: Event, acts: &mut impl Acts) -> Ending {
    // A trial that has failed in this boot. Where the good image fails, too, the fault is neither's, and it goes on as it was.
    let mut undecided = None;
    // Of a trial and of the image before it; any more would be a defect.
    for _ in 0..4 {
        let (next, effects) = step(state.clone(), event);
        let lasts = undecided.as_ref().filter(|_| matches!(next, State::Safe { .. })).unwrap_or(&next);
        let effects = match acts.save(lasts).and_then(|()| acts.stand_by(&next)) {
            Err(e) if e.errno() == Errno::EINTR => return interrupted(&next, &e, acts),
            Err(e) if matches!(next, State::Trying { .. }) => {
                let image = next.next().unwrap_or(&next.proven().good);
                let not_now = format!("{image} is not tried at this boot: it cannot be counted, or nobody could end it: {e}");
                tracing::error!("{not_now}");
                // It may be counted all the same, where only what makes it durable had no room.
                if e.is_full() {
                    give_back(&next, Upper::Not, acts);
                }
                return boot_good(&next, not_now, acts);
            }
            saved => {
                if let Err(e) = saved {
                    tracing::error!("what becomes of the update is not saved: {e}");
                }
                state = next;
                effects
            }
        };
        match carry_out(&state, &effects, acts) {
            Ok(Some(ending)) => return ending,
            Ok(None) => break,
            Err(failure) => {
                tracing::error!("{}: {}", failure.image, failure.why);
                if state.next() == Some(&failure.image) {
                    undecided = Some(state.clone());
                }
                event = Event::MountFailed { image: failure.image, why: failure.why };
            }
        }
    }
    Ending::Safe { why: "no image is left to be booted".to_owned() }
}

/// Boots the good image where nothing shall be written: no update is tried, no generation comes into use or goes, and the state stays as
/// it is.
pub fn look(state: &State, acts: &mut impl Acts) -> Ending {
    let not_now = state.next().map(|next| format!("{next} is not tried at this boot: nothing shall be written (-o ro)"));
    if let Some(not_now) = &not_now {
        tracing::warn!("{not_now}");
    }
    boot_by(&[Effect::Boot { image: state.proven().good.clone() }], state, not_now, acts)
}

struct Failure {
    image: ImageSource,
    why: String,
}

/// `None` where nothing was to be booted.
fn carry_out(state: &State, effects: &[Effect], acts: &mut impl Acts) -> std::result::Result<Option<Ending>, Failure> {
    let failed = |image: &ImageSource| {
        let image = image.clone();
        move |e: Error| Failure { image, why: e.to_string() }
    };
    let failure = || state.failed().map(|failed| format!("{} has failed: {}", failed.image, failed.why));
    let mut ending = None;
    for effect in effects {
        if matches!(effect, Effect::Prepare { .. } | Effect::Boot { .. })
            && let Err(e) = acts.go_on()
        {
            return Ok(Some(interrupted(state, &e, acts)));
        }
        match effect {
            Effect::Prepare { image, anew } => match acts.prepare(image, *anew) {
                Err(e) if e.is_full() => return Ok(Some(boot_without(state, image, Upper::Not, &e, acts))),
                prepared => {
                    prepared.map_err(failed(image))?;
                    acts.begin_time();
                }
            },
            Effect::Use { image } | Effect::Return { image } => {
                let taken = match acts.take_into_use(image) {
                    Err(e) if e.is_full() && make_room(effects, acts) => acts.take_into_use(image),
                    taken => taken,
                };
                taken.map_err(failed(image))?;
            }
            Effect::Drop { image } => discard(image, acts),
            Effect::SaveLog { image } => {
                if let State::RolledBack { bad, tried, .. } = state {
                    acts.close_log(&Attempt { image: image.clone(), number: *tried }, &bad.why);
                }
            }
            Effect::Boot { image } => {
                let trial = state.next() == Some(image);
                let why = if matches!(state, State::RolledBack { .. }) { failure() } else { None };
                let mounted = match acts.mount(image, trial) {
                    Err(e) if e.errno() == Errno::EINTR => return Ok(Some(interrupted(state, &e, acts))),
                    Err(e) if trial && e.is_full() => return Ok(Some(boot_without(state, image, Upper::Made, &e, acts))),
                    Err(e) if e.is_full() && make_room(effects, acts) => acts.mount(image, trial),
                    mounted => mounted,
                };
                match mounted.map_err(failed(image))? {
                    Side::Asker => ending = Some(Ending::Mounted { image: image.clone(), trial, why }),
                    Side::Server => return Ok(Some(Ending::Served)),
                }
            }
            Effect::SafeMode { why } => return Ok(Some(Ending::Safe { why: why.clone() })),
            // It is what is going on.
            Effect::Reboot => {}
        }
    }
    Ok(ending)
}

/// A root is worth more than what a trial has left, which would go after it.
fn make_room(effects: &[Effect], acts: &mut impl Acts) -> bool {
    let left = effects.iter().find_map(|effect| if let Effect::Drop { image } = effect { Some(image) } else { None });
    left.inspect(|image| discard(image, acts)).is_some()
}

fn discard(image: &ImageSource, acts: &mut impl Acts) {
    if let Err(e) = acts.discard(image) {
        tracing::warn!("the upper that {image} was tried with stays: {e}");
    }
}

/// What there is of a trial that cannot be begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upper {
    Not,
    Made,
}

/// That there is no room for its upper is no fault of an image: that was no attempt, and it is tried at a later boot.
fn boot_without(state: &State, image: &ImageSource, upper: Upper, cause: &Error, acts: &mut impl Acts) -> Ending {
    let not_now = format!("{image} is not tried at this boot: {cause}");
    tracing::error!("{not_now}");
    // Nobody stands by what is not tried.
    if let State::Trying { tried, .. } = state {
        acts.close_log(&Attempt { image: image.clone(), number: *tried }, &not_now);
    }
    // It may be what has filled the disk, and would be made anew.
    if upper == Upper::Made {
        discard(image, acts);
    }
    let state = give_back(state, upper, acts);
    boot_good(&state, not_now, acts)
}

/// Boots the good image instead of one that waits or is tried, which stays as it is whatever becomes of that.
fn boot_good(state: &State, not_now: String, acts: &mut impl Acts) -> Ending {
    let good = &state.proven().good;
    let effects = [Effect::Use { image: good.clone() }, Effect::Boot { image: good.clone() }];
    boot_by(&effects, state, Some(not_now), acts)
}

/// Does what boots the good image; `not_now` is why it is not the one that waits or is tried.
fn boot_by(effects: &[Effect], state: &State, not_now: Option<String>, acts: &mut impl Acts) -> Ending {
    match carry_out(state, effects, acts) {
        Ok(Some(Ending::Mounted { image, trial, why: None })) => Ending::Mounted { image, trial, why: not_now },
        Ok(Some(ending)) => ending,
        Ok(None) => Ending::Safe { why: not_now.unwrap_or_else(|| "no image is left to be booted".to_owned()) },
        Err(Failure { image, why }) => {
            Ending::Safe { why: not_now.map_or_else(|| why.clone(), |not_now| format!("{not_now}; {image}: {why}")) }
        }
    }
}

/// Whoever asks this process to end may go on with the machine: nobody shall reset it for a trial then. The attempt counts.
fn interrupted(state: &State, cause: &Error, acts: &mut impl Acts) -> Ending {
    let at = cause.to_string();
    if let State::Trying { next, tried, .. } = state {
        acts.close_log(&Attempt { image: next.clone(), number: *tried }, &format!("the boot was asked to end: {at}"));
    }
    Ending::Interrupted { at }
}

/// Has an attempt that was not begun not count. With an upper it stays one that is tried: whatever follows takes that away.
fn give_back(state: &State, upper: Upper, acts: &mut impl Acts) -> State {
    let before = match state.clone() {
        State::Trying { proven, failed, next, left, tried: 1 } if upper == Upper::Not => {
            State::Staged { proven, failed, next, left: left.saturating_add(1) }
        }
        State::Trying { proven, failed, next, left, tried } => {
            let tried = if upper == Upper::Not { tried.saturating_sub(1) } else { tried };
            State::Trying { proven, failed, next, left: left.saturating_add(1), tried }
        }
        other => other,
    };
    match acts.save(&before) {
        Ok(()) => before,
        Err(e) => {
            tracing::warn!("it counts as an attempt all the same: {e}");
            state.clone()
        }
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
