//! The one writable layer: its directories, checked and locked, and the work directory where everything is made before it
//! becomes visible.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::syncs::Syncs;
use super::{pair, work};
use crate::error::{Errno, Error, Result};
use crate::ovl;
use crate::ovl::xattr::{Namespace, Private};
use crate::sys::cred::{Privilege, privilege};
use crate::sys::data::OFlags;
use crate::sys::dir::{self, RawEntry, Rename};
use crate::sys::layer;
use crate::sys::spot::{Spot, open_dir_at};
use crate::types::{Atime, Kind};

/// Which name space of attributes to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefix {
    /// `trusted.overlay.` where the upper lets us set it, else `user.overlay.`.
    #[default]
    Auto,
    /// `user.overlay.` in any case (option `userxattr`).
    User,
}

/// The writable layer.
#[derive(Debug)]
pub struct Upper {
    path: PathBuf,
    root: Arc<OwnedFd>,
    work: Arc<OwnedFd>,
    /// The directory that `work` is in.
    around_work: Arc<OwnedFd>,
    dev: u64,
    namespace: Namespace,
    privilege: Privilege,
    atime: Atime,
    syncs: Syncs,
    next_temp: AtomicU64,
    /// Name in the work directory of the whiteout that others are hard links of.
    whiteout: Mutex<Option<OsString>>,
    /// Shared by those who look at modes, exclusive for those who lend permissions.
    pub(super) lending: RwLock<()>,
    /// On both directories.
    locks: pair::Locks,
}

impl Upper {
    /// Opens an upper directory and its work directory, takes both for this process alone, and removes what an interrupted
    /// run left in the work directory. Nothing is changed before all checks passed. What is mounted inside is no part of them, where
    /// we may have a clone of their mount. `may_take` is asked about the upper and the work directory once nobody else can take them,
    /// before anything changes: the kernel's overlayfs takes no locks.
    ///
    /// # Errors
    /// What `may_take` answers;
    /// [`Error::Refused`] naming the directory and the remedy: missing, not on one file system, one inside the other, in use,
    /// left dirty by a volatile mount; [`Error::Unsupported`] where the file system lacks whiteouts, `renameat2` or xattrs.
    pub fn open(
        upper: &Path,
        work: &Path,
        prefix: Prefix,
        atime: Atime,
        may_take: impl FnOnce(&[Arc<OwnedFd>; 2]) -> Result<()>,
    ) -> Result<Self> {
        let ([upper_dir, work_dir], locks) = Self::take(upper, work, atime, may_take)?;
        let stat = Spot::Fd(Arc::clone(&upper_dir)).stat().map_err(|e| Error::sys("stat", upper, e))?;
        let inner = work::open(work, &work_dir)?;
        let synced = Spot::Fd(Arc::clone(&upper_dir)).open(OFlags::RDONLY | OFlags::DIRECTORY);
        let synced = synced.map_err(|e| Error::sys("open", upper, e))?;
        let mut this = Self {
            path: upper.to_owned(),
            root: upper_dir,
            work: inner,
            around_work: Arc::clone(&work_dir),
            dev: stat.dev,
            namespace: Namespace::User,
            privilege: privilege(),
            atime,
            syncs: Syncs::new(synced),
            next_temp: AtomicU64::new(0),
            whiteout: Mutex::new(None),
            lending: RwLock::new(()),
            locks,
        };
        work::check(upper, work, &this.work)?;
        work::clean(work, &this.work)?;
        this.probe(prefix, work::marked(&work_dir))?;
        work::set_mark(&work_dir, this.namespace).map_err(|e| Error::sys("mark", work, e))?;
        Ok(this)
    }

    /// Each making durable of all that was written to it.
    pub(super) const fn syncs(&self) -> &Syncs {
        &self.syncs
    }

    /// Checks what can be without changing anything: both directories are let go again.
    ///
    /// # Errors
    /// As for [`Upper::open`].
    pub fn look(upper: &Path, work: &Path, may_take: impl FnOnce(&[Arc<OwnedFd>; 2]) -> Result<()>) -> Result<()> {
        let ([_, work_dir], _locks) = Self::take(upper, work, Atime::Never, may_take)?;
        open_dir_at(&work_dir, OsStr::new(ovl::WORK)).map_or(Ok(()), |inner| work::check(upper, work, &inner))
    }

    fn take(
        upper: &Path,
        work: &Path,
        atime: Atime,
        may_take: impl FnOnce(&[Arc<OwnedFd>; 2]) -> Result<()>,
    ) -> Result<([Arc<OwnedFd>; 2], pair::Locks)> {
        let found = [pair::open("upper", upper)?, pair::open("work", work)?];
        pair::check_apart(upper, &found[0], work, &found[1])?;
        let open = layer::open_pair([upper, work], [&found[0], &found[1]], atime).unwrap_or_else(|| found.clone());
        pair::check_spelling("upper", upper, &open[0])?;
        // What is made in it would do as it does, wherever it goes.
        pair::check_spelling("work", work, &open[1])?;
        pair::check_writable("upper", upper)?;
        pair::check_writable("work", work)?;
        let locks = pair::Locks::take([upper, work], [&open[0], &open[1]])?;
        // The kernel makes no overlay of a directory below a clone that is mounted nowhere, so that one cannot be asked about.
        may_take(&found)?;
        Ok((open, locks))
    }

