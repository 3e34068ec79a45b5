//! The work directory: made and emptied at mount time, and marked with the attribute names that its upper uses.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::acl;
use super::lend::OWNER_ALL;
use crate::error::{Errno, Error, Result};
use crate::ovl;
use crate::ovl::xattr::Namespace;
use crate::sys::cred::privilege;
use crate::sys::dir;
use crate::sys::spot::{Spot, open_dir_at};

/// Deepest directory that clean-up descends to; the format never nests that deep below the work directory by itself.
const PURGE_DEPTH: usize = 1024;

/// Opens `work/work`, making it first where it does not exist yet. What is made there is nobody else's to see; an ordinary user's
/// own daemon could not enter a directory of mode 0, which the kernel's is.
pub(super) fn open(work: &Path, work_dir: &Arc<OwnedFd>) -> Result<Arc<OwnedFd>> {
    let name = OsStr::new(ovl::WORK);
    let perm = if privilege().dac_override { 0 } else { OWNER_ALL };
    match dir::mkdir(work_dir, name, perm) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(Error::sys("create", work.join(name), e)),
    }
    let inner = open_dir_at(work_dir, name).map_err(|e| Error::sys("open", work.join(name), e))?;
    let spot = Spot::Fd(Arc::clone(&inner));
    // What is made here must get nothing from this directory: no ACL, no group.
    for acl in [acl::DEFAULT, acl::ACCESS] {
        match spot.remove_xattr(OsStr::new(acl)) {
            Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(Error::sys("remove the ACL of", work.join(name), e)),
        }
    }
    spot.chmod(perm).map_err(|e| Error::sys("chmod", work.join(name), e))?;
    Ok(inner)
}

/// Refuses an upper of which an interrupted run says that it must not be used.
pub(super) fn check(upper: &Path, work: &Path, inner: &Arc<OwnedFd>) -> Result<()> {
    let incompat = open_dir_at(inner, OsStr::new(ovl::INCOMPAT)).and_then(dir::read);
    match incompat.ok().and_then(|all| all.into_iter().next()) {
        None => Ok(()),
        Some(feature) => Err(Error::Refused(format!(
            "{}: the upper was last used with the feature \"{}\" and not unmounted cleanly; look at {}/{}/{}, and remove it \
             once you trust the upper",
            upper.display(),
            feature.name.display(),
            work.display(),
            ovl::WORK,
            ovl::INCOMPAT,
        ))),
    }
}

/// Removes what an interrupted run left.
pub(super) fn clean(work: &Path, inner: &Arc<OwnedFd>) -> Result<()> {
    for entry in dir::read(inner).map_err(|e| Error::sys("read", work, e))? {
        purge(inner, &entry.name, 0).map_err(|e| Error::sys("clean up", work.join(ovl::WORK).join(&entry.name), e))?;
    }
    Ok(())
}

/// The empty file beside [`ovl::WORK`] that tells which attribute names were written.
pub(super) const fn mark(namespace: Namespace) -> &'static str {
    match namespace {
        Namespace::Trusted => "haosfs.trustedxattr",
        Namespace::User => "haosfs.userxattr",
    }
}

/// The attribute names that an earlier mount of ours wrote, `None` where there was none.
pub(super) fn marked(work: &Arc<OwnedFd>) -> Option<Namespace> {
    [Namespace::Trusted, Namespace::User].into_iter().find(|ns| Spot::at(work, OsStr::new(mark(*ns))).stat().is_ok())
}

/// Leaves the mark for later mounts: marks in the other name space would not be seen by them.
pub(super) fn set_mark(work: &Arc<OwnedFd>, namespace: Namespace) -> Result<(), Errno> {
    match dir::create(work, OsStr::new(mark(namespace)), 0o444) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes an object and all below it, without ever following a link or leaving the file system.
pub(super) fn purge(parent: &OwnedFd, name: &OsStr, depth: usize) -> Result<(), Errno> {
    match dir::unlink(parent, name) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e),
    }
    if depth >= PURGE_DEPTH {
        return Err(Errno::ELOOP);
    }
    match dir::rmdir(parent, name) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
        answer => return answer,
    }
    let inner = open_dir_at(parent, name)?;
    // Without privilege it could not be emptied as it is; nobody will see it again.
    let _best_effort = Spot::Fd(Arc::clone(&inner)).chmod(0o700);
    for entry in dir::read(&inner)? {
        purge(&inner, &entry.name, depth + 1)?;
    }
    dir::rmdir(parent, name)
}
