//! haos.ini on its file system: read, and written so that whoever reads finds the old one or the new one.
//!
//! Beside it stands `haos.ini.bak`, the last that was sound before the present one. Only where both are missing nobody has
//! configured anything yet: an empty, torn or unreadable file is an error.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::haos_ini::{Config, LARGEST};
use super::ini::{Edit, Flaw, edited};
use super::turn::Turn;
use crate::error::{Errno, Error, Result};
use crate::sys::lock::PATIENCE;
use crate::sys::replace::{self, Rights};

/// Added to a file's name for its backup.
const BACKUP: &str = ".bak";

/// Mode of a file that we make, and of one that may have the key of a network.
const PERM: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// A file and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The file, as it was given.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The same, validated.
    pub config: Config,
}

/// Reads a configuration; `None` where neither it nor its backup is there, but their directory is.
///
/// # Errors
/// Where it cannot be read or says nothing valid. Then the backup is offered, if there is a sound one.
pub fn read(path: &Path) -> Result<Option<Stored>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    match Config::parse(&text) {
        Ok(config) => Ok(Some(Stored { path: path.to_owned(), text, config })),
        Err(flaws) => Err(Error::Refused(format!("{}{}", told(path, &flaws), offer(path)))),
    }
}

/// The text of a configuration, valid or not; `None` as for [`read`].
///
/// # Errors
/// Where it cannot be read.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    match load(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.errno() != Errno::ENOENT => Err(Error::Refused(format!("{e}{}", offer(path)))),
        Err(_) if fs::symlink_metadata(path).is_ok() => {
            Err(Error::Refused(format!("{shown} is a link to {}, which is not there", target(path)?.display())))
        }
        Err(_) if !directory_of(path).is_dir() => {
            Err(Error::Refused(format!("{shown}: there is no directory {}", directory_of(path).display())))
        }
        Err(_) => match fs::symlink_metadata(backup_of(path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Err(Error::Refused(format!("{shown} is missing, but was there before{}", offer(path)))),
        },
    }
}

/// A configuration by its own path in full, whatever links lead to it: images and data stand beside that. It may be missing; what is wrong
/// with anything else is said where it is read.
///
/// # Errors
/// Where the working directory is not known.
pub fn in_full(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).or_else(|_| std::path::absolute(path)).map_err(|e| Error::sys("find", path, e))
}

/// The file that a link leads to; the path itself where it is none.
///
/// # Errors
/// Where it cannot be followed.
pub fn target(path: &Path) -> Result<PathBuf> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Ok(path.to_owned());
    }
    match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::read_link(path),
        answer => answer,
    }
    .map_err(|e| Error::sys("follow", path, e))
}

/// Makes changes in one step, and returns what it says then. The file and its directory may be new. What was sound before becomes
/// the backup.
///
/// # Errors
/// Where the present file cannot be read, where it would not be valid afterwards, and where it cannot be written. Then it is as it
/// was, but where only the directory could not be synchronised.
pub fn change(path: &Path, edits: &[Edit]) -> Result<Stored> {
    // What a link leads to is replaced, not the link.
    let real = target(path)?;
    let at_path = |errno: Errno| Error::sys("write", path, errno);
    let directory = replace::open_dir(&directory_of(&real)).map_err(at_path)?;
    let turn = Turn::take(directory, PATIENCE).map_err(|errno| match errno {
        Errno::EAGAIN => Error::Refused(format!("{}: another haosfs is writing to its directory; try again", path.display())),
        errno => at_path(errno),
    })?;
    let old = read_text(path)?;
    // What was not sound before is no fault of the change: then the backup may help.
    let is_sound = old.as_ref().is_none_or(|text| Config::parse(text).is_ok());
    let refused = |flaws: &[Flaw], what: &str| {
        let offered = if is_sound { String::new() } else { offer(path) };
        Error::Refused(format!("{}{what}{offered}", told(path, flaws)))
    };
    if let Some(text) = old.as_ref().filter(|text| text.trim().is_empty()) {
        return Err(refused(&Config::parse(text).err().unwrap_or_default(), ""));
    }
    let mut text = old.clone().unwrap_or_default();
    for edit in edits {
        text = edited(&text, edit).map_err(|flaw| refused(&[flaw], ""))?;
    }
    let config = Config::parse(&text).map_err(|flaws| refused(&flaws, "; nothing was changed"))?;
    let perm = if config.networks().next().is_some() { PRIVATE } else { PERM };
    put(turn.directory(), &real, old.as_deref(), &text, perm).map_err(at_path)?;
    Ok(Stored { path: path.to_owned(), text, config })
}

