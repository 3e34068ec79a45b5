//! `haosfs boot`: the root file system, for an initramfs or a first init.

mod announce;
mod init;
mod kernel_log;
mod last_words;
mod machine;
mod memory;
mod recorder;
mod request;
mod sequence;
pub(super) mod trust;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::output::{Output, add_bytes};
use crate::config::haos_ini::Config;
use crate::config::image_source::ImageSource;
use crate::config::mount_options::Access;
use crate::config::store::{self, Stored, backup_of, directory_of};
use crate::error::{Errno, Error, Result};
use crate::mount::boot_record::{BootRecord, Mode};
use crate::mount::data::{DataPlace, locate};
use crate::mount::{image_choice, trial};
use crate::sys::proc;
use crate::sys::signals::Termination;
use crate::update::record::Keys;
use crate::update::state::{Event, State};
use crate::update::store::Store;
use crate::update::trial_log::Attempt;
use last_words::LastWords;
use machine::Machine;
use memory::Memory;
pub use request::Request;
use sequence::{Acts as _, Ending};

/// What is said of an attempt of which nothing was heard any more.
const CUT_OFF: &str = "it was cut off: power failed, or the machine stopped or was reset";

/// How soon it is looked again for the data partition, and how much later each time, but at the most: what is there and cannot be mounted
/// is told of by the kernel each time.
const GLANCE: Duration = Duration::from_millis(100);
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// Boots: counts the attempt, chooses the image, mounts it, and goes back to the good one where that fails.
///
/// # Errors
/// Where nothing at all can be mounted.
pub fn run(request: &Request) -> Result<()> {
    let started = proc::since_start().as_secs();
    let ini = store::in_full(&request.ini)?;
    let request = &Request { ini, ..request.clone() };
    let termination = Termination::block().map_err(|e| Error::sys("block", "signals", e))?;
    let mut machine = Machine::new(request, termination);
    let (ending, config) = match found(&request.ini) {
        Ok(Some(found)) => (ending(request, &found, &mut machine), Some(found.stored.config)),
        Ok(None) => {
            let why = format!("{} is not there: nothing is configured yet", request.ini.display());
            return memory::boot(request, &mut machine, Memory { mode: Mode::Setup, why, config: None, started });
        }
        Err(e) => (Ending::Safe { why: e.to_string() }, backup(&request.ini)),
    };
    match ending {
        Ending::Served => Ok(()),
        Ending::Mounted { image, trial, why } => {
            machine.keep_room();
            let mode = if trial { Mode::Trial } else { Mode::System };
            let started = if trial { machine.begun.unwrap_or(started) } else { started };
            let record = record(request, &machine, mode, image.as_str().to_owned(), why, started);
            if let Some(why) = &record.why {
                announce::loudly(&[format!("haosfs: {why}"), format!("haosfs: {image} is booted")]);
            }
            leave(request, &record, config.as_ref());
            Ok(())
        }
        Ending::Interrupted { at } => {
            tracing::error!("asked to end ({at}): nothing is booted, and nothing decided");
            Err(Error::sys("boot by", &request.ini, Errno::EINTR))
        }
        Ending::Safe { why } => memory::boot(request, &mut machine, Memory { mode: Mode::Safe, why, config, started }),
    }
}

/// What haos.ini says, and where an update stands.
struct Found {
    stored: Stored,
    state: State,
}

/// `None` where nothing was ever configured. A mistake in the rules of updates keeps nobody from the good image.
fn found(ini: &Path) -> Result<Option<Found>> {
    let Some(stored) = store::read(ini)? else { return Ok(None) };
    let state = match Store::look(ini).and_then(|store| store.read()) {
        Ok(standing) => standing.state,
        Err(e) => {
            tracing::error!("no update is tried: {e}");
            let Keys { proven, failed, .. } = Keys::of(&stored.config);
            State::Stable { proven, failed }
        }
    };
    Ok(Some(Found { stored, state }))
}

/// The last sound configuration.
fn backup(ini: &Path) -> Option<Config> {
    store::read(&backup_of(ini)).ok().flatten().map(|stored| stored.config)
}

fn ending(request: &Request, found: &Found, machine: &mut Machine<'_>) -> Ending {
    if let Err(e) = end_log(&request.ini, &found.state) {
        tracing::warn!("{e}");
    }
    let end = Instant::now() + request.wait;
    let awaited = await_data(request, found, end, || machine.go_on().is_ok());
    if awaited.is_ok() {
        await_images(request, found, end, || machine.go_on().is_ok());
    }
    if let Err(e) = machine.go_on() {
        return Ending::Interrupted { at: e.to_string() };
    }
    let event = match awaited {
        Ok(()) if request.options.access == Access::ReadOnly => return sequence::look(&found.state, machine),
        Ok(()) => Event::BootBegins,
        Err(e) => Event::DataMissing { why: e.to_string() },
    };
    sequence::run(found.state.clone(), event, machine)
}

