//! The uppers of a data partition: `haosfs/uppers/GENERATION/{upper,work,meta.ini}`, and the link `current` to the one in use.
//!
//! Generations are numbers from 1 that only grow, and order them by themselves: many boards have no clock. Every change becomes
//! visible by one rename: the first generation with everything around it, a later one as a whole, the link, and a meta.ini. So a
//! crash leaves what was there before or what was meant, and perhaps a hidden leftover that the next change takes away, or
//! `haosfs update gc`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::hidden_upper::{self, HiddenUpper};
use super::meta::{LARGEST, Meta};
use crate::error::{Errno, Error, Result};
use crate::sys::dir::{self, Rename};
use crate::sys::replace::{self, Rights};
use crate::sys::{btrfs, data, lock, removal};

const HAOSFS: &str = "haosfs";
const UPPERS: &str = "uppers";
const CURRENT: &str = "current";
const META: &str = "meta.ini";
/// The highest number that was taken away, as the target of a link.
const LAST: &str = ".last";
/// What became of the upper that a generation was made of.
const REPORT: &str = "rebase-report.json";
/// What is not finished.
const UNFINISHED: &str = ".unfinished";

/// Files of an old image may have had the set-user-id bit for good reason, and have holes that were mended since: so nobody but
/// root looks into uppers except through a union.
const PRIVATE: u32 = 0o700;

/// The uppers of one data partition.
#[derive(Debug)]
pub struct Uppers {
    path: PathBuf,
    directory: OwnedFd,
}

/// What the upper of a generation grows on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// An empty directory.
    Empty,
    /// A snapshot of the upper that it is made of.
    Snapshot,
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// What is known of it.
    pub meta: Meta,
    /// Its upper directory.
    pub upper: PathBuf,
    /// Its work directory.
    pub work: PathBuf,
}

