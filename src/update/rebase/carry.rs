//! The new upper where it is empty: what stays is copied, sharing data where the file system can.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Work;
use super::dress::dress;
use super::survey::Node;
use crate::error::{Errno, Error, Result};
use crate::sys::data::{self, OFlags};
use crate::sys::dir;
use crate::sys::spot::{Spot, open_beneath, open_dir_at};
use crate::types::Kind;

/// Bytes that are copied at a time where they cannot be shared.
const CHUNK: usize = 1 << 20;

/// Fills the root of the new upper.
pub fn root(work: &Work<'_>, node: &Node) -> Result<()> {
    let mut carrier = Carrier { work, first_names: HashMap::new(), needed: Some(allocated(node, &mut HashSet::new())) };
    carrier.children(&node.children, &work.from, &work.to, Path::new(""))?;
    let spots = [&work.from, &work.to].map(|root| Spot::Fd(Arc::clone(root)));
    dress(work, node, &spots[0], &spots[1]).map_err(|e| told(e, Path::new("/")))
}

struct Carrier<'a> {
    work: &'a Work<'a>,
    /// Where the first name of a file with several was made.
    first_names: HashMap<(u64, u64), PathBuf>,
    /// Bytes that copies take, until it was looked whether there are as many.
    needed: Option<u64>,
}

impl Carrier<'_> {
    fn children(&mut self, nodes: &[Node], from: &Arc<OwnedFd>, to: &Arc<OwnedFd>, parents: &Path) -> Result<()> {
        for node in nodes.iter().filter(|node| node.stays) {
            let path = parents.join(&node.name);
            self.node(node, from, to, &path).map_err(|e| told(e, &path))?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, from: &Arc<OwnedFd>, to: &Arc<OwnedFd>, path: &Path) -> Result<()> {
        let name = node.name.as_os_str();
        if let Some(first) = node.linked().and_then(|inode| self.first_names.get(&inode)) {
            let directory = open_beneath(&self.work.to, first.parent().unwrap_or(Path::new("")))?;
            return Ok(dir::link(directory, first.file_name().unwrap_or_default(), to, name)?);
        }
        let (source, target) = (Work::at(from, node), Work::at(to, node));
        match node.stat.attr.kind {
            Kind::Dir => {
                dir::mkdir(to, name, 0o700)?;
                self.children(&node.children, &open_dir_at(from, name)?, &open_dir_at(to, name)?, path)?;
            }
            Kind::File => self.copy_file(&source, to, name, node.stat.attr.size)?,
            Kind::Symlink => dir::symlink(&source.readlink()?, to, name)?,
            kind => dir::mknod(to, name, kind, 0o600, node.stat.attr.rdev)?,
        }
        if let Some(inode) = node.linked() {
            self.first_names.insert(inode, path.to_owned());
        }
        dress(self.work, node, &source, &target)
    }

    fn copy_file(&mut self, source: &Spot, to: &Arc<OwnedFd>, name: &OsStr, size: u64) -> Result<()> {
        let from = source.open_untouched(OFlags::RDONLY)?;
        let to = dir::create(to, name, 0o600)?;
        match data::clone(&from, &to) {
            Ok(()) => return Ok(()),
            Err(e @ (Errno::EIO | Errno::ENOSPC | Errno::EDQUOT)) => return Err(e.into()),
            // Not on this file system.
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::ENOSYS) => self.look_for_room(&to)?,
            // Not this file.
            Err(_) => {}
        }
        copy_data(&from, &to, size)
    }

    /// Before the first copy, as it may take long to find out by doing.
    fn look_for_room(&mut self, at: &OwnedFd) -> Result<()> {
        let Some(needed) = self.needed.take() else { return Ok(()) };
        let space = data::space(at)?;
        let has_room = needed <= space.bfree.saturating_mul(space.frsize);
        if has_room { Ok(()) } else { Err(Errno::ENOSPC.into()) }
    }
}

/// Bytes that the files take which stay, each once.
fn allocated(node: &Node, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let counts = node.stays && node.stat.attr.kind == Kind::File && node.linked().is_none_or(|inode| seen.insert(inode));
    let own = if counts { node.stat.attr.blocks.saturating_mul(512) } else { 0 };
    node.children.iter().fold(own, |sum, child| sum.saturating_add(allocated(child, seen)))
}

fn copy_data(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<()> {
    let mut at = 0;
    while at < size {
        at = match data::seek_data(from, at) {
            Ok(start) => start,
            Err(Errno::ENXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = data::seek_hole(from, at)?.min(size);
        while at < end {
            at += copy_some(from, to, at, end - at)?;
        }
    }
    Ok(data::truncate(to, size)?)
}

/// At least a byte.
fn copy_some(from: &OwnedFd, to: &OwnedFd, at: u64, len: u64) -> Result<u64> {
    let len = usize::try_from(len).unwrap_or(CHUNK).min(CHUNK);
    match data::copy_range(from, at, to, at, len) {
        Ok(copied) if copied > 0 => return Ok(copied as u64),
        Ok(_) | Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {}
        Err(e) => return Err(e.into()),
    }
    let mut buffer = vec![0; len];
    let read = data::read_at(from, &mut buffer, at)?;
    let bytes = buffer.get(..read).filter(|bytes| !bytes.is_empty()).ok_or(Errno::EIO)?;
    if data::write_at(to, bytes, at)? < bytes.len() {
        return Err(Errno::ENOSPC.into());
    }
    Ok(bytes.len() as u64)
}

fn told(e: Error, path: &Path) -> Error {
    match e {
        Error::Expected(errno) => Error::sys("copy in the upper", path, errno),
        other => other,
    }
}
