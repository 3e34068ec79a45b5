//! The new upper where it is a snapshot of the old one: what does not stay goes.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::Work;
use super::dress::dress;
use super::survey::{Node, Origin};
use crate::error::{Error, Result};
use crate::sys::dir;
use crate::sys::spot::{Spot, open_dir_at};

/// Prunes the new upper from its root on.
pub fn root(work: &Work<'_>, node: &Node) -> Result<()> {
    children(work, &node.children, &work.from, &work.to, Path::new(""))?;
    let spots = [&work.from, &work.to].map(|root| Spot::Fd(Arc::clone(root)));
    dress(work, node, &spots[0], &spots[1]).map_err(|e| told(e, Path::new("/")))
}

fn children(work: &Work<'_>, nodes: &[Node], from: &Arc<OwnedFd>, to: &Arc<OwnedFd>, parents: &Path) -> Result<()> {
    for node in nodes {
        let path = parents.join(&node.name);
        prune(work, node, from, to, &path).map_err(|e| told(e, &path))?;
    }
    Ok(())
}

fn prune(work: &Work<'_>, node: &Node, from: &Arc<OwnedFd>, to: &Arc<OwnedFd>, path: &Path) -> Result<()> {
    let is_dir = node.stat.attr.kind.is_dir();
    if is_dir {
        children(work, &node.children, &open_dir_at(from, &node.name)?, &open_dir_at(to, &node.name)?, path)?;
    }
    match (node.stays, is_dir) {
        (false, true) => Ok(dir::rmdir(to, &node.name)?),
        (false, false) => Ok(dir::unlink(to, &node.name)?),
        (true, false) if node.origin == Origin::None => Ok(()),
        (true, _) => dress(work, node, &Work::at(from, node), &Work::at(to, node)),
    }
}

fn told(e: Error, path: &Path) -> Error {
    match e {
        Error::Expected(errno) => Error::sys("change in the snapshot of the upper", path, errno),
        other => other,
    }
}