/// Of the attempt before this boot. A log that was closed stays as it is.
fn end_log(ini: &Path, state: &State) -> Result<()> {
    let logs = Store::look(ini)?.logs();
    let attempt = |image: &ImageSource, number: u32| Attempt { image: image.clone(), number };
    match state {
        State::Trying { next, tried, .. } => {
            if let Some(words) = LastWords::read()
                && logs.close(&attempt(next, *tried), Some(words.text()), CUT_OFF)?
            {
                words.forget();
            } else {
                logs.close(&attempt(next, *tried), None, CUT_OFF)?;
            }
        }
        // Power was cut between the failure and its log's last line.
        State::RolledBack { bad, tried, .. } => _ = logs.close(&attempt(&bad.image, *tried), None, &bad.why)?,
        State::Stable { .. } | State::Staged { .. } | State::Safe { .. } => {}
    }
    Ok(())
}

/// Disks appear when they like, and so do the devices of a file system that has several; whoever asks this process to end does not wait
/// for them. Where an update is tried, its failure must not be that of the data.
fn await_data(request: &Request, found: &Found, end: Instant, go_on: impl Fn() -> bool) -> Result<()> {
    let home = directory_of(&found.stored.path);
    let access = request.options.access;
    // Where nothing shall be written nothing is mended.
    let (mut nap, mut checked) = (Duration::ZERO, access == Access::ReadOnly);
    loop {
        let reached = locate(&found.stored.config.data_partition, &home).and_then(|place| {
            if !std::mem::replace(&mut checked, true) {
                check(&place);
            }
            trial::reach_data(&found.stored, place, access)
        });
        match reached {
            Err(e) if Instant::now() >= end || !go_on() => return Err(e),
            Err(_) => {
                nap = (nap + GLANCE).min(LONGEST_NAP);
                std::thread::sleep(nap);
            }
            reached => return reached,
        }
    }
}

/// Images may lie on devices as well. What has not appeared by then is for the mount to tell of. A trial needs the good image, too, of which
/// its upper is made.
fn await_images(request: &Request, found: &Found, end: Instant, go_on: impl Fn() -> bool) {
    let home = directory_of(&found.stored.path);
    let tried = match &found.state {
        State::Staged { next, left, .. } | State::Trying { next, left, .. } if *left > 0 => Some(next),
        _ => None,
    };
    let tried = tried.filter(|_| request.options.access == Access::ReadWrite);
    let devices = [Some(&found.state.proven().good), tried].into_iter().flatten().filter(|image| image.is_device());
    for device in devices {
        while image_choice::find(device, &home).is_err() && Instant::now() < end && go_on() {
            std::thread::sleep(GLANCE);
        }
    }
}

/// Nobody does so later: it is mounted for the union alone. What is not mended is mounted all the same; the kernel may refuse it.
fn check(place: &DataPlace) {
    let DataPlace::Partition(partition) = place else { return };
    let Some(found) = partition.file_system() else { return };
    let program = format!("fsck.{}", found.kind);
    match Command::new(&program).arg("-a").arg(&partition.device).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => tracing::warn!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stdout).trim_end()),
        Err(e) => tracing::debug!("{program}: {e}"),
    }
}

fn record(request: &Request, machine: &Machine<'_>, mode: Mode, image: String, why: Option<String>, started: u64) -> BootRecord {
    let init = machine.init.as_ref().map_or_else(String::new, |init| init.display().to_string());
    BootRecord { mode, image, why, ini: request.ini.clone(), init, started }
}

/// A root without that word is better than none, and so is one of which nothing can be printed.
fn leave(request: &Request, record: &BootRecord, config: Option<&Config>) {
    if let Err(e) = record.leave(config) {
        tracing::error!("{e}");
    }
    if let Err(e) = print(request, record) {
        tracing::error!("{e}");
    }
}

fn print(request: &Request, record: &BootRecord) -> Result<()> {
    let mut output = Output::open();
    if request.json {
        output.line(&object(request, record).to_string())?;
    } else {
        output.line(&format!("mode   {}", record.mode.name()))?;
        output.line(&format!("image  {}", record.image))?;
        output.line(&format!("init   {}", record.init))?;
        if let Some(why) = &record.why {
            output.line(&format!("why    {why}"))?;
        }
    }
    output.finish()
}

fn object(request: &Request, record: &BootRecord) -> Value {
    let mut object = json!({ "mode": record.mode.name(), "image": record.image, "init": record.init, "why": record.why });
    add_bytes(&mut object, "target", request.target.as_os_str());
    object
}
