//! A state where it survives a power cut: haos.ini, and `trial/` beside it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::record::{Keys, Record, Write};
use super::state::State;
use super::trial_file::Count;
use super::trial_log::Logs;
use crate::config::image_source::ImageSource;
use crate::config::store::{self, Stored, directory_of};
use crate::config::turn::Turn;
use crate::config::update_rules::UpdateRules;
use crate::error::{Errno, Error, Result};
use crate::sys::data::OFlags;
use crate::sys::dir::{self, Rename};
use crate::sys::replace::{self, Rights};
use crate::sys::spot::Spot;
use crate::sys::{data, lock};

/// The directory beside haos.ini. Who can open it can keep a trial from being confirmed, by a lock: so nobody else may, and on FAT, where
/// everybody may, there is a private one ([`Turn`]).
const TRIAL: &str = "trial";
const PRIVATE: Rights = Rights { perm: 0o700, owner: None };

/// Whoever has done much for a change waits so long for his turn: others write little, or read an image first.
const LONG: Duration = Duration::from_secs(600);

/// The state of one appliance.
#[derive(Debug)]
pub struct Store {
    ini: PathBuf,
    /// `trial/`, held by this process alone; `None` for whoever only reads.
    trial: Option<Turn>,
}

/// What stands there now.
#[derive(Clone, Debug)]
pub struct Standing {
    /// haos.ini.
    pub stored: Stored,
    /// The rules by which updates are made.
    pub rules: UpdateRules,
    /// What survives of the state.
    pub record: Record,
    /// The state.
    pub state: State,
}

impl Store {
    /// To be read only.
    ///
    /// # Errors
    /// Where the working directory is not known.
    pub fn look(ini: &Path) -> Result<Self> {
        Ok(Self { ini: store::in_full(ini)?, trial: None })
    }

    /// To be changed: nobody else does meanwhile. The directory `trial/` is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Refused`] where somebody else is at it; what the kernel answers.
    pub fn take(ini: &Path) -> Result<Self> {
        Self::taken(ini, lock::PATIENCE)
    }

    /// The same, for whoever has done much for it: waits some minutes while somebody else is at it.
    ///
    /// # Errors
    /// As for [`Store::take`].
    pub fn await_turn(ini: &Path) -> Result<Self> {
        Self::taken(ini, LONG)
    }

    fn taken(ini: &Path, patience: Duration) -> Result<Self> {
        let store = Self::look(ini)?;
        // A file that is not sound is told of before anything is made.
        store.stored()?;
        let path = store.trial_directory();
        let failed = |errno| Error::sys("make", &path, errno);
        let beside = replace::open_dir(&store.directory()).map_err(failed)?;
        match dir::mkdir(&beside, OsStr::new(TRIAL), PRIVATE.perm).and_then(|()| data::sync(&beside, false)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let trial = open_trial(&path).map_err(failed)?;
        Ok(Self { trial: Some(hold(trial, &path, patience)?), ..store })
    }

    /// Lets nobody else open `trial/` from now on, where it is one that earlier programs have made for everybody to look into.
    pub fn shut(&self) {
        // One that is not there yet will be made so.
        let _ = open_trial(&self.trial_directory());
    }

    /// Keeps everybody from seeing to updates for as long as the answer lives: who changes the keys of a state by hand meanwhile would
    /// have them changed back. `None` where nobody ever has seen to one.
    ///
    /// # Errors
    /// As for [`Store::take`].
    pub fn exclude(ini: &Path) -> Result<Option<Turn>> {
        let path = Self::look(ini)?.trial_directory();
        let trial = match open_trial(&path) {
            // A file can be nobody's lock.
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            opened => opened.map_err(|errno| Error::sys("open", &path, errno))?,
        };
        hold(trial, &path, lock::PATIENCE).map(Some)
    }

    /// The directory of counts, open.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn counts_directory(&self) -> Result<OwnedFd> {
        let path = self.trial_directory();
        replace::open_dir(&path).map_err(|errno| Error::sys("open", path, errno))
    }

    /// haos.ini, in full.
    #[must_use]
    pub fn ini(&self) -> &Path {
        &self.ini
    }

