//! Looks at an upper that is not mounted: what is wrong with it, and what a mount would make of that.
//!
//! A walk reads facts, pure functions judge them, and what they find is told at once, after it was mended if that was asked
//! for. Nothing here follows a symbolic link or crosses a mount, and no depth or number of names makes it recurse.

mod below;
pub mod defect;
mod facts;
mod judge;
mod mark_defect;
mod name_defect;
mod repair;
mod walk;
mod work_defect;
mod work_dir;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lower::Lower;
use super::{pair, work};
use crate::error::{Error, Result};
use crate::ovl::xattr::Namespace;
use crate::sys::cred::privilege;
use crate::sys::data;
use crate::sys::spot::Spot;
use below::Layers;
use defect::{Defect, Finding, Outcome};
use repair::At;

pub use facts::Twin;

/// What to look at, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The upper directory.
    pub upper: PathBuf,
    /// Its work directory.
    pub work: PathBuf,
    /// The mount would be given `userxattr`.
    pub userxattr: bool,
    /// Mend what can be mended.
    pub repair: bool,
}

/// Takes what was found, in the order in which it is found.
pub type Report<'a> = dyn FnMut(Finding) -> Result<()> + 'a;

/// Looks at all of an upper and its work directory. With `lowers` (topmost first) also at what needs these. `may_take` is asked as by
/// [`Upper::open`](super::Upper::open).
///
/// # Errors
/// [`Error::Refused`] where the directories are missing, not on one mount, in use or not ours to read; what `report` answers. What
/// cannot be read further down is a finding.
pub fn check(
    request: &Request,
    lowers: Vec<Box<dyn Lower>>,
    may_take: impl FnOnce(&[Arc<OwnedFd>; 2]) -> Result<()>,
    report: &mut Report<'_>,
) -> Result<()> {
    let (upper_path, work_path) = (&request.upper, &request.work);
    let both = [pair::open("upper", upper_path)?, pair::open("work", work_path)?];
    let [upper, work_dir] = both.each_ref().map(Arc::clone);
    pair::check_apart(upper_path, &upper, work_path, &work_dir)?;
    if request.repair {
        pair::check_writable("upper", upper_path)?;
        pair::check_writable("work", work_path)?;
    }
    let _locks = pair::Locks::take([upper_path, work_path], [&upper, &work_dir])?;
    may_take(&both)?;
    let space = namespace(request, work::marked(&work_dir))?;
    let layers = Layers::new(lowers, space)?;
    let work = if request.repair { Some(work::open(work_path, &work_dir)?) } else { None };
    let mut bench = Bench { space, work, report };
    work_dir::check(&mut bench, request, &work_dir)?;
    let seen = walk::check(&mut bench, &layers, upper_path, &upper)?;
    work_dir::check_markers(&mut bench, request, &work_dir, &seen)?;
    if request.repair {
        let root = Spot::Fd(upper).open(data::OFlags::RDONLY | data::OFlags::DIRECTORY);
        root.and_then(data::sync_all).map_err(|e| Error::sys("synchronise", upper_path, e))?;
    }
    Ok(())
}

/// The name space that a mount would consult.
fn namespace(request: &Request, marked: Option<Namespace>) -> Result<Namespace> {
    match marked {
        _ if request.userxattr => Ok(Namespace::User),
        Some(Namespace::User) => Ok(Namespace::User),
        _ if privilege().uid == 0 => Ok(Namespace::Trusted),
        Some(Namespace::Trusted) => Err(Error::Refused(format!(
            "{}: written with trusted.overlay marks, which only root can read; check it as root",
            request.upper.display()
        ))),
        None => Ok(Namespace::User),
    }
}

/// Where defects come to: they are mended, if they shall be and can be, and told of.
struct Bench<'a, 'b> {
    space: Namespace,
    /// The directory of unfinished objects; `None` where nothing is to be mended.
    work: Option<Arc<OwnedFd>>,
    report: &'a mut Report<'b>,
}

impl Bench<'_, '_> {
    /// Returns whether the defect is gone, or would be if defects were to be mended.
    fn take(&mut self, path: &Path, defect: impl Into<Defect>, at: At<'_>) -> Result<bool> {
        let defect = defect.into();
        let outcome = match (defect.explain().repair, &self.work) {
            (Some(repair), Some(work)) => match repair::apply(&repair, at, work, self.space) {
                Ok(()) => Outcome::Repaired,
                Err(e) => Outcome::Failed(e.into()),
            },
            (Some(_), None) => {
                (self.report)(Finding { path: path.to_owned(), defect, outcome: Outcome::Left })?;
                return Ok(true);
            }
            (None, _) => Outcome::Left,
        };
        let mended = matches!(outcome, Outcome::Repaired);
        (self.report)(Finding { path: path.to_owned(), defect, outcome })?;
        Ok(mended)
    }

    /// Tells of a defect that nothing mends.
    fn tell(&mut self, path: PathBuf, defect: impl Into<Defect>) -> Result<()> {
        (self.report)(Finding { path, defect: defect.into(), outcome: Outcome::Left })
    }

    /// Tells that something could not be looked at.
    fn unchecked(&mut self, path: PathBuf, doing: &'static str, name: &OsStr, e: crate::error::Errno) -> Result<()> {
        self.tell(path, Defect::Unchecked(Error::sys(doing, name, e)))
    }
}
