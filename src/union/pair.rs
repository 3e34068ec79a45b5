//! Upper and work directory before they become an [`Upper`](super::Upper): opened, compared, locked.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Errno, Error, Result};
use crate::sys::data::OFlags;
use crate::sys::spot::{Spot, Stat, open_dir, open_dir_at};
use crate::sys::{dir, lock};

/// How long a lock may be waited for: a daemon that has just ended lets go of its files in any order.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same where a union has it that was unmounted and is still writing out.
const PATIENCE_WITH_ENDING: Duration = Duration::from_secs(10);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens one of the two.
///
/// # Errors
/// [`Error::Refused`] where there is no such directory.
pub fn open(role: &str, path: &Path) -> Result<Arc<OwnedFd>> {
    open_dir(path).map_err(|e| match e {
        Errno::ENOENT => Error::Refused(format!("{}: the {role} directory does not exist; create it first", path.display())),
        Errno::ENOTDIR => Error::Refused(format!("{}: the {role} directory is not a directory", path.display())),
        e => Error::sys("open", path, e),
    })
}

/// Checks that this process may write to it.
///
/// # Errors
/// [`Error::Refused`] where it may not.
pub fn check_writable(role: &str, path: &Path) -> Result<()> {
    crate::sys::spot::may_write(path).map_err(|e| {
        let shown = path.display();
        Error::Refused(format!("{shown}: the {role} directory cannot be written to ({e}); choose one of your own"))
    })
}

/// Checks that a layer's root tells names apart by their bytes. Where upper and lower case are one, a file would have names that
/// nobody gave it, and lose the only one it has with any of them; the kernel's overlayfs refuses it, too (super.c,
/// `ovl_dentry_weird`).
///
/// # Errors
/// [`Error::Refused`] where it does not.
pub fn check_spelling(role: &str, path: &Path, dir: &Arc<OwnedFd>) -> Result<()> {
    if dir::folds_case(dir) { Err(folded(role, path)) } else { Ok(()) }
}

fn folded(role: &str, path: &Path) -> Error {
    let shown = path.display();
    Error::Refused(format!(
        "{shown}: the {role} directory takes upper and lower case for one (chattr +F), which a union cannot; use another one, or \
         `chattr -F {shown}` while it is empty"
    ))
}

/// Checks that both are on one mount, and neither is inside the other.
///
/// # Errors
/// [`Error::Refused`], naming both.
pub fn check_apart(upper: &Path, upper_dir: &Arc<OwnedFd>, work: &Path, work_dir: &Arc<OwnedFd>) -> Result<()> {
    let stat = |path: &Path, fd: &Arc<OwnedFd>| Spot::Fd(Arc::clone(fd)).stat().map_err(|e| Error::sys("stat", path, e));
    let (u, w) = (stat(upper, upper_dir)?, stat(work, work_dir)?);
    if (u.dev, u.mount) != (w.dev, w.mount) {
        return Err(Error::Refused(format!(
            "{} and {}: the work directory must be on the same mounted file system as the upper directory",
            work.display(),
            upper.display()
        )));
    }
    let within = |dir: &Arc<OwnedFd>, other: &Stat| is_within(dir, other).map_err(|e| Error::sys("look around", upper, e));
    if within(upper_dir, &w)? || within(work_dir, &u)? {
        return Err(Error::Refused(format!(
            "{} and {}: upper and work directory must be separate, neither inside the other",
            upper.display(),
            work.display()
        )));
    }
    Ok(())
}

/// Whether a directory is another or lies in it, by going up: paths may say nothing (a mount that stands nowhere).
fn is_within(dir: &Arc<OwnedFd>, other: &Stat) -> Result<bool, Errno> {
    let mut here = Arc::clone(dir);
    let mut stat = Spot::Fd(Arc::clone(&here)).stat()?;
    loop {
        let inode = (stat.dev, stat.attr.ino);
        if inode == (other.dev, other.attr.ino) {
            return Ok(true);
        }
        here = open_dir_at(&here, OsStr::new(".."))?;
        stat = Spot::Fd(Arc::clone(&here)).stat()?;
        if inode == (stat.dev, stat.attr.ino) {
            return Ok(false);
        }
    }
}

/// Exclusive locks on an upper directory and on its work directory, given back when the descriptors close.
#[derive(Debug)]
pub struct Locks {
    _upper: OwnedFd,
    work: OwnedFd,
}

impl Locks {
    /// Takes both, given in this order, for this process alone. Those of a union that has announced its end are waited for, up to
    /// ten seconds.
    ///
    /// # Errors
    /// [`Error::Refused`] where another mount has one of them.
    pub fn take(paths: [&Path; 2], dirs: [&Arc<OwnedFd>; 2]) -> Result<Self> {
        Self::attempt(paths, dirs)?.map_err(|taken| taken.refusal())
    }