    /// The root of the upper.
    #[must_use]
    pub const fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// True where names of other bytes are other names, as far as its file system tells.
    #[must_use]
    pub fn compares_bytes(&self) -> bool {
        dir::compares_bytes(&self.root)
    }

    /// The directory for unfinished objects.
    #[must_use]
    pub const fn work(&self) -> &Arc<OwnedFd> {
        &self.work
    }

    /// The directory that [`Upper::work`] is in, and the index beside it.
    #[must_use]
    pub(super) const fn around_work(&self) -> &Arc<OwnedFd> {
        &self.around_work
    }

    /// Device number of the upper's file system.
    #[must_use]
    pub const fn dev(&self) -> u64 {
        self.dev
    }

    /// The path it was opened by, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The attribute name space of this mount.
    #[must_use]
    pub const fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// What this process may do to files of others.
    #[must_use]
    pub const fn privilege(&self) -> &Privilege {
        &self.privilege
    }

    /// When reading stamps access times.
    #[must_use]
    pub const fn atime(&self) -> Atime {
        self.atime
    }

    /// Opens a file of the upper for its data. Where reading leaves no stamp that holds without a mount of our own, too, as far as
    /// the file is ours.
    ///
    /// # Errors
    /// As for [`Spot::open`].
    pub fn open_data(&self, spot: &Spot, flags: OFlags) -> Result<OwnedFd, Errno> {
        if self.atime == Atime::Never { spot.open_untouched(flags) } else { spot.open(flags) }
    }

    /// A name in the work directory that nobody else uses, in the kernel's spelling.
    #[must_use]
    pub fn temp(&self) -> OsString {
        format!("#{:x}", self.next_temp.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// The spot of an object in the work directory.
    #[must_use]
    pub fn in_work(&self, temp: &OsStr) -> Spot {
        Spot::at(&self.work, temp)
    }

    /// Value of one of the format's attributes, `None` where it is not set.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn private(&self, spot: &Spot, private: Private) -> Result<Option<Vec<u8>>, Errno> {
        let name = self.namespace.name(private);
        self.readable(spot, || spot.xattr(&name))
    }

    /// True where a directory carries the opaque mark.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn is_opaque(&self, spot: &Spot) -> Result<bool, Errno> {
        Ok(self.private(spot, Private::Opaque)?.is_some_and(|value| value == b"y"))
    }

