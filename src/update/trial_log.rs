//! The logs of trials: in `logs/` beside haos.ini, one file for each attempt, `IMAGE-ATTEMPT.log`. A file of such a name whose first
//! line is not ours is somebody else's, and stays.
//!
//! Whoever records has no file open while nothing is to be written, so the file system can be made read-only meanwhile; and notices
//! by its last line that somebody has closed the log, whoever and from wherever that was. Nothing of it needs a rename, modes or owners:
//! it may be FAT.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::escape::unescaped;
use super::record::one_line;
use super::trial_file::stem;
use crate::config::image_source::ImageSource;
use crate::error::{Errno, Error, Result};
use crate::sys::data::OFlags;
use crate::sys::spot::Spot;
use crate::sys::{data, dir, lock, replace};

/// The directory.
pub const LOGS: &str = "logs";

/// A log is never larger, in bytes.
const LARGEST: u64 = 1 << 20;

/// So much of its beginning stays when it would become larger: the end tells what went wrong, and so may the beginning.
const BEGINNING: u64 = LARGEST / 2;

/// Of what is added in one piece no more than this is taken, its end, in bytes: the beginning and what ends a log find room as well.
pub const MOST_AT_ONCE: u64 = LARGEST / 8 * 3;

/// With less room on its file system nothing is recorded, in bytes: what becomes of the trial must be written there.
const RESERVE: u64 = 256 << 10;

/// Attempts of one image whose logs are kept.
const KEPT: u32 = 3;

/// What lines of our own begin with.
const OWN: &str = "== haosfs: ";

/// What the last line of a closed log begins with.
const ENDED: &str = "== haosfs: ended: ";

/// The last line is not longer than this, in bytes.
const LONGEST_LINE: u64 = 2048;

/// Words that end a log are not longer, in characters of up to four bytes.
const LONGEST_WORDS: usize = 500;

/// Somebody else who writes to a log is waited for so long: some lines and an fsync(2). On FAT everybody may open it, and lock it.
const PATIENCE: Duration = Duration::from_secs(5);

/// One attempt of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The image.
    pub image: ImageSource,
    /// Its number, from 1.
    pub number: u32,
}

impl Attempt {
    fn file_name(&self) -> OsString {
        format!("{}-{}.log", stem(&self.image), self.number).into()
    }

    fn parse(name: &OsStr) -> Option<Self> {
        let (stem, number) = name.to_str()?.strip_suffix(".log")?.rsplit_once('-')?;
        let image = ImageSource::parse(&String::from_utf8(unescaped(stem)?).ok()?).ok()?;
        let attempt = Self { image, number: number.parse().ok()? };
        (attempt.file_name() == name).then_some(attempt)
    }
}

/// The logs beside a haos.ini.
#[derive(Clone, Debug)]
pub struct Logs {
    path: PathBuf,
    perm: u32,
}

/// A log that is written, by its directory, which may be anywhere by now.
#[derive(Debug)]
pub struct Recording {
    directory: OwnedFd,
    name: OsString,
    size: u64,
    /// Its first line, whenever there is room for that.
    heading: String,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is in the log.
    Written,
    /// Somebody else is writing to the log just now, or the file system cannot be written, or is full; it may be tried again.
    NotNow,
    /// The log is closed.
    Closed,
    /// The log is gone.
    Gone,
}

impl Logs {
    /// Those in a directory; what is made there gets this mode.
    #[must_use]
    pub fn beside(directory: &Path, perm: u32) -> Self {
        Self { path: directory.join(LOGS), perm }
    }

    /// The log of the last attempt of an image.
    #[must_use]
    pub fn last(&self, image: &ImageSource) -> Option<PathBuf> {
        let attempts = attempts(&self.look().ok()?).into_iter().filter(|attempt| attempt.image == *image);
        attempts.max_by_key(|attempt| attempt.number).map(|attempt| self.path.join(attempt.file_name()))
    }

