//! The process that stands by a trial: it writes the kernel's log to the disk, and ends a boot that nobody has confirmed in time. It
//! outlives the initramfs, needs no path, and goes when the trial is over: when the boot itself says so, the count of the attempt has
//! another name, or somebody has closed the log.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, statat};

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

/// So long the upper of a trial may take to be made. A boot that hangs at that ends; the image has its other attempts.
const PREPARING: Duration = Duration::from_secs(2 * 60 * 60);

/// What the boot says when what is tried begins.
const BEGINS: u8 = 1;

/// What it says when the trial is over.
const OVER: u8 = 0;

/// How long a boot waits for it to go. It goes later where its disk hangs, but ends no boot any more.
const FAREWELL: Duration = Duration::from_secs(5);

/// What it stands by.
pub struct Trial {
    /// Its log; without one it keeps to the deadline all the same.
    pub recording: Option<Recording>,
    /// The directory of counts.
    pub counts: OwnedFd,
    /// The count as it is.
    pub count: Count,
    /// How long it may take.
    pub deadline: Option<Duration>,
}

/// A recorder, for the boot that has started it.
pub struct Recorder {
    line: UnixStream,
}

impl Recorder {
    /// Tells it that the time of the trial runs from now on.
    pub fn begin_time(&mut self) {
        if let Err(e) = self.line.write_all(&[BEGINS]) {
            tracing::warn!("the recorder of the trial cannot be told that it begins: {e}");
        }
    }

    /// Tells it that the trial is over, and waits until it is gone.
    pub fn end(mut self) {
        let told = self.line.set_read_timeout(Some(FAREWELL)).and_then(|()| self.line.write_all(&[OVER]));
        // It never says anything: whatever is heard but silence is its end.
        match told.and_then(|()| self.line.read(&mut [0])) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => tracing::warn!("the recorder of the trial takes long to go"),
            _ => {}
        }
    }
}

/// Starts it. Call it while no lock is held: it would hold that, too.
///
/// # Errors
/// Where there can be no further process.
pub fn start(mut trial: Trial) -> Result<Recorder> {
    let failed = |e| Error::sys("start", "the recorder of the trial", e);
    let (line, other) = UnixStream::pair().map_err(failed)?;
    match daemon::detach().map_err(failed)? {
        Side::Starter(starting) => match starting.wait() {
            Ok(Started::Ready) => Ok(Recorder { line }),
            Ok(Started::Interrupted) => Err(Error::sys("wait for", "the recorder of the trial", Errno::EINTR)),
            Ok(other) => Err(Error::Refused(format!("the recorder of the trial has ended: {other:?}"))),
            Err(e) => Err(Error::sys("wait for", "the recorder of the trial", e)),
        },
        Side::Daemon(readiness) => {
            drop(line);
            // It ends with the trial, whoever ends all processes.
            let _blocked = Termination::block();
            if let Err(e) = steadfast::spare_when_memory_runs_out() {
                tracing::debug!("{e}");
            }
            let mut pen = trial.recording.take().map(Pen::new);
            // What came before is on the disk before anything of the image runs, which may end it all at once.
            if let Some(pen) = &mut pen {
                pen.write(true);
            }
            let code = match readiness.succeed() {
                Ok(()) => {
                    stand_by(&trial, pen, other);
                    0
                }
                Err(_) => 1,
            };
            std::process::exit(code)
        }
    }
}

fn stand_by(trial: &Trial, mut pen: Option<Pen>, line: UnixStream) {
    let console = announce::console();
    let mut time = Time { deadline: trial.deadline, phase: Phase::Preparing { since: Instant::now() } };
    let mut line = Some(line);
    loop {
        let written = pen.as_mut().map(|pen| pen.write(false));
        match written {
            Some(Recorded::Closed) => return,
            // The deadline stays.
            Some(Recorded::Gone) => pen = None,
            Some(Recorded::Written | Recorded::NotNow) | None => {}
        }
        match heard(&mut line) {
            Heard::Nothing => {}
            Heard::Begins => time.begin(Instant::now()),
            Heard::End => time.abandon(Instant::now()),
            Heard::Over => {
                _ = pen.map(|mut pen| pen.write(true));
                return;
            }
        }
        if is_over(trial) {
            return;
        }
        match time.passed(Instant::now()) {
            None => {}
            Some(Passed::Deadline) => return too_late(trial, pen, console),
            Some(Passed::Preparing) => return restart(trial, pen, console, "its upper was not made"),
        }
        std::thread::sleep(TOGETHER);
        wait(line.as_ref(), pen.as_ref());
    }
}