impl Uppers {
    /// Opens the uppers in the root of a data partition; `None` where there are none yet.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn open(data: &Path) -> Result<Option<Self>> {
        // A partition that is not there has no uppers either; that must not pass for an empty one.
        replace::open_dir(data).map_err(|errno| Error::sys("open the data partition", data, errno))?;
        let haosfs = data.join(HAOSFS);
        let path = haosfs.join(UPPERS);
        // Of a partition that came from elsewhere, a link would lead to directories of this machine.
        if let Some(link) =
            [&haosfs, &path].into_iter().find(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()))
        {
            return Err(Error::Refused(format!("{} is a symbolic link; expected a directory", link.display())));
        }
        match replace::open_dir(&path) {
            Ok(directory) => Ok(Some(Self { path, directory })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::sys("open", path, errno)),
        }
    }

    /// Makes the uppers of a data partition that has none: generation 1, empty and in use. `rights` are those of the root of its
    /// union.
    ///
    /// # Errors
    /// `EEXIST` where there are some, and what the kernel answers; then there are still none.
    pub fn create(data: &Path, meta: &Meta, rights: Rights) -> Result<Self> {
        let at_data = |errno| Error::sys("write to the data partition", data, errno);
        let root = replace::open_dir(data).map_err(at_data)?;
        match dir::mkdir(&root, OsStr::new(HAOSFS), 0o755).and_then(|()| data::sync(&root, false)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(at_data(errno)),
        }
        let haosfs = data.join(HAOSFS);
        let failed = |errno| Error::sys("make uppers in", &haosfs, errno);
        let parent = replace::open_dir(&haosfs).map_err(failed)?;
        take_turn(&parent, &haosfs)?;
        let unfinished = unfinished(&haosfs)?;
        let made = dir::mkdir(&parent, OsStr::new(UNFINISHED), PRIVATE);
        let made = made.and_then(|()| replace::open_dir(&unfinished)).and_then(|directory| {
            make_home(&directory, "1", &unfinished.join("1"))?;
            fill(&unfinished.join("1"), meta, rights)?;
            replace::symlink(&directory, OsStr::new(CURRENT), OsStr::new("1"))?;
            data::sync(&directory, false)
        });
        made.and_then(|()| publish(&parent, UPPERS)).map_err(failed)?;
        Self::open(data)?.ok_or_else(|| failed(Errno::ENOENT))
    }

    /// Adds a generation with an empty upper; it is not in use before [`Uppers::set_current`].
    ///
    /// # Errors
    /// What the kernel answers; then there is none.
    pub fn add(&self, meta: &Meta, rights: Rights) -> Result<u64> {
        let failed = |errno| Error::sys("add a generation to", &self.path, errno);
        take_turn(&self.directory, &self.path)?;
        let number = self.next_number()?;
        let unfinished = unfinished(&self.path)?;
        let made = make_home(&self.directory, UNFINISHED, &unfinished);
        let made = made.and_then(|()| fill(&unfinished, meta, rights)).and_then(|()| sync_home(&unfinished));
        made.and_then(|()| publish(&self.directory, &number.to_string())).map_err(failed)?;
        Ok(number)
    }

    /// One that no generation has had.
    fn next_number(&self) -> Result<u64> {
        let removed = fs::read_link(self.path.join(LAST)).ok().and_then(|target| number_of(target.as_os_str()));
        let last = self.numbers()?.last().copied().max(removed).unwrap_or(0);
        last.checked_add(1).ok_or_else(|| Error::sys("add a generation to", &self.path, Errno::EOVERFLOW))
    }

    /// Adds a generation that is made of another, of which nothing is changed; it is not in use before [`Uppers::set_current`].
    /// `grow` makes its upper, in a directory that is empty or a snapshot of the other's, and answers with a report that is kept
    /// beside it. `shared` may be false, so that there is never a snapshot.
    ///
    /// # Errors
    /// What `grow` and the kernel answer; then there is none.
    pub fn derive(
        &self,
        parent: &Generation,
        meta: &Meta,
        shared: bool,
        grow: impl FnOnce(&Path, Ground) -> Result<String>,
    ) -> Result<u64> {
        take_turn(&self.directory, &self.path)?;
        let number = self.next_number()?;
        let failed = |errno| Error::sys("add a generation to", &self.path, errno);
        let made = self.derived(parent, meta, shared, grow);
        let made = made.and_then(|()| publish(&self.directory, &number.to_string()).map_err(failed));
        if made.is_err() {
            // It takes room, which may be what was missing. What stays goes before the next.
            let _ = unfinished(&self.path);
        }
        made.map(|()| number)
    }

    fn derived(
        &self,
        parent: &Generation,
        meta: &Meta,
        shared: bool,
        grow: impl FnOnce(&Path, Ground) -> Result<String>,
    ) -> Result<()> {
        let home = unfinished(&self.path)?;
        let failed = |errno| Error::sys("make", &home, errno);
        let source = replace::open_dir(&self.path.join(parent.number.to_string())).map_err(failed)?;
        let is_snapshot = shared && btrfs::is_subvolume(&source);
        if is_snapshot {
            btrfs::snapshot(&source, &self.directory, OsStr::new(UNFINISHED)).map_err(failed)?;
            let work = home.join("work");
            let cleared = replace::open_dir(&home).and_then(|home| removal::remove_all(home, OsStr::new("work")));
            cleared.map_err(|errno| Error::sys("clear", &work, errno))?;
        } else {
            make_home(&self.directory, UNFINISHED, &home).map_err(failed)?;
            let directory = replace::open_dir(&home).map_err(failed)?;
            dir::mkdir(&directory, OsStr::new("upper"), PRIVATE).map_err(failed)?;
        }
        let report = grow(&home.join("upper"), if is_snapshot { Ground::Snapshot } else { Ground::Empty })?;
        let finish = || {
            let directory = replace::open_dir(&home)?;
            dir::mkdir(&directory, OsStr::new("work"), PRIVATE)?;
            let rights = Rights { perm: 0o644, owner: None };
            replace::file(&directory, OsStr::new(REPORT), report.as_bytes(), rights)?;
            put_meta(&directory, meta)?;
            data::sync_all(&directory)
        };
        finish().map_err(failed)
    }

    /// Makes a generation the one in use, durably and in one step. From before that on it counts as used.
    ///
    /// # Errors
    /// Where it is not there or not whole, and what the kernel answers; then the one before is in use.
    pub fn set_current(&self, number: u64) -> Result<()> {
        let meta = self.generation(number)?.meta;
        if !meta.used {
            self.save(number, &Meta { used: true, ..meta })?;
        }
        let target = OsString::from(number.to_string());
        let flipped = replace::symlink(&self.directory, OsStr::new(CURRENT), &target);
        flipped.map_err(|errno| Error::sys("write", self.path.join(CURRENT), errno))
    }

    /// Takes a generation away that is not in use, in one step; its files go after that.
    ///
    /// # Errors
    /// [`Error::Refused`] for the one in use, and what the kernel answers.
    pub fn remove(&self, number: u64) -> Result<()> {
        take_turn(&self.directory, &self.path)?;
        unfinished(&self.path)?;
        self.move_away(number, OsStr::new(UNFINISHED))?;
        unfinished(&self.path).map(drop)
    }

    /// The same, but its files stay, for whoever takes them away by [`Uppers::hidden`].
    ///
    /// # Errors
    /// As for [`Uppers::remove`].
    pub fn hide(&self, number: u64) -> Result<()> {
        take_turn(&self.directory, &self.path)?;
        self.move_away(number, &hidden_upper::name_of(number))
    }

    /// What was hidden, and what processes that were killed have left of that.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn hidden(&self) -> Result<Vec<HiddenUpper>> {
        HiddenUpper::all(&self.path)
    }

    fn move_away(&self, number: u64, hidden: &OsStr) -> Result<()> {
        if self.current()?.number == number {
            return Err(Error::Refused(format!("generation {number} is in use")));
        }
        let (name, path) = (number.to_string(), self.path.join(number.to_string()));
        let failed = |errno| Error::sys("remove", &path, errno);
        let parent = &self.directory;
        if self.next_number()?.checked_sub(1) == Some(number) {
            replace::symlink(parent, OsStr::new(LAST), OsStr::new(&name)).map_err(failed)?;
        }
        dir::rename(parent, OsStr::new(&name), parent, hidden, Rename::NoReplace).map_err(failed)?;
        data::sync(parent, false).map_err(failed)
    }

    /// Replaces what is known of a generation, durably and in one step.
    ///
    /// # Errors
    /// What the kernel answers; then it is as before.
    pub fn save(&self, number: u64, meta: &Meta) -> Result<()> {
        let path = self.path.join(number.to_string());
        let saved = replace::open_dir(&path).and_then(|directory| put_meta(&directory, meta));
        saved.map_err(|errno| Error::sys("write", path.join(META), errno))
    }

    /// The generation in use.
    ///
    /// # Errors
    /// Where the link or what it leads to is missing or not sound; the text says what to do.
    pub fn current(&self) -> Result<Generation> {
        let link = self.path.join(CURRENT);
        match fs::read_link(&link) {
            Ok(target) => match number_of(target.as_os_str()) {
                Some(number) => self.generation(number),
                None => self.no_current(&format!("leads to {}, which is no generation", target.display())),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.no_current("is missing"),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => self.no_current("is no symbolic link"),
            Err(e) => Err(Error::sys("read", link, e)),
        }
    }

    /// Numbers of all generations, ascending.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let entries = dir::read(&self.directory).map_err(|errno| Error::sys("list", &self.path, errno))?;
        let mut numbers: Vec<u64> = entries.iter().filter_map(|entry| number_of(&entry.name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One generation.
    ///
    /// # Errors
    /// Where it is missing or not whole.
    pub fn generation(&self, number: u64) -> Result<Generation> {
        let path = self.path.join(number.to_string());
        if !is_directory(&path) {
            return self.no_current(&format!("or a command names generation {number}, which is not there"));
        }
        let file = path.join(META);
        let meta = load(&file)?;
        let meta = Meta::parse(&meta).map_err(|why| {
            Error::Refused(format!("{}: {why}; on which image this upper was made is not known without it", file.display()))
        })?;
        let [upper, work] = ["upper", "work"].map(|name| path.join(name));
        if let Some(missing) = [&upper, &work].into_iter().find(|path| !is_directory(path)) {
            return Err(Error::Refused(format!("{} is missing, or is no directory", missing.display())));
        }
        Ok(Generation { number, meta, upper, work })
    }

    fn no_current(&self, why: &str) -> Result<Generation> {
        let link = self.path.join(CURRENT);
        let numbers: Vec<String> = self.numbers()?.iter().map(u64::to_string).collect();
        let remedy = match numbers.last() {
            Some(last) => format!(
                "it must be a symbolic link to one of the generations {}, as `ln -sfn {last} {}` makes it",
                numbers.join(", "),
                link.display()
            ),
            None => format!("there are no generations; remove {} to begin anew", self.path.display()),
        };
        Err(Error::Refused(format!("{} {why}; {remedy}", link.display())))
    }
}

/// The number a name stands for: digits without a zero before them.
fn number_of(name: &OsStr) -> Option<u64> {
    let text = name.to_str()?;
    text.parse().ok().filter(|number: &u64| *number > 0 && number.to_string() == text)
}

/// True for a directory itself, not for a link to one.
fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn take_turn(directory: &OwnedFd, path: &Path) -> Result<()> {
    lock::exclusive_soon(directory).map_err(|errno| match errno {
        Errno::EAGAIN => Error::Refused(format!("{}: another haosfs is changing it; try again", path.display())),
        errno => Error::sys("lock", path, errno),
    })
}

/// Where something is built; what a crash left there goes.
fn unfinished(parent: &Path) -> Result<PathBuf> {
    let path = parent.join(UNFINISHED);
    let removed = replace::open_dir(parent).and_then(|parent| removal::remove_all(parent, OsStr::new(UNFINISHED)));
    removed.map_err(|errno| Error::sys("remove", &path, errno)).map(|_| path)
}

/// The directory of a generation: a subvolume where that is possible, so that the next one can be made of a snapshot.
fn make_home(parent: &OwnedFd, name: &str, path: &Path) -> Result<(), Errno> {
    let name = OsStr::new(name);
    if btrfs::is_btrfs(parent) && btrfs::create_subvolume(parent, name).is_ok() {
        return replace::set_rights(replace::open_dir(path)?, Rights { perm: PRIVATE, owner: None });
    }
    dir::mkdir(parent, name, PRIVATE)
}

fn sync_home(path: &Path) -> Result<(), Errno> {
    data::sync(replace::open_dir(path)?, false)
}

fn publish(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    dir::rename(parent, OsStr::new(UNFINISHED), parent, OsStr::new(name), Rename::NoReplace)?;
    data::sync(parent, false)
}

/// Makes what a generation holds.
fn fill(path: &Path, meta: &Meta, rights: Rights) -> Result<(), Errno> {
    let directory = replace::open_dir(path)?;
    dir::mkdir(&directory, OsStr::new("upper"), rights.perm & 0o700)?;
    let upper = replace::open_dir(&path.join("upper"))?;
    replace::set_rights(&upper, rights)?;
    data::sync(&upper, false)?;
    dir::mkdir(&directory, OsStr::new("work"), PRIVATE)?;
    put_meta(&directory, meta)
}

fn put_meta(directory: &OwnedFd, meta: &Meta) -> Result<(), Errno> {
    replace::file(directory, OsStr::new(META), meta.text().as_bytes(), Rights { perm: 0o644, owner: None })
}

fn load(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::sys("read", path, e);
    let mut bytes = Vec::new();
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Refused(format!("{} has more than {LARGEST} bytes", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "uppers_tests.rs"]
mod tests;