/// A file that is there keeps its rights, unless it gets keys of a network only now; a new one gets `perm`.
fn put(directory: &OwnedFd, real: &Path, old: Option<&str>, new: &str, perm: u32) -> Result<(), Errno> {
    let name = real.file_name().ok_or(Errno::EISDIR)?;
    let backup = with_backup_suffix(name);
    match old {
        Some(old) if old == new => Ok(()),
        Some(old) => {
            let found = fs::metadata(real)?;
            let was = Config::parse(old);
            let hides = perm == PRIVATE && was.as_ref().map_or(true, |was| was.networks().next().is_none());
            let kept = if hides { PRIVATE } else { 0o7777 };
            let rights = Rights { perm: found.mode() & kept, owner: Some((found.uid(), found.gid())) };
            let acl = if hides { None } else { replace::acl_of(File::open(real)?)? };
            if was.is_ok() {
                replace::file_with(directory, &backup, old.as_bytes(), rights, acl.as_deref())?;
            }
            replace::file_with(directory, name, new.as_bytes(), rights, acl.as_deref())
        }
        None => {
            let rights = Rights { perm, owner: None };
            replace::file(directory, name, new.as_bytes(), rights)?;
            replace::file(directory, &backup, new.as_bytes(), rights)
        }
    }
}

fn load(path: &Path) -> Result<String> {
    // Without O_NONBLOCK, a named pipe would be waited for.
    let mut file =
        File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|e| Error::sys("read", path, e))?;
    let found = file.metadata().map_err(|e| Error::sys("read", path, e))?;
    if !found.is_file() {
        return Err(Error::Refused(format!("{} is not a regular file", path.display())));
    }
    let mut bytes = Vec::new();
    (&mut file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| Error::sys("read", path, e))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Refused(format!("{} has more than {LARGEST} bytes", path.display())));
    }
    String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes().get(..valid).unwrap_or_default().iter().filter(|&&b| b == b'\n').count();
        Error::Refused(format!("{}:{line}: this is not UTF-8", path.display()))
    })
}

/// `FILE:LINE: KEY: WHY`, and how many more there are.
fn told(path: &Path, flaws: &[Flaw]) -> String {
    let first = flaws.first().map_or_else(String::new, ToString::to_string);
    let more = match flaws.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    format!("{}:{first}{more}", path.display())
}

/// What can be done with the backup.
fn offer(path: &Path) -> String {
    let real = target(path).unwrap_or_else(|_| path.to_owned());
    let backup = backup_of(&real);
    match load(&backup).ok().map(|text| Config::parse(&text).is_ok()) {
        Some(true) => {
            let (backup, real) = (backup.display(), real.display());
            format!("; {backup} has the last that was sound, `cp {backup} {real}` brings it back")
        }
        Some(false) => format!("; its backup {} is no better", backup.display()),
        None => format!("; there is no backup {} that could be read", backup.display()),
    }
}

/// The backup of a configuration.
#[must_use]
pub fn backup_of(path: &Path) -> PathBuf {
    path.with_file_name(with_backup_suffix(path.file_name().unwrap_or_default()))
}

/// The directory that a configuration stands in.
#[must_use]
pub fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn with_backup_suffix(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(OsStr::from_bytes(BACKUP.as_bytes()));
    name
}
