//! The process that stands by a trial: it writes the kernel's log to the disk, and ends a boot that nobody has confirmed in time. It
//! outlives the initramfs, needs no path, and goes when the trial is over.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::announce;
use super::kernel_log::KernelLog;
use crate::error::{Errno, Error, Result};
use crate::sys::daemon::{self, Side, Started};
use crate::sys::signals::Termination;
use crate::sys::{power, steadfast};
use crate::update::trial_file::{Count, out_of_attempts};
use crate::update::trial_log::{Recorded, Recording};

/// After this time what was written is durable.
const DURABLE: Duration = Duration::from_secs(1);

/// Records that come together are written together.
const TOGETHER: Duration = Duration::from_millis(100);

/// By this part of the deadline later than `haosfs boot-guard` would, it ends a boot itself.
const GRACE: u32 = 5;

/// What cannot be written is kept for later up to this size, in bytes.
const MOST_WAITING: usize = 256 << 10;

/// How long the disks may take before the machine is started anew all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it stands by.
pub struct Trial {
    /// Its log.
    pub recording: Recording,
    /// The directory of counts.
    pub counts: OwnedFd,
    /// The count as it is.
    pub count: Count,
    /// How long it may take.
    pub deadline: Option<Duration>,
}

/// Starts it. Call it while no lock is held: it would hold that, too.
///
/// # Errors
/// Where there can be no further process.
pub fn start(trial: Trial) -> Result<()> {
    let started = Instant::now();
    match daemon::detach().map_err(|e| Error::sys("start", "the recorder of the trial", e))? {
        Side::Starter(starting) => match starting.wait() {
            Ok(Started::Ready) => Ok(()),
            Ok(other) => Err(Error::Refused(format!("the recorder of the trial has ended: {other:?}"))),
            Err(e) => Err(Error::sys("wait for", "the recorder of the trial", e)),
        },
        Side::Daemon(readiness) => {
            // It ends with the trial, whoever ends all processes.
            let _blocked = Termination::block();
            if let Err(e) = steadfast::spare_when_memory_runs_out() {
                tracing::debug!("{e}");
            }
            let code = match readiness.succeed() {
                Ok(()) => {
                    stand_by(trial, started);
                    0
                }
                Err(_) => 1,
            };
            std::process::exit(code)
        }
    }
}

fn stand_by(mut trial: Trial, started: Instant) {
    let console = announce::console();
    let mut log = KernelLog::open().inspect_err(|e| tracing::warn!("the kernel's log is not kept: {e}")).ok();
    let end = trial.deadline.map(|deadline| started + deadline + deadline / GRACE);
    let (mut waiting, mut synced, mut dirty) = (Vec::new(), Instant::now(), false);
    loop {
        waiting.extend(log.as_mut().map(KernelLog::take).unwrap_or_default());
        let durable = dirty && synced.elapsed() >= DURABLE;
        match trial.recording.record(&waiting, durable) {
            Ok(Recorded::Closed | Recorded::Gone) => return,
            Ok(Recorded::Written) => {
                dirty = !durable && (dirty || !waiting.is_empty());
                waiting.clear();
            }
            Ok(Recorded::NotNow) => {
                waiting.drain(..waiting.len().saturating_sub(MOST_WAITING));
            }
            Err(e) => tracing::warn!("{e}"),
        }
        if durable || !dirty {
            synced = Instant::now();
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return too_late(trial, console);
        }
        std::thread::sleep(TOGETHER);
        let limit = DURABLE.saturating_sub(synced.elapsed());
        match &log {
            Some(log) => log.wait(limit),
            None => std::thread::sleep(limit),
        }
    }
}

/// Whoever has confirmed it, or let it fail, has renamed the count.
fn too_late(trial: Trial, console: Option<File>) {
    match out_of_attempts(&trial.counts, &trial.count) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return,
        Err(e) => tracing::error!("the attempts that are left stay: {e}"),
    }
    let words = format!("it was not confirmed within {} s", trial.deadline.unwrap_or_default().as_secs());
    announce::loudly_on(
        console,
        &[format!("haosfs: {}: {words}", trial.count.image), "haosfs: the machine is started anew".to_owned()],
    );
    if let Err(e) = trial.recording.close(&words) {
        tracing::warn!("{e}");
    }
    power::restart(PATIENCE);
}