/// How long what goes on may take.
struct Time {
    deadline: Option<Duration>,
    phase: Phase,
}

enum Phase {
    /// Its upper is made.
    Preparing { since: Instant },
    /// The boot has ended before that was there.
    Abandoned { since: Instant },
    /// What is tried is mounted, or runs.
    Trying { since: Instant },
}

/// What has taken too long.
#[derive(Debug, PartialEq, Eq)]
enum Passed {
    Preparing,
    Deadline,
}

impl Time {
    const fn begin(&mut self, now: Instant) {
        if let Phase::Preparing { .. } = self.phase {
            self.phase = Phase::Trying { since: now };
        }
    }

    const fn abandon(&mut self, now: Instant) {
        if let Phase::Preparing { .. } = self.phase {
            self.phase = Phase::Abandoned { since: now };
        }
    }

    fn passed(&self, now: Instant) -> Option<Passed> {
        let limit = self.deadline.map(|deadline| deadline + deadline / GRACE);
        let (since, limit, passed) = match self.phase {
            Phase::Preparing { since } => (since, Some(PREPARING), Passed::Preparing),
            Phase::Abandoned { since } => (since, limit.or(Some(PREPARING)), Passed::Preparing),
            Phase::Trying { since } => (since, limit, Passed::Deadline),
        };
        (now.saturating_duration_since(since) >= limit?).then_some(passed)
    }
}

/// The log on the disk, and the kernel's.
struct Pen {
    recording: Recording,
    log: Option<KernelLog>,
    waiting: Vec<u8>,
    synced: Instant,
    /// Something is written that is not durable yet.
    dirty: bool,
    /// What was told of last, once: it is a record of the kernel's log, too, and would have itself written again.
    trouble: Option<String>,
}

impl Pen {
    fn new(recording: Recording) -> Self {
        let log = KernelLog::open().inspect_err(|e| tracing::warn!("the kernel's log is not kept: {e}")).ok();
        Self { recording, log, waiting: Vec::new(), synced: Instant::now(), dirty: false, trouble: None }
    }

    /// Writes what is new.
    fn write(&mut self, at_once: bool) -> Recorded {
        self.waiting.extend(self.log.as_mut().map(KernelLog::take).unwrap_or_default());
        let durable = at_once || self.dirty && self.synced.elapsed() >= DURABLE;
        let recorded = self.recording.record(&self.waiting, durable).unwrap_or_else(|e| self.tell(&e));
        if recorded == Recorded::Written {
            self.dirty = !durable && (self.dirty || !self.waiting.is_empty());
            self.waiting.clear();
            self.trouble = None;
        }
        self.waiting.drain(..self.waiting.len().saturating_sub(MOST_WAITING));
        if durable || !self.dirty {
            self.synced = Instant::now();
        }
        recorded
    }

    fn tell(&mut self, e: &Error) -> Recorded {
        let words = e.to_string();
        if self.trouble.as_ref() != Some(&words) {
            tracing::warn!("{words}");
            self.trouble = Some(words);
        }
        Recorded::NotNow
    }

    /// Nobody waits for a record while an earlier one cannot be written.
    fn news(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().filter(|_| self.waiting.is_empty()).map(KernelLog::as_fd)
    }
}

/// What the boot says.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Begins,
    Over,
    /// It is no more, so that nobody can say any of this.
    End,
}

