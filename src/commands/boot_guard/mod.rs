//! `haosfs boot-guard`: whether an image that is tried works.

mod checks;
mod reboot;
mod watch;
mod watchdog;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::update::carry_out::happen;
use crate::config::image_source::ImageSource;
use crate::config::update_rules::Witness;
use crate::error::{Error, Result};
use crate::mount::boot_record::{self, BootRecord, Mode};
use crate::update::state::{Event, State};
use crate::update::store::{Standing, Store};
use checks::Answer;
use watch::Watch;
use watchdog::Watchdog;

/// The exit code for an image that has failed.
pub const FAILED: u8 = 2;

/// How often it is looked whether the application has said anything.
const GLANCE: Duration = Duration::from_millis(500);

/// How long it is tried to change a state that somebody else is changing.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// haos.ini.
    pub ini: PathBuf,
    /// Directories of checks that must be green.
    pub required: Vec<PathBuf>,
    /// Directories of checks that should.
    pub wanted: Vec<PathBuf>,
    /// In place of that of haos.ini.
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

/// How a trial came out.
enum Verdict {
    /// It works.
    Green,
    /// It does not.
    Red(String),
    /// It had not said so when the time was over.
    Late,
    /// Somebody else has said so already: whether it works.
    Decided(bool),
}

/// Judges the image that is tried, or the good one to which a failure has led. Returns the exit code.
///
/// # Errors
/// What reading or writing the state answers.
pub fn run(request: &Request) -> Result<u8> {
    let Standing { state, rules, .. } = Store::look(&request.ini)?.read()?;
    let Some(judged) = judged(&state) else {
        tracing::info!("no image is tried: there is nothing to guard");
        return Ok(0);
    };
    let booted = boot_record::read()?;
    if let Some(other) = booted.as_ref().filter(|booted| !judged.is_running(booted)) {
        let (mode, image) = (other.mode.name(), &other.image);
        tracing::warn!("{} is to be judged, but {image} is running (mode {mode}): nothing is decided", judged.image);
        return Ok(0);
    }
    let left = request.deadline.or(rules.deadline).map(|deadline| left(deadline, booted.as_ref()));
    let mut watch = Watch::new(left, request.watchdog.as_deref().and_then(Watchdog::take));
    let waits = request.application || rules.witness == Witness::Application;
    let verdict = judge(request, &judged, waits, &mut watch).unwrap_or_else(|e| Verdict::Red(e.to_string()));
    let image = judged.image.clone();
    let (works, event) = match verdict {
        Verdict::Green => (true, Some(Event::Confirm)),
        Verdict::Red(why) => (false, Some(Event::CheckRed { image, why })),
        Verdict::Late => (false, Some(Event::DeadlinePassed { image })),
        Verdict::Decided(works) => (works, None),
    };
    if works {
        event.map_or(Ok(()), |event| change(request, &judged, event))?;
        tracing::info!("{} works", judged.image);
        watch.release();
        return Ok(0);
    }
    tracing::error!("{} does not work", judged.image);
    if !judged.is_tried {
        // There is nothing better.
        watch.release();
        return Ok(FAILED);
    }
    if let Some(Err(e)) = event.map(|event| change(request, &judged, event)) {
        // Its attempts are counted all the same.
        tracing::error!("that it has failed is not saved: {e}");
    }
    if !request.stay {
        // What hangs from here on is the watchdog's.
        reboot::reboot(request.reboot.as_deref());
    }
    Ok(FAILED)
}

/// An image that has not proven itself, or not since another has failed.
struct Judged {
    image: ImageSource,
    is_tried: bool,
}

fn judged(state: &State) -> Option<Judged> {
    match state {
        State::Trying { next, .. } => Some(Judged { image: next.clone(), is_tried: true }),
        State::RolledBack { proven, .. } => Some(Judged { image: proven.good.clone(), is_tried: false }),
        _ => None,
    }
}

impl Judged {
    fn is_running(&self, booted: &BootRecord) -> bool {
        let mode = if self.is_tried { Mode::Trial } else { Mode::System };
        booted.mode == mode && booted.image == self.image.as_str()
    }

    /// Whether nobody has decided yet.
    fn is_open(&self, state: &State) -> bool {
        judged(state).is_some_and(|now| now.image == self.image && now.is_tried == self.is_tried)
    }
}

/// The time runs from when the boot was begun.
fn left(deadline: Duration, booted: Option<&BootRecord>) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or_default());
    let started = booted.map_or(now, |booted| Duration::from_secs(booted.started));
    deadline.saturating_sub(now.saturating_sub(started))
}

fn judge(request: &Request, judged: &Judged, waits: bool, watch: &mut Watch) -> Result<Verdict> {
    for program in checks::programs(&request.required)? {
        let shown = program.display();
        match checks::run(&program, watch)? {
            Answer::Green => tracing::info!("{shown}: green"),
            Answer::Red(why) => return Ok(Verdict::Red(format!("check {shown}: {why}"))),
            Answer::Late => return Ok(Verdict::Red(format!("check {shown} was not ready in time"))),
        }
    }
    for program in checks::programs(&request.wanted)? {
        let shown = program.display();
        match checks::run(&program, watch) {
            Ok(Answer::Green) => tracing::info!("{shown}: green"),
            Ok(Answer::Red(why)) => tracing::warn!("{shown}: {why}; it was only wanted"),
            Ok(Answer::Late) => return Ok(Verdict::Late),
            Err(e) => tracing::warn!("{e}; it was only wanted"),
        }
    }
    loop {
        let state = Store::look(&request.ini)?.read()?.state;
        if !judged.is_open(&state) {
            return Ok(Verdict::Decided(state.proven().good == judged.image));
        }
        if !waits {
            return Ok(Verdict::Green);
        }
        if watch.is_over() {
            return Ok(Verdict::Late);
        }
        watch.pause(GLANCE);
    }
}

/// Somebody else may just be looking after it, and may have decided by that.
fn change(request: &Request, judged: &Judged, event: Event) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let store = loop {
        match Store::take(&request.ini) {
            Err(Error::Refused(why)) if Instant::now() < end => {
                tracing::debug!("{why}");
                std::thread::sleep(GLANCE);
            }
            taken => break taken?,
        }
    };
    if judged.is_open(&store.read()?.state) { happen(&store, event, None).map(drop) } else { Ok(()) }
}