    /// Begins the log of an attempt. Those of images that are not `kept`, and of attempts long ago, go.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn begin(&self, attempt: &Attempt, kept: &[&ImageSource], heading: &str) -> Result<Recording> {
        let directory = self.open()?;
        for old in attempts(&directory) {
            let is_recent = old.number < attempt.number && old.number.saturating_add(KEPT) > attempt.number;
            let stays = if old.image == attempt.image { is_recent } else { kept.contains(&&old.image) };
            if !stays && let Err(errno) = dir::unlink(&directory, &old.file_name()) {
                tracing::warn!("{}: {errno}", self.path.join(old.file_name()).display());
            }
        }
        let name = attempt.file_name();
        let heading = format!("{OWN}{}\n", one_line(heading, LONGEST_WORDS));
        let mut recording = Recording { directory, name, size: 0, heading };
        let file = dir::create(&recording.directory, &recording.name, self.perm);
        let made = file.and_then(|file| data::sync(file, false)).and_then(|()| data::sync(&recording.directory, false));
        made.map_err(|e| Error::sys("make", self.path.join(&recording.name), e))?;
        recording.record(&[], true)?;
        Ok(recording)
    }

    /// Adds to the log of an attempt, durably, and makes it where it is not there. One that is closed stays as it is.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add(&self, attempt: &Attempt, more: &[u8]) -> Result<()> {
        self.append(attempt, &whole_lines(more)).map(drop)
    }

    /// Closes the log of an attempt with the words that end it, after what more is to be kept. One that is closed stays as it is; one
    /// that is not there is made only for something more. Returns whether it was closed by that.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn close(&self, attempt: &Attempt, more: Option<&[u8]>, words: &str) -> Result<bool> {
        if more.is_none() && !self.path.join(attempt.file_name()).is_file() {
            return Ok(false);
        }
        let mut bytes = whole_lines(more.unwrap_or_default());
        bytes.extend_from_slice(format!("{ENDED}{}\n", one_line(words, LONGEST_WORDS)).as_bytes());
        self.append(attempt, &bytes)
    }

    /// False where it is closed.
    fn append(&self, attempt: &Attempt, bytes: &[u8]) -> Result<bool> {
        let path = self.path.join(attempt.file_name());
        let directory = self.open()?;
        let append = || {
            let file = File::from(dir::append(&directory, &attempt.file_name(), self.perm)?);
            lock::exclusive_within(&file, PATIENCE)?;
            let size = file.metadata()?.len();
            if !is_ours(&file) {
                return Err(Errno::EEXIST);
            }
            if is_closed(&file, size) {
                return Ok(false);
            }
            let size = if size == 0 { begin(&file, attempt)? } else { make_room(&file, size, bytes.len() as u64)? };
            if data::write_at(&file, bytes, size)? < bytes.len() {
                return Err(Errno::ENOSPC);
            }
            data::sync(&file, false).and_then(|()| data::sync(&directory, false)).map(|()| true)
        };
        append().map_err(|errno| Error::sys("write", &path, errno))
    }

    /// Takes the logs of an image away.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn forget(&self, image: &ImageSource) -> Result<()> {
        let directory = match self.look() {
            Err(Errno::ENOENT) => return Ok(()),
            opened => opened.map_err(|errno| Error::sys("open", &self.path, errno))?,
        };
        for attempt in attempts(&directory).into_iter().filter(|attempt| attempt.image == *image) {
            let name = attempt.file_name();
            dir::unlink(&directory, &name).map_err(|errno| Error::sys("remove", self.path.join(name), errno))?;
        }
        data::sync(&directory, false).map_err(|errno| Error::sys("write", &self.path, errno))
    }

    fn open(&self) -> Result<OwnedFd> {
        let failed = |errno| Error::sys("make", &self.path, errno);
        let beside = replace::open_dir(self.path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        match dir::mkdir(&beside, OsStr::new(LOGS), 0o755).and_then(|()| data::sync(&beside, false)) {
            Ok(()) | Err(Errno::EEXIST) => self.look().map_err(|errno| Error::sys("open", &self.path, errno)),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Where a link stands in its place, it leads to somebody else's directory.
    fn look(&self) -> Result<OwnedFd, Errno> {
        let beside = replace::open_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        Spot::at(&Arc::new(beside), OsStr::new(LOGS)).open(OFlags::RDONLY | OFlags::DIRECTORY)
    }
}

/// Those of which there are logs.
fn attempts(directory: &OwnedFd) -> Vec<Attempt> {
    let entries = dir::read(directory).unwrap_or_default();
    entries.iter().filter_map(|entry| Attempt::parse(&entry.name).filter(|_| has_ours(directory, &entry.name))).collect()
}

fn has_ours(directory: &OwnedFd, name: &OsStr) -> bool {
    dir::look_into(directory, name).is_ok_and(|file| is_ours(&file))
}

/// Whatever has such a name by chance begins with something else. Where power was cut when it was made, there is less than that, or
/// what a file system shows that did not come to write it.
fn is_ours(file: impl AsFd) -> bool {
    let mut start = [0; OWN.len()];
    let Ok(read) = data::read_at(file, &mut start, 0) else { return false };
    let start = start.get(..read).unwrap_or_default();
    OWN.as_bytes().starts_with(start) || start.iter().all(|&byte| byte == 0)
}

/// The first line of a log that nobody has begun. Returns its size.
fn begin(file: &File, attempt: &Attempt) -> Result<u64, Errno> {
    let line = format!("{OWN}{}, attempt {}\n", one_line(attempt.image.as_str(), LONGEST_WORDS), attempt.number);
    Ok(data::write_at(file, line.as_bytes(), 0)? as u64)
}

fn is_closed(file: &File, size: u64) -> bool {
    let mut end = Vec::new();
    let from = size.saturating_sub(LONGEST_LINE);
    let read = usize::try_from(size - from).map_err(io::Error::other).and_then(|length| {
        end.resize(length, 0);
        file.read_exact_at(&mut end, from)
    });
    let line = end.trim_ascii_end().rsplit(|&b| b == b'\n').next().unwrap_or_default();
    read.is_ok() && line.starts_with(ENDED.as_bytes())
}

/// Its end, where it is too much, and a line break after it.
fn whole_lines(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = end_of(bytes).to_vec();
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes
}

fn end_of(bytes: &[u8]) -> &[u8] {
    let most = usize::try_from(MOST_AT_ONCE).unwrap_or(usize::MAX);
    bytes.get(bytes.len().saturating_sub(most)..).unwrap_or_default()
}

/// Where a log would become too large, what it has between its beginning and now goes. Returns its size.
fn make_room(file: &File, size: u64, adding: u64) -> Result<u64, Errno> {
    if size.saturating_add(adding) <= LARGEST {
        return Ok(size);
    }
    data::truncate(file, BEGINNING)?;
    let note = format!("\n{OWN}something was left out here\n");
    Ok(BEGINNING + data::write_at(file, note.as_bytes(), BEGINNING)? as u64)
}

impl Recording {
    /// Adds to the log. Where it would become too large, what it has between its beginning and now goes.
    ///
    /// # Errors
    /// What the kernel answers, but for what passes.
    pub fn record(&mut self, bytes: &[u8], durable: bool) -> Result<Recorded> {
        match self.add(bytes, durable) {
            Err(Errno::ENOENT) => Ok(Recorded::Gone),
            Err(Errno::EROFS | Errno::EAGAIN | Errno::ENOSPC | Errno::EDQUOT) => Ok(Recorded::NotNow),
            answer => answer.map_err(|errno| Error::sys("write", &self.name, errno)),
        }
    }

    fn add(&mut self, bytes: &[u8], durable: bool) -> Result<Recorded, Errno> {
        let file = File::from(dir::append_to(&self.directory, &self.name)?);
        lock::exclusive(&file)?;
        let size = file.metadata()?.len();
        // Somebody else has written: words that end it, or a log of their own.
        if size != self.size && is_closed(&file, size) {
            return Ok(Recorded::Closed);
        }
        self.size = size;
        let start = if size == 0 { self.heading.as_bytes() } else { &[] };
        let bytes = [start, end_of(bytes)].concat();
        if !bytes.is_empty() {
            if !has_room(&file) {
                return Err(Errno::ENOSPC);
            }
            self.size = make_room(&file, size, bytes.len() as u64)?;
            self.size += data::write_at(&file, &bytes, self.size)? as u64;
        }
        if durable {
            data::sync(&file, false)?;
        }
        Ok(Recorded::Written)
    }

    /// Closes it with the words that end it.
    ///
    /// # Errors
    /// As for [`Recording::record`].
    pub fn close(mut self, words: &str) -> Result<Recorded> {
        self.record(format!("{ENDED}{}\n", one_line(words, LONGEST_WORDS)).as_bytes(), true)
    }
}

fn has_room(file: &File) -> bool {
    data::space(file).is_ok_and(|space| space.bavail.saturating_mul(space.frsize) >= RESERVE)
}

#[cfg(test)]
#[path = "trial_log_tests.rs"]
mod tests;
