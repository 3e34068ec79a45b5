//! `haosfs boot-guard`: whether an image that is tried works.

mod checks;
mod judge;
mod reboot;
mod settle;
mod system;
mod watch;
mod watchdog;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::image_source::ImageSource;
use crate::config::update_rules::UpdateRules;
use crate::error::Result;
use crate::mount::boot_record::{self, BootRecord, Mode};
use crate::sys::proc;
use crate::update::state::{Event, State};
use crate::update::store::{Standing, Store};
use judge::Verdict;
use watch::Watch;
use watchdog::Watchdog;

/// The exit code for an image that has failed.
pub const FAILED: u8 = 2;

/// How often it is looked whether anything has changed.
const GLANCE: Duration = Duration::from_millis(500);

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// haos.ini.
    pub ini: PathBuf,
    /// Directories of checks that must be green.
    pub required: Vec<PathBuf>,
    /// Directories of checks that should.
    pub wanted: Vec<PathBuf>,
    /// Where it is shorter than that of haos.ini.
    pub deadline: Option<Duration>,
    /// The application must say that it works.
    pub application: bool,
    /// How to start the machine anew, for the shell.
    pub reboot: Option<String>,
    /// The machine is not started anew.
    pub stay: bool,
    /// The watchdog; `None` where it shall be left alone.
    pub watchdog: Option<PathBuf>,
}

/// Judges the image that is tried, or the good one to which a failure has led. Returns the exit code.
///
/// # Errors
/// Where the state cannot be read, or that the image works not be saved, until the deadline. Then nothing is decided.
pub fn run(request: &Request) -> Result<u8> {
    let Some(booted) = boot_record::read()? else {
        tracing::warn!("haosfs boot has left no word of what is running: nothing is decided");
        return Ok(0);
    };
    if matches!(booted.mode, Mode::Safe | Mode::Setup) {
        tracing::warn!("{} is running (mode {}): nothing is decided", booted.image, booted.mode.name());
        return Ok(0);
    }
    // Of what cannot be read yet, the deadline is not known.
    let mut watch = Watch::new(limit(request, &UpdateRules::default(), &booted))?;
    let Some(Standing { state, rules, .. }) = await_state(&request.ini, &mut watch)? else { return Ok(0) };
    watch.set_limit(limit(request, &rules, &booted));
    let Some(judged) = Judged::of(&state) else {
        tracing::info!("no image is tried: there is nothing to guard");
        return Ok(0);
    };
    if !judged.is_running(&booted) {
        let (mode, image) = (booted.mode.name(), &booted.image);
        tracing::warn!("{} is to be judged, but {image} is running (mode {mode}): nothing is decided", judged.image);
        return Ok(0);
    }
    if let Some(watchdog) = request.watchdog.as_deref().and_then(Watchdog::take) {
        watch.keep_quiet(watchdog);
    }
    let case = Case { ini: &request.ini, request, judged, application: request.application || rules.waits_for_the_application() };
    let fate = case.decide(&mut watch);
    case.end(fate, &mut watch)
}

/// Its file system may be mounted late, and it may be being written. `None` where this process shall end.
fn await_state(ini: &Path, watch: &mut Watch) -> Result<Option<Standing>> {
    let mut told = false;
    loop {
        match Store::look(ini).and_then(|store| store.read()) {
            Ok(standing) => return Ok(Some(standing)),
            Err(e) if watch.is_over() => return Err(e),
            Err(e) if !told => {
                tracing::warn!("{e}; it is tried again");
                told = true;
            }
            Err(_) => {}
        }
        if !watch.pause(GLANCE) {
            return Ok(None);
        }
    }
}

/// The time runs from when the boot was begun, or a trial had its upper. That of haos.ini holds for whoever stands by the trial as well, so it is not exceeded.
fn limit(request: &Request, rules: &UpdateRules, booted: &BootRecord) -> Option<Duration> {
    let deadline = match (request.deadline, rules.deadline) {
        (Some(own), Some(rule)) => own.min(rule),
        (own, rule) => own.or(rule)?,
    };
    Some(deadline.saturating_sub(proc::since_start().saturating_sub(Duration::from_secs(booted.started))))
}

/// An image that has not proven itself, or not since another has failed.
struct Judged {
    image: ImageSource,
    is_tried: bool,
}

/// What has become of it.
enum Fate {
    /// It works, and that is saved.
    Works,
    /// It does not, and that is saved where it could be.
    Failed,
    /// Somebody has decided something else.
    Other,
    /// This process shall end before anything is decided.
    Undecided,
}

impl Judged {
    fn of(state: &State) -> Option<Self> {
        match state {
            State::Trying { next, .. } => Some(Self { image: next.clone(), is_tried: true }),
            State::RolledBack { proven, .. } => Some(Self { image: proven.good.clone(), is_tried: false }),
            State::Stable { .. } | State::Staged { .. } | State::Safe { .. } => None,
        }
    }

    fn is_running(&self, booted: &BootRecord) -> bool {
        let mode = if self.is_tried { Mode::Trial } else { Mode::System };
        booted.mode == mode && booted.image == self.image.as_str()
    }

    /// What a state says of it; `None` where nobody has decided yet.
    fn fate(&self, state: &State) -> Option<Fate> {
        if Self::of(state).is_some_and(|now| now.image == self.image && now.is_tried == self.is_tried) {
            return None;
        }
        Some(match state {
            State::RolledBack { bad, .. } if self.is_tried && bad.image == self.image => Fate::Failed,
            _ if state.proven().good == self.image => Fate::Works,
            _ => Fate::Other,
        })
    }
}

/// An image, and who judges it.
struct Case<'a> {
    ini: &'a Path,
    request: &'a Request,
    judged: Judged,
    /// The application must say that it works.
    application: bool,
}

impl Case<'_> {
    fn decide(&self, watch: &mut Watch) -> Result<Fate> {
        let image = self.judged.image.clone();
        let event = match self.judge(watch) {
            Verdict::Green => Event::Confirm,
            Verdict::Red(why) => Event::CheckRed { image, why },
            Verdict::Late => Event::DeadlinePassed { image },
            Verdict::Decided(fate) => return Ok(fate),
            Verdict::Ended => return Ok(Fate::Undecided),
        };
        if !self.judged.is_tried && event != Event::Confirm {
            // There is nothing better.
            return Ok(Fate::Failed);
        }
        self.settle(&event, watch)
    }

    /// The machine is started anew only where the image is known to have failed.
    fn end(&self, fate: Result<Fate>, watch: &mut Watch) -> Result<u8> {
        let image = &self.judged.image;
        match fate {
            Ok(Fate::Failed) if self.judged.is_tried => {
                tracing::error!("{image} does not work");
                if !self.request.stay {
                    // What hangs from here on is the watchdog's.
                    reboot::reboot(self.request.reboot.as_deref());
                }
                return Ok(FAILED);
            }
            Ok(Fate::Failed) => tracing::error!("{image} does not work"),
            Ok(Fate::Works) => {
                tracing::info!("{image} works");
                watch.release();
                self.tell_of_wanted(watch);
            }
            Ok(Fate::Other) => tracing::warn!("{image} is not judged any more: something else was decided meanwhile"),
            Ok(Fate::Undecided) => tracing::info!("asked to end: nothing is decided of {image}"),
            Err(_) => {}
        }
        watch.release();
        fate.map(|fate| if matches!(fate, Fate::Failed) { FAILED } else { 0 })
    }
}