    /// The names in a directory of the upper.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn read_dir(&self, fd: &Arc<OwnedFd>) -> Result<Vec<RawEntry>, Errno> {
        self.readable(&Spot::Fd(Arc::clone(fd)), || dir::read(fd))
    }

    /// True where a directory carries the opaque mark of the name space that this mount does not consult, and was not copied up by one
    /// that consults the same as this: then it is an attribute like any other, which came from a lower or from somebody's setfattr(1).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn has_foreign_mark(&self, spot: &Spot) -> Result<bool, Errno> {
        let foreign = match self.namespace {
            Namespace::Trusted => Namespace::User,
            Namespace::User => return Ok(false),
        };
        let is_marked = spot.xattr(&foreign.name(Private::Opaque))?.is_some_and(|value| value == b"y");
        Ok(is_marked && self.private(spot, Private::Origin)?.is_none())
    }

    /// Marks a directory opaque.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_opaque(&self, spot: &Spot) -> Result<(), Errno> {
        self.set_private(spot, Private::Opaque, b"y")
    }

    /// Sets one of the format's attributes.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_private(&self, spot: &Spot, private: Private, value: &[u8]) -> Result<(), Errno> {
        spot.set_xattr(&self.namespace.name(private), value, 0)
    }

    /// Marks a file in the work directory as one of attributes only. Its size must have been set: that takes capabilities.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn mark_metacopy(&self, temp: &OsStr) -> Result<(), Errno> {
        self.set_private(&self.in_work(temp), Private::Metacopy, b"")
    }

    /// Hides a name that the upper does not have: one step, so a crash leaves it hidden or not.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn whiteout(&self, dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let mut shared = self.whiteout.lock();
        for _ in 0..2 {
            let temp = match &*shared {
                Some(temp) => temp.clone(),
                None => self.fresh_whiteout(&mut shared)?,
            };
            match dir::link(&self.work, &temp, dir, name) {
                // Worn out (link limit), or taken away from outside: a fresh one serves the next.
                Err(Errno::EMLINK | Errno::ENOENT) => *shared = None,
                answer => return answer,
            }
        }
        dir::mknod(dir, name, Kind::Char, 0, 0)
    }

    fn fresh_whiteout(&self, shared: &mut Option<OsString>) -> Result<OsString, Errno> {
        let temp = self.temp();
        dir::mknod(&self.work, &temp, Kind::Char, 0, 0)?;
        *shared = Some(temp.clone());
        Ok(temp)
    }

    /// Replaces an object by a whiteout in one step, then removes the object, which for a directory may take many.
    ///
    /// # Errors
    /// The kernel's answer, in which case the object stands unless the whiteout already took its place.
    pub fn replace_by_whiteout(&self, dir: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        let temp = self.temp();
        self.whiteout(&self.work, &temp)?;
        let how = if kind.is_dir() { Rename::Exchange } else { Rename::Replace };
        if let Err(e) = dir::rename(&self.work, &temp, dir, name, how) {
            self.discard(&temp);
            return Err(e);
        }
        if kind.is_dir() {
            self.discard(&temp);
        }
        Ok(())
    }

    /// Removes an object from the work directory, with all below it. What cannot be removed is swept at the next mount.
    pub fn discard(&self, temp: &OsStr) {
        if let Err(e) = work::purge(&self.work, temp, 0) {
            tracing::warn!("{}: cannot remove {} from the work directory: {e}", self.path.display(), temp.display());
        }
    }

    /// Leaves the mark that makes the kernel, and us, refuse this upper until it was unmounted cleanly (super.c,
    /// `ovl_create_volatile_dirty`).
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn mark_volatile(&self) -> Result<()> {
        let make = || {
            dir::mkdir(&self.work, OsStr::new(ovl::INCOMPAT), 0o700)?;
            let incompat = open_dir_at(&self.work, OsStr::new(ovl::INCOMPAT))?;
            dir::mkdir(&incompat, OsStr::new("volatile"), 0o700)?;
            dir::create(open_dir_at(&incompat, OsStr::new("volatile"))?, OsStr::new("dirty"), 0o600).map(drop)
        };
        make().map_err(|e| Error::sys("mark as volatile", &self.path, e))
    }

    /// Lets others wait for the upper rather than refuse it to them. For after the last request.
    pub fn announce_end(&self) {
        self.locks.announce_end();
    }

    /// Takes the mark away again.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn clear_volatile(&self) -> Result<()> {
        work::purge(&self.work, OsStr::new(ovl::INCOMPAT), 0).map_err(|e| Error::sys("unmark as volatile", &self.path, e))
    }

    /// Finds out by doing whether the file system carries the format, and which attribute names we may use.
    fn probe(&mut self, prefix: Prefix, marked: Option<Namespace>) -> Result<()> {
        let path = self.path.display();
        let lacks = |what: &str, e: Errno| match e {
            Errno::ENOSPC | Errno::EDQUOT => {
                Error::Full(format!("{path}: the file system of the upper is full ({e}): make room, or mount with -o ro"))
            }
            e => Error::Unsupported(format!(
                "{path}: the file system of the upper cannot hold {what} ({e}); use ext4, xfs, btrfs or tmpfs"
            )),
        };
        let (a, b) = (self.temp(), self.temp());
        dir::mknod(&self.work, &a, Kind::Char, 0, 0).map_err(|e| lacks("whiteouts (character device 0:0)", e))?;
        dir::mkdir(&self.work, &b, 0o700).map_err(|e| Error::sys("create a directory in", &self.path, e))?;
        dir::rename(&self.work, &a, &self.work, &b, Rename::Exchange).map_err(|e| lacks("renameat2 exchanges", e))?;
        dir::rename(&self.work, &b, &self.work, OsStr::new("#probe"), Rename::Whiteout)
            .map_err(|e| lacks("whiteouts left by renames", e))?;
        // After the exchange `a` names the directory.
        let can = |ns: Namespace| self.in_work(&a).set_xattr(&ns.name(Private::Opaque), b"y", 0);
        let (trusted, user) = (can(Namespace::Trusted), can(Namespace::User));
        let chosen = match (prefix, marked) {
            (Prefix::Auto, Some(Namespace::Trusted)) if trusted.is_err() => return Err(self.written_by_root()),
            (Prefix::User, Some(Namespace::Trusted)) => return Err(self.written_by_root()),
            (Prefix::User, _) | (_, Some(Namespace::User)) => user.map(|()| Namespace::User),
            _ => trusted.map(|()| Namespace::Trusted).or(user.map(|()| Namespace::User)),
        };
        let namespace = chosen.map_err(|e| lacks("extended attributes", e))?;
        for temp in [a.as_os_str(), &b, OsStr::new("#probe")] {
            self.discard(temp);
        }
        self.namespace = namespace;
        Ok(())
    }

    fn written_by_root(&self) -> Error {
        Error::Refused(format!(
            "{}: this upper was written with trusted.overlay attributes, which this mount would not see: deleted names would come \
             back; mount it as root and without userxattr",
            self.path.display()
        ))
    }
}
