//! What a boot does to the machine.

use std::path::{Path, PathBuf};

use super::init;
use super::recorder::{self, Recorder, Trial};
use super::request::Request;
use super::sequence::Acts;
use super::trust;
use crate::commands::mount::{self as mounting, Manner, Side};
use crate::config::image_source::ImageSource;
use crate::config::mount_options::Access;
use crate::config::store::{self, Stored, directory_of};
use crate::error::{Errno, Error, Result};
use crate::mount::{self, Ground, image_choice, trial};
use crate::sys::proc;
use crate::sys::signals::Termination;
use crate::update::state::{Failed, State};
use crate::update::store::Store;
use crate::update::trial_file::Count;
use crate::update::trial_log::{Attempt, Recording};

/// The machine that is booted.
pub struct Machine<'a> {
    request: &'a Request,
    /// Signals that ask this process to end are looked for between two steps: none of them is left half done.
    termination: Termination,
    /// What was prepared for a trial.
    generation: Option<u64>,
    /// Who stands by a trial.
    recorder: Option<Recorder>,
    /// From when on the time of a trial runs, in seconds since the machine was started.
    pub begun: Option<u64>,
    /// The first program of what is mounted.
    pub init: Option<PathBuf>,
}

impl<'a> Machine<'a> {
    /// As it is before anything was done.
    pub const fn new(request: &'a Request, termination: Termination) -> Self {
        Self { request, termination, generation: None, recorder: None, begun: None, init: None }
    }

    /// Does something by what haos.ini says, and with the directory that it stands in.
    fn with_stored(&self, act: &dyn Fn(&Stored, &Path) -> Result<()>) -> Result<()> {
        let gone = || Error::Refused(format!("{} is gone", self.request.ini.display()));
        let stored = store::read(&self.request.ini)?.ok_or_else(gone)?;
        act(&stored, &directory_of(&stored.path))
    }

    /// Keeps room on the data partition for the next boot; not where nothing shall be written.
    pub fn keep_room(&self) {
        if self.request.options.access == Access::ReadWrite {
            tell(self.with_stored(&trial::keep_room));
        }
    }

    /// Mounts on one ground, and looks for the first program; without one, nothing stays mounted.
    ///
    /// # Errors
    /// Why it cannot be booted.
    pub fn mount_on(&mut self, ground: Ground) -> Result<Side> {
        let Request { target, verbose, init, .. } = self.request;
        let in_memory = matches!(ground, Ground::Memory { .. });
        let request = self.request.mount_request(ground)?;
        if mounting::run(request, Manner::Background, *verbose)? == Side::Server {
            return Ok(Side::Server);
        }
        match init::find(target, init.as_deref()).or_else(|e| if in_memory { init::find(target, None) } else { Err(e) }) {
            Ok(init) => self.init = Some(init),
            Err(e) => {
                take_away(target);
                return Err(e);
            }
        }
        Ok(Side::Asker)
    }
}

/// `None` where it cannot be written: a trial needs its deadline more.
fn begin_log(store: &Store, count: &Count, failed: Option<&Failed>) -> Option<Recording> {
    let Count { image, left, tried } = count;
    let attempt = Attempt { image: image.clone(), number: *tried };
    let kept: Vec<&ImageSource> = failed.iter().map(|failed| &failed.image).collect();
    let begun = store.logs().begin(&attempt, &kept, &format!("{image}, attempt {tried}, {left} more"));
    begun.inspect_err(|e| tracing::error!("the log of the trial is not kept: {e}")).ok()
}

/// Of what does not keep a boot from going on.
fn tell(done: Result<()>) {
    if let Err(e) = done {
        tracing::warn!("{e}");
    }
}

/// Whoever looks at all mounts just now may keep it busy.
fn take_away(target: &Path) {
    let gone = mount::unmount(target, false).or_else(|_| mount::unmount(target, true));
    if let Err(e) = gone {
        tracing::error!("{e}");
    }
}

impl Acts for Machine<'_> {
    fn go_on(&self) -> Result<()> {
        if self.termination.is_pending() { Err(Error::sys("go on with", "the boot", Errno::EINTR)) } else { Ok(()) }
    }

    /// The lock goes with the store: a daemon would keep it.
    fn save(&mut self, state: &State) -> Result<()> {
        let store = Store::look(&self.request.ini)?;
        if !store.is_saved(state)? {
            return Store::take(&self.request.ini)?.save(state);
        }
        store.shut();
        Ok(())
    }

    fn stand_by(&mut self, state: &State) -> Result<()> {
        let State::Trying { next, left, tried, failed, .. } = state else { return Ok(()) };
        if self.recorder.is_some() {
            return Ok(());
        }
        let store = Store::look(&self.request.ini)?;
        let deadline = store.read()?.rules.deadline;
        let count = Count { image: next.clone(), left: *left, tried: *tried };
        let recording = begin_log(&store, &count, failed.as_ref());
        self.recorder = Some(recorder::start(Trial { recording, counts: store.counts_directory()?, count, deadline })?);
        Ok(())
    }

    fn prepare(&mut self, image: &ImageSource, anew: bool) -> Result<()> {
        let store = Store::look(&self.request.ini)?;
        let standing = store.read()?;
        let home = store.directory();
        trust::check(&image_choice::find(image, &home)?, &home, &standing.rules)?;
        self.generation = Some(trial::prepare(&standing.stored, &home, image, anew)?);
        Ok(())
    }

    fn begin_time(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.begin_time();
        }
        self.begun = Some(proc::since_start().as_secs());
    }

    fn take_into_use(&mut self, image: &ImageSource) -> Result<()> {
        // Whether another's may be mounted with it, the mount says.
        let take = |stored: &Stored, home: &Path| trial::take_into_use(stored, home, image).map(|_its_or_anothers| ());
        self.with_stored(&|stored, home| match take(stored, home) {
            Err(e) if e.is_full() => trial::release_room(stored, home).and_then(|()| take(stored, home)),
            taken => taken,
        })
    }

    fn discard(&mut self, image: &ImageSource) -> Result<()> {
        self.generation = None;
        self.with_stored(&|stored, home| trial::discard(stored, home, image))
    }

    fn close_log(&mut self, attempt: &Attempt, why: &str) {
        // Whatever becomes of the log, it shall not end the good image's boot.
        if let Some(recorder) = self.recorder.take() {
            recorder.end();
        }
        tell(Store::look(&self.request.ini).and_then(|store| store.logs().close(attempt, None, why)).map(drop));
    }

    fn mount(&mut self, image: &ImageSource, trial: bool) -> Result<Side> {
        let ground = match (trial, self.generation) {
            (false, _) => Ground::System,
            (true, Some(generation)) => Ground::Trial { image: image.clone(), generation },
            (true, None) => return Err(Error::Refused(format!("nothing was prepared for a trial of {image}"))),
        };
        let mounted = self.mount_on(ground);
        if let Some(number) = self.generation.filter(|_| !trial && mounted.is_err()) {
            // Nothing of the good image was executed.
            tell(self.with_stored(&|stored, home| trial::catch_up(stored, home, number)));
        }
        mounted
    }
}