fn heard(line: &mut Option<UnixStream>) -> Heard {
    let Some(open) = line else { return Heard::Nothing };
    let mut word = [OVER];
    match open.set_nonblocking(true).and_then(|()| open.read(&mut word)) {
        Ok(0) => {
            *line = None;
            Heard::End
        }
        Ok(_) if word == [BEGINS] => Heard::Begins,
        Ok(_) => Heard::Over,
        Err(_) => Heard::Nothing,
    }
}

/// Whoever has confirmed the image, or let it fail, has taken the count away, or its name.
fn is_over(trial: &Trial) -> bool {
    let found = statat(&trial.counts, trial.count.file_name(), AtFlags::SYMLINK_NOFOLLOW);
    matches!(found, Err(rustix::io::Errno::NOENT))
}

/// Waits for the boot's word, something to be written, or the time in which something may have changed.
fn wait(line: Option<&UnixStream>, pen: Option<&Pen>) {
    let limit = DURABLE.saturating_sub(pen.filter(|pen| pen.dirty).map_or(Duration::ZERO, |pen| pen.synced.elapsed()));
    let limit = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() };
    let both = line.map(AsFd::as_fd).into_iter().chain(pen.and_then(Pen::news));
    let mut both: Vec<PollFd<'_>> = both.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    // Whatever wakes us, it is looked again.
    let _ = poll(&mut both, Some(&limit));
}

fn too_late(trial: &Trial, pen: Option<Pen>, console: Option<File>) {
    match out_of_attempts(&trial.counts, &trial.count) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return,
        Err(e) => tracing::error!("the attempts that are left stay: {e}"),
    }
    let words = format!("it was not confirmed within {} s", trial.deadline.unwrap_or_default().as_secs());
    restart(trial, pen, console, &words);
}

fn restart(trial: &Trial, pen: Option<Pen>, console: Option<File>, words: &str) {
    announce::loudly_on(
        console,
        &[format!("haosfs: {}: {words}", trial.count.image), "haosfs: the machine is started anew".to_owned()],
    );
    if let Some(Err(e)) = pen.map(|pen| pen.recording.close(words)) {
        tracing::warn!("{e}");
    }
    power::restart();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_runs_from_when_there_is_an_upper() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut time = Time { deadline: Some(Duration::from_secs(300)), phase: Phase::Preparing { since: start } };
        assert_eq!((time.passed(after(3600)), time.passed(after(7200))), (None, Some(Passed::Preparing)));
        time.begin(after(3600));
        time.begin(after(3700));
        assert_eq!((time.passed(after(3959)), time.passed(after(3960))), (None, Some(Passed::Deadline)));
        time.abandon(after(3900));
        assert_eq!(time.passed(after(3960)), Some(Passed::Deadline));
        let unlimited = Time { deadline: None, ..time };
        assert_eq!(unlimited.passed(after(1 << 30)), None);
    }

    /// Nothing of the image has run: it has its other attempts.
    #[test]
    fn a_boot_that_dies_over_the_upper_is_no_failure_of_the_image() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        for (deadline, end) in [(Some(Duration::from_secs(300)), 1360), (None, 8200)] {
            let mut time = Time { deadline, phase: Phase::Preparing { since: start } };
            time.abandon(after(1000));
            time.begin(after(1001));
            assert_eq!((time.passed(after(end - 1)), time.passed(after(end))), (None, Some(Passed::Preparing)));
        }
    }

    #[test]
    fn the_boot_is_heard() {
        let (mine, other) = UnixStream::pair().unwrap();
        let (mut boot, mut line) = (Recorder { line: mine }, Some(other));
        assert_eq!(heard(&mut line), Heard::Nothing);
        boot.begin_time();
        assert_eq!([heard(&mut line), heard(&mut line)], [Heard::Begins, Heard::Nothing]);
        boot.line.write_all(&[OVER]).unwrap();
        assert_eq!(heard(&mut line), Heard::Over);
        drop(boot);
        assert_eq!([heard(&mut line), heard(&mut line)], [Heard::End, Heard::Nothing]);
    }
}
