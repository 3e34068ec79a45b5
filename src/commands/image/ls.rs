//! `haosfs image ls`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::ls_line::Line;
use crate::commands::output::{Output, printable};
use crate::error::{Error, Result};
use crate::mount::image_path::{LastLink, resolve};
use crate::types::Kind;
use crate::union::lower::{Lower, LowerId};

/// Lists the directory at `path`, or the one inode there.
///
/// # Errors
/// As for [`resolve`]; damage of the image; when standard output cannot be written.
pub fn run(lower: &dyn Lower, path: &Path, recursive: bool, json: bool) -> Result<()> {
    let mut listing = Listing { lower, output: Output::open(), json, recursive };
    let shown = Path::new("/").join(path);
    let id = resolve(lower, path, LastLink::Keep)?;
    if lower.attr(id)?.kind.is_dir() {
        listing.directories(id, shown)?
    } else {
        listing.inode(id, shown.as_os_str())?
    }
    listing.output.finish()
}

struct Listing<'a> {
    lower: &'a dyn Lower,
    output: Output,
    json: bool,
    recursive: bool,
}

impl Listing<'_> {
    /// A directory and, if asked for, all below it; parents before children. No directory of a sound image has two names, so
    /// one that comes again would never end.
    fn directories(&mut self, top: LowerId, path: PathBuf) -> Result<()> {
        let mut seen = HashSet::new();
        let mut waiting = vec![(top, path)];
        while let Some((id, path)) = waiting.pop() {
            if !seen.insert(id) {
                return Err(Error::Refused(format!(
                    "{}: the image is damaged: a directory has two names",
                    printable(path.as_os_str())
                )));
            }
            if self.recursive && !self.json {
                let gap = if seen.len() > 1 { "\n" } else { "" };
                self.output.line(&format!("{gap}{}:", printable(path.as_os_str())))?;
            }
            let mut inner = Vec::new();
            for (name, listed) in self.lower.entries(id)? {
                let Some(found) = self.lower.listed(id, &name, &listed)? else { continue };
                self.entry(found, &name, &path)?;
                if self.recursive && listed.kind.is_dir() {
                    inner.push((found, path.join(name)));
                }
            }
            waiting.extend(inner.into_iter().rev());
        }
        Ok(())
    }

    fn entry(&mut self, id: LowerId, name: &OsStr, directory: &Path) -> Result<()> {
        if self.json { self.inode(id, directory.join(name).as_os_str()) } else { self.inode(id, name) }
    }

    fn inode(&mut self, id: LowerId, name: &OsStr) -> Result<()> {
        let attr = self.lower.attr(id)?;
        let target = if attr.kind == Kind::Symlink { Some(self.lower.readlink(id)?) } else { None };
        let line = Line { name, attr, target };
        let text = if self.json { line.json().to_string() } else { line.text() };
        self.output.line(&text)
    }
}
