//! `haosfs image extract`: walks the image and recreates it beneath a directory. Every name is used relative to the descriptor
//! of its own directory and without following links, so a hostile image cannot write anywhere else.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::attributes::{At, Omitted};
use super::extract_target::{Made, Target};
use crate::commands::output::printable;
use crate::error::{Error, Result};
use crate::mount::image_path::{LastLink, resolve};
use crate::sys::daemon;
use crate::types::Attr;
use crate::union::lower::{Listing, Lower, LowerId};

/// Deepest nesting that is unpacked; each level holds a descriptor open.
const DEEPEST: usize = 4096;

/// Unpacks what stands at `path` into the existing `directory`: the image's root becomes `directory` itself, anything else
/// becomes an entry of it.
///
/// # Errors
/// Damage of the image, names that already exist (directories are joined), and whatever the kernel refuses. What lack of
/// privilege forbids (owners, some attributes, devices) is left out and summed up in a warning.
pub fn run(lower: &dyn Lower, path: &Path, directory: &Path) -> Result<()> {
    let id = resolve(lower, path, LastLink::Keep)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open =
        || rustix::fs::open(directory, flags, Mode::empty()).map_err(|e| Error::sys("open", directory, std::io::Error::from(e)));
    daemon::clear_umask();
    if let Err(e) = daemon::raise_descriptor_limit() {
        tracing::debug!("the limit of open files stays as it is: {e}");
    }
    let target = Target { lower, root: open()? };
    let mut extraction =
        Extraction { target, stack: Vec::new(), seen: HashSet::new(), first_names: HashMap::new(), omitted: Omitted::default() };
    let attr = lower.attr(id)?;
    if id == lower.root() {
        extraction.enter(id, attr, open()?, PathBuf::new())?;
    } else {
        let name = path.file_name().unwrap_or(OsStr::new("root"));
        extraction.make(&open()?, Path::new(""), name, id)?;
    }
    extraction.finish()?;
    extraction.omitted.warn();
    Ok(())
}

/// A directory that is being filled.
struct Level {
    directory: OwnedFd,
    path: PathBuf,
    id: LowerId,
    attr: Attr,
    listing: Listing,
    next: usize,
}

struct Extraction<'a> {
    target: Target<'a>,
    stack: Vec<Level>,
    /// Directories met so far; a sound image names each once.
    seen: HashSet<LowerId>,
    /// Where the first name of an inode with several was made, relative to the root.
    first_names: HashMap<LowerId, PathBuf>,
    omitted: Omitted,
}

impl Extraction<'_> {
    /// Fills directories until none is left; a directory's own attributes come last, since filling it changes its times.
    fn finish(&mut self) -> Result<()> {
        while let Some(mut level) = self.stack.pop() {
            let Some((name, listed)) = level.listing.get(level.next).cloned() else {
                self.omitted.apply(self.target.lower, level.id, &level.attr, At::Open(&level.directory), &level.path)?;
                continue;
            };
            level.next += 1;
            let at = self.stack.len();
            check_name(&name, &level.path)?;
            if let Some(id) = self.target.lower.listed(level.id, &name, &listed)? {
                self.make(&level.directory, &level.path, &name, id)?;
            }
            // Below the directory that `make` may have entered.
            self.stack.insert(at, level);
        }
        Ok(())
    }

    fn make(&mut self, directory: &OwnedFd, parent: &Path, name: &OsStr, id: LowerId) -> Result<()> {
        let attr = self.target.lower.attr(id)?;
        let path = parent.join(name);
        if attr.kind.is_dir() {
            let made = self.target.directory(directory, name, &path)?;
            return self.enter(id, attr, made, path);
        }
        if let Some(first) = self.first_names.get(&id) {
            return self.target.link(first, directory, name, &path);
        }
        match self.target.inode(directory, name, id, &attr, &path)? {
            Made::Forbidden => {
                self.omitted.devices += 1;
                return Ok(());
            }
            Made::Open(file) => self.omitted.apply(self.target.lower, id, &attr, At::Open(&file), &path)?,
            Made::Pinned(pin) => self.omitted.apply(self.target.lower, id, &attr, At::Pinned(&pin), &path)?,
        }
        if attr.nlink > 1 {
            self.first_names.insert(id, path);
        }
        Ok(())
    }

    fn enter(&mut self, id: LowerId, attr: Attr, directory: OwnedFd, path: PathBuf) -> Result<()> {
        if !self.seen.insert(id) {
            return Err(damaged(&path, "a directory has two names"));
        }
        if self.stack.len() >= DEEPEST {
            return Err(damaged(&path, "directories are nested too deeply"));
        }
        let listing = self.target.lower.entries(id)?;
        self.stack.push(Level { directory, path, id, attr, listing, next: 0 });
        Ok(())
    }
}

/// Names that would not stay one component of their own directory.
fn check_name(name: &OsStr, directory: &Path) -> Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|b| matches!(b, b'/' | 0)) {
        return Err(damaged(directory, &format!("\"{}\" is no file name", printable(name))));
    }
    Ok(())
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::Refused(format!("/{}: the image is damaged: {why}", printable(path.as_os_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for name in [&b""[..], b".", b"..", b"../x", b"/etc", b"a/b", b"a\0b"] {
            assert!(check_name(OsStr::from_bytes(name), Path::new("d")).is_err(), "{name:?}");
        }
        for name in [&b"a"[..], b"...", b"a b", b"\xff", b"-rf"] {
            assert!(check_name(OsStr::from_bytes(name), Path::new("d")).is_ok(), "{name:?}");
        }
    }
}
