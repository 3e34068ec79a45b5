//! `haosfs install`: the program puts itself, its links for mount(8), its manual and its completions where the system looks for them.

mod content;
mod record;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Errno, Error, Result};
use crate::sys::replace::{self, Rights};
use content::{Item, What};
use record::Record;

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The root of the system.
    pub root: PathBuf,
    /// Below which programs and manuals stand, as seen from that root.
    pub prefix: PathBuf,
}

/// The running program.
const SELF: &str = "/proc/self/exe";

impl Destination {
    /// The prefix without its leading slash.
    fn prefix(&self) -> Result<PathBuf> {
        let mut parts = self.prefix.components();
        let is_absolute = parts.next() == Some(Component::RootDir);
        let rest: PathBuf = parts.clone().collect();
        if is_absolute && parts.all(|part| matches!(part, Component::Normal(_))) && !rest.as_os_str().as_bytes().contains(&b'\n')
        {
            return Ok(rest);
        }
        Err(Error::Refused(format!("prefix {}: expected an absolute path without ..", self.prefix.display())))
    }

    /// Where mount(8) looks for helpers; on most systems /sbin is a link to usr/sbin.
    fn sbin(&self) -> &'static Path {
        let is_directory = fs::symlink_metadata(self.root.join("sbin")).is_ok_and(|found| found.is_dir());
        Path::new(if is_directory { "sbin" } else { "usr/sbin" })
    }

    fn record(&self) -> Result<PathBuf> {
        Ok(self.prefix()?.join(record::PLACE))
    }
}

/// Installs, also over an older installation.
///
/// # Errors
/// [`Error::Refused`] where a file is in the way that was not installed like this; else the kernel's answer. The record is written
/// first, so [`remove`] takes away what was put there until then.
pub fn install(to: &Destination) -> Result<()> {
    let place = to.record()?;
    let mut record = Record::read(&to.root.join(&place))?;
    let items = content::items(&to.prefix()?, to.sbin());
    for item in &items {
        let at = to.root.join(&item.path);
        if !record.files.contains(&item.path) && fs::symlink_metadata(&at).is_ok() {
            return Err(Error::Refused(format!("{} is there already, and was not put there by haosfs install", at.display())));
        }
    }
    let program = fs::read(SELF).map_err(|e| Error::sys("read", SELF, e))?;
    let paths: Vec<&Path> = items.iter().map(|item| item.path.as_path()).chain([place.as_path()]).collect();
    for path in &paths {
        record.directories.extend(missing_parents(&to.root, path));
        record.files.insert((*path).to_owned());
    }
    make_parents(&to.root, &place)?;
    write(&to.root.join(&place), &record.to_bytes(), 0o644)?;
    items.iter().try_for_each(|item| put(to, item, &program))?;
    if to.prefix != Path::new("/usr") {
        tracing::warn!(
            "initramfs-tools and dracut do not look below {}: copy share/initramfs-tools/{{hooks,scripts}}/haosfs from there to \
             /etc/initramfs-tools, lib/dracut/modules.d/90haosfs to /usr/lib/dracut/modules.d",
            to.prefix.display()
        );
    }
    Ok(())
}

/// Removes what [`install`] put there, and the directories that it made, as far as nothing else is in them.
///
/// # Errors
/// [`Error::Refused`] where there is no record of an installation; else the kernel's answer.
pub fn remove(from: &Destination) -> Result<()> {
    let place = from.record()?;
    let record = Record::read(&from.root.join(&place))?;
    if record == Record::default() {
        let place = from.root.join(&place);
        return Err(Error::Refused(format!("{} is missing: haosfs install has put nothing there", place.display())));
    }
    // The record itself comes last, for a removal that is broken off to be taken up again.
    let files = record.files.iter().filter(|file| **file != place).chain(std::iter::once(&place));
    for file in files {
        let at = from.root.join(file);
        absent(fs::remove_file(&at)).map_err(|e| Error::sys("remove", at, e))?;
    }
    for directory in record.directories.iter().rev() {
        let at = from.root.join(directory);
        match absent(fs::remove_dir(&at)) {
            Err(e) if e.raw_os_error() != Some(libc::ENOTEMPTY) => return Err(Error::sys("remove", at, e)),
            _ => {}
        }
    }
    Ok(())
}

/// What is gone already needs no removal.
fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

fn put(to: &Destination, item: &Item, program: &[u8]) -> Result<()> {
    make_parents(&to.root, &item.path)?;
    let at = to.root.join(&item.path);
    match &item.what {
        What::Program => write(&at, program, 0o755)?,
        What::Text(text) => write(&at, own(to, text).as_bytes(), 0o644)?,
        What::Script(text) => write(&at, own(to, text).as_bytes(), 0o755)?,
        What::Link(target) => {
            let (directory, name) = parted(&at)?;
            let directory = replace::open_dir(directory).map_err(|e| Error::sys("open", directory, e))?;
            replace::symlink(directory, name, target.as_os_str()).map_err(|e| Error::sys("link", &at, e))?;
        }
    }
    Ok(())
}

/// A text that names the program as it is installed.
fn own(to: &Destination, text: &str) -> String {
    text.replace(content::PROGRAM, &to.prefix.join("bin/haosfs").to_string_lossy())
}

fn write(at: &Path, bytes: &[u8], perm: u32) -> Result<()> {
    let (directory, name) = parted(at)?;
    let directory = replace::open_dir(directory).map_err(|e| Error::sys("open", directory, e))?;
    replace::file(directory, name, bytes, Rights { perm, owner: None }).map_err(|e| Error::sys("write", at, e))
}

fn parted(at: &Path) -> Result<(&Path, &std::ffi::OsStr)> {
    at.parent().zip(at.file_name()).ok_or_else(|| Error::sys("write", at, Errno::EINVAL))
}

/// The directories above a path, the uppermost last; the root is none of them.
fn parents(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty())
}

fn missing_parents(root: &Path, path: &Path) -> impl Iterator<Item = PathBuf> {
    parents(path).filter(move |parent| fs::symlink_metadata(root.join(parent)).is_err()).map(Path::to_owned)
}

fn make_parents(root: &Path, path: &Path) -> Result<()> {
    let Some(directory) = parents(path).next() else { return Ok(()) };
    let at = root.join(directory);
    fs::create_dir_all(&at).map_err(|e| Error::sys("make", at, e))
}