    /// As [`Locks::take`], but `None` where another mount has one of them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn take_if_free(paths: [&Path; 2], dirs: [&Arc<OwnedFd>; 2]) -> Result<Option<Self>> {
        Self::attempt(paths, dirs).map(|taken| taken.ok())
    }

    fn attempt<'p>(paths: [&'p Path; 2], dirs: [&Arc<OwnedFd>; 2]) -> Result<Result<Self, Taken<'p>>> {
        let upper = match lock(paths[0], dirs[0], dirs[1])? {
            Ok(upper) => upper,
            Err(taken) => return Ok(Err(taken)),
        };
        Ok(lock(paths[1], dirs[1], dirs[1])?.map(|work| Self { _upper: upper, work }))
    }

    /// Tells others that the union is not mounted any more and lets go of both soon. Until then nobody else can take them: the lock
    /// of the work directory becomes a shared one, which none but an ending union has.
    pub fn announce_end(&self) {
        if let Err(e) = lock::shared_if_free(&self.work) {
            tracing::debug!("who waits for the upper may be refused: {e}");
        }
    }
}

/// A directory that somebody else has.
struct Taken<'p> {
    path: &'p Path,
    /// By a union that has announced its end.
    by_ending: bool,
}

impl Taken<'_> {
    fn refusal(self) -> Error {
        let why = if self.by_ending {
            "in use by a union that was unmounted, and is still writing out; try again when that is done"
        } else {
            "in use by another mount; unmount that one first (findmnt -t fuse.haosfs lists them)"
        };
        Error::Refused(format!("{}: {why}", self.path.display()))
    }
}

fn lock<'p>(path: &'p Path, dir: &Arc<OwnedFd>, work_dir: &Arc<OwnedFd>) -> Result<Result<OwnedFd, Taken<'p>>> {
    let open = |dir: &Arc<OwnedFd>| {
        let opened = Spot::Fd(Arc::clone(dir)).open(OFlags::RDONLY | OFlags::DIRECTORY);
        opened.map_err(|e| Error::sys("open", path, e))
    };
    let fd = open(dir)?;
    let start = Instant::now();
    loop {
        match lock::exclusive(&fd) {
            Ok(()) => return Ok(Ok(fd)),
            Err(Errno::EAGAIN) => {}
            Err(e) => return Err(Error::sys("lock", path, e)),
        }
        let by_ending = is_ending(&open(work_dir)?);
        if start.elapsed() >= if by_ending { PATIENCE_WITH_ENDING } else { PATIENCE } {
            return Ok(Err(Taken { path, by_ending }));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether whoever has this work directory has announced his end: a shared lock can be had, and an exclusive one cannot. A work
/// directory that nobody has says nothing.
fn is_ending(work: &OwnedFd) -> bool {
    lock::shared_if_free(work).is_ok() && lock::exclusive(work) == Err(Errno::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Pair {
        paths: [std::path::PathBuf; 2],
        _dir: TempDir,
    }

    impl Pair {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = ["upper", "work"].map(|name| dir.path().join(name));
            paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
            Self { paths, _dir: dir }
        }

        /// With how long it took.
        fn take(&self) -> (Result<Locks>, Duration) {
            let [upper, work] = &self.paths;
            let start = Instant::now();
            let dirs = [open("upper", upper).unwrap(), open("work", work).unwrap()];
            (Locks::take([upper, work], [&dirs[0], &dirs[1]]), start.elapsed())
        }
    }

    #[test]
    fn a_directory_that_folds_case_is_named() {
        let refused = folded("upper", Path::new("/data/upper"));
        assert_eq!(refused.errno(), Errno::EINVAL);
        let words = refused.to_string();
        assert!(words.starts_with("/data/upper: the upper directory") && words.contains("`chattr -F /data/upper`"), "{words}");
    }

    #[test]
    fn a_living_union_is_not_waited_for() {
        let pair = Pair::new();
        let held = pair.take().0.unwrap();
        let (refused, after) = pair.take();
        assert!(refused.unwrap_err().to_string().contains("in use by another mount"));
        assert!(after < PATIENCE_WITH_ENDING / 2, "{after:?}");
        drop(held);
        pair.take().0.unwrap();
    }

    #[test]
    fn an_ending_union_is_waited_for() {
        let pair = Pair::new();
        let held = pair.take().0.unwrap();
        held.announce_end();
        let ending = std::thread::spawn(move || {
            std::thread::sleep(PATIENCE * 2);
            drop(held);
        });
        let (taken, after) = pair.take();
        let _locks = taken.unwrap();
        assert!(after > PATIENCE && after < PATIENCE_WITH_ENDING, "{after:?}");
        ending.join().unwrap();
    }

    /// Another upper with the same work directory, and the same upper with another work directory.
    #[test]
    fn nothing_is_shared_with_an_ending_union() {
        let (pair, other) = (Pair::new(), Pair::new());
        let held = pair.take().0.unwrap();
        held.announce_end();
        for path in &pair.paths {
            assert_eq!(lock::exclusive(std::fs::File::open(path).unwrap()), Err(Errno::EAGAIN));
        }
        let mixed = Pair { paths: [pair.paths[0].clone(), other.paths[1].clone()], _dir: tempfile::tempdir().unwrap() };
        let (refused, after) = mixed.take();
        assert!(refused.is_err() && after < PATIENCE_WITH_ENDING / 2, "{after:?}");
    }
}