    /// Where haos.ini and its images stand.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        directory_of(&self.ini)
    }

    fn trial_directory(&self) -> PathBuf {
        self.directory().join(TRIAL)
    }

    /// The logs of trials. The kernel's log is in them, which not everybody may read.
    #[must_use]
    pub fn logs(&self) -> Logs {
        Logs::beside(&self.directory(), self.rights().perm & 0o600)
    }

    fn stored(&self) -> Result<Stored> {
        let missing = || Error::Refused(format!("{} is not there: nothing is configured", self.ini.display()));
        store::read(&self.ini)?.ok_or_else(missing)
    }

    /// Reads what stands there.
    ///
    /// # Errors
    /// Where haos.ini is missing or not sound, `[update]` included, or `trial/` cannot be read.
    pub fn read(&self) -> Result<Standing> {
        let stored = self.stored()?;
        let rules = UpdateRules::of(&stored.config).map_err(|flaws| {
            let flaw = flaws.first().map_or_else(String::new, ToString::to_string);
            Error::Refused(format!("{}:{flaw}", self.ini.display()))
        })?;
        let record = Record { keys: Keys::of(&stored.config), counts: self.counts()? };
        let state = record.state(rules.tries);
        Ok(Standing { stored, rules, record, state })
    }

    /// The images whose attempts are counted, and that were not confirmed since; none where that cannot be read.
    #[must_use]
    pub fn counted(&self) -> Vec<ImageSource> {
        self.counts().unwrap_or_default().into_iter().map(|count| count.image).collect()
    }

    fn counts(&self) -> Result<Vec<Count>> {
        let path = self.trial_directory();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                let shown = path.display();
                return Err(Error::Refused(format!("list {shown}: {}; only its owner may: run this as root", Errno::EACCES)));
            }
            Err(e) => return Err(Error::sys("list", path, e)),
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names.collect::<io::Result<Vec<OsString>>>().map_err(|e| Error::sys("list", path, e))?;
        Ok(names.iter().filter_map(|name| Count::parse(name)).collect())
    }

    /// Makes a state durable, in steps of which each leaves either what was there before or something that leads on to it.
    ///
    /// # Errors
    /// What writing answers. Then some of the steps may have been made.
    pub fn save(&self, state: &State) -> Result<()> {
        let record = self.read()?.record;
        for write in record.writes(state) {
            match write {
                Write::Count(count) => self.count(&count, &record),
                Write::Keys(edits) => store::change(&self.ini, &edits).map(drop),
                Write::Forget(count) => self.forget(&count),
            }?;
        }
        Ok(())
    }

    /// Whether a state needs no write to be durable.
    ///
    /// # Errors
    /// As for [`Store::read`].
    pub fn is_saved(&self, state: &State) -> Result<bool> {
        Ok(self.read()?.record.writes(state).is_empty())
    }

    fn trial(&self) -> Result<&OwnedFd> {
        self.trial.as_ref().map(Turn::directory).ok_or_else(|| Error::Refused("the state was opened to be read only".to_owned()))
    }

    fn count(&self, count: &Count, record: &Record) -> Result<()> {
        let (trial, name) = (self.trial()?, count.file_name());
        let made = match record.count(&count.image) {
            Some(old) => dir::rename(trial, OsStr::new(&old.file_name()), trial, OsStr::new(&name), Rename::Replace),
            None => dir::create(trial, OsStr::new(&name), 0o644).and_then(|file| data::sync(file, false)),
        };
        let made = made.and_then(|()| data::sync(trial, false));
        made.map_err(|errno| Error::sys("count an attempt as", self.trial_directory().join(name), errno))
    }

    fn forget(&self, count: &Count) -> Result<()> {
        let (trial, name) = (self.trial()?, count.file_name());
        let gone = match dir::unlink(trial, OsStr::new(&name)) {
            Err(Errno::ENOENT) => Ok(()),
            answer => answer,
        };
        gone.and_then(|()| data::sync(trial, false))
            .map_err(|errno| Error::sys("remove", self.trial_directory().join(name), errno))
    }

    /// What files beside haos.ini are given: its own mode, for some file systems, such as FAT, have one for all.
    #[must_use]
    pub fn rights(&self) -> Rights {
        Rights { perm: fs::metadata(&self.ini).map_or(0o644, |found| found.mode() & 0o777), owner: None }
    }
}

/// Opens `trial/`, and lets nobody else do so. What a link leads to may be anybody's, and keeps its mode.
fn open_trial(path: &Path) -> Result<OwnedFd, Errno> {
    let beside = Arc::new(replace::open_dir(&directory_of(path))?);
    match Spot::at(&beside, OsStr::new(TRIAL)).open(OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(trial) => {
            // FAT has one mode for all, and there is nothing to change where nothing can be written.
            let _ = replace::set_rights(&trial, PRIVATE);
            Ok(trial)
        }
        Err(Errno::ELOOP | Errno::ENOTDIR) => replace::open_dir(path),
        Err(errno) => Err(errno),
    }
}

fn hold(trial: OwnedFd, path: &Path, patience: Duration) -> Result<Turn> {
    Turn::take(trial, patience).map_err(|errno| match errno {
        Errno::EAGAIN => Error::Refused(format!("{}: another update is being seen to; try again", path.display())),
        errno => Error::sys("lock", path, errno),
    })
}
