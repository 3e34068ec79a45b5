//! From the upper that was made on one image to one for another: what the user changed is kept, what is merely a copy of the old
//! image is left out, so that the new one shows.
//!
//! ```text
//! survey   walks the upper beside both images: a tree of what stays, and what both sides changed
//! change   what the upper has made of an object of an image, and one image of that of another
//! carry    makes the new upper where it is empty
//! prune    makes it where it is a snapshot of the old one
//! dress    owner, mode, attributes and times of what stays
//! report   what is told of it
//! ```
//!
//! The old upper is only read. What the kernel's overlayfs or haosfs marked stays marked, but for `origin`, which names an inode of
//! the old image: it names that of the new one at the same place, or goes.

mod carry;
mod change;
mod dress;
mod prune;
mod report;
mod survey;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use report::{Change, Conflict, Outcome, Report};

use super::uppers::Ground;
use crate::error::{Error, Result};
use crate::ovl::xattr::Namespace;
use crate::sys::child::on_large_stack;
use crate::sys::spot::{Spot, open_dir};
use crate::union::lower::Lower;
use survey::{Node, Survey, Surveyed};

/// Trees up to this depth are walked on any stack.
const SHALLOW: usize = 256;

/// Deeper ones are refused: each level holds descriptors open and has its part of the stack. No path that a program can name (`PATH_MAX`)
/// leads deeper.
const DEEPEST: usize = 2048;

/// What directories need that are nested so deep, in bytes.
const STACK: usize = 64 << 20;

/// What is to be made of what.
pub struct Request<'a> {
    /// The upper that stays as it is. Nobody writes to it meanwhile.
    pub upper: &'a Path,
    /// The image that it was made on; `None` where that cannot be told: then everything in it is the user's.
    pub old: Option<&'a dyn Lower>,
    /// The image that the new upper is for.
    pub new: &'a dyn Lower,
    /// Which marks count.
    pub namespace: Namespace,
}

/// Makes the upper `into` of the other; returns what both sides changed. It is not durable yet.
///
/// # Errors
/// [`Error::Unsupported`] where the upper cannot be told from its image, because it has redirects or lacks data; what reading and
/// writing answer.
pub fn rebase(request: &Request<'_>, into: &Path, ground: Ground) -> Result<Report> {
    let opened = |path: &Path| open_dir(path).map_err(|e| Error::sys("open", path, e));
    let work = Work { request, from: opened(request.upper)?, to: opened(into)? };
    match Survey::new(request, SHALLOW).root(&work.from)? {
        Surveyed::All { root, conflicts } => work.make(ground, &root, conflicts),
        // Only who needs it asks for so much memory.
        Surveyed::TooDeep(_) => match on_large_stack(STACK, || work.make_deep(ground)) {
            Ok(made) => made,
            Err(e) => Err(Error::sys("start", "a thread", e)),
        },
    }
}

impl Work<'_> {
    fn make_deep(&self, ground: Ground) -> Result<Report> {
        match Survey::new(self.request, DEEPEST).root(&self.from)? {
            Surveyed::All { root, conflicts } => self.make(ground, &root, conflicts),
            Surveyed::TooDeep(path) => {
                // Whoever made it can take it away; all of its path is no help for that.
                let start: PathBuf = path.components().take(8).collect();
                Err(Error::Refused(format!(
                    "more than {DEEPEST} directories are nested inside each other below {} in the upper: remove or move some of them",
                    start.display()
                )))
            }
        }
    }

    fn make(&self, ground: Ground, root: &Node, conflicts: Vec<Conflict>) -> Result<Report> {
        match ground {
            Ground::Empty => carry::root(self, root)?,
            Ground::Snapshot => prune::root(self, root)?,
        }
        let (kept, left_out) = root.children.iter().fold((0, 0), |(kept, left_out), node| {
            let (more_kept, more_left_out) = node.counted();
            (kept + more_kept, left_out + more_left_out)
        });
        Ok(Report { kept, left_out, conflicts })
    }
}

/// The roots of both uppers.
struct Work<'a> {
    request: &'a Request<'a>,
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
}

impl Work<'_> {
    fn new_image(&self) -> &dyn Lower {
        self.request.new
    }

    /// Where an object of one of the uppers is.
    fn at(directory: &Arc<OwnedFd>, node: &Node) -> Spot {
        Spot::at(directory, &node.name)
    }
}
