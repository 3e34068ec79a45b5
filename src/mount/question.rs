//! The question whether overlayfs has a directory, put to the kernel itself.
//!
//! It is asked for an overlay with the directory as its lower and an upper of no account: with index=on it says `EBUSY` of a lower in use
//! (fs/overlayfs/super.c, `ovl_get_layers`), and makes an index where that was not switched off on the way, as for lowers without file
//! handles or UUID. It says so as well where what is around the lower is in use, and before Linux 6.15 it makes none with such an upper.
//! Then it is asked for one that it cannot make, with the directory as its upper and the work directory on another file system: it says
//! `EBUSY` before it says `EINVAL` for that, the latter in its log, too. A directory that is the work directory of an overlay is in use in
//! the same way (`ovl_inuse_trylock`). Nothing is changed by either. Where overlays cannot be asked for, the answer is another one.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::Mode;

use super::data::Attached;
use super::kernel_fs::on;
use super::mountinfo;
use super::stage::Stage;
use crate::error::{Errno, Result};
use crate::ovl;
use crate::sys::fs_context::FsContext;
use crate::sys::fuse_mount::Attributes;
use crate::sys::kernel_mount;
use crate::sys::release::release;
use crate::sys::spot::Spot;

/// What is needed to ask, made where it is needed.
#[derive(Debug)]
pub struct Question<'a> {
    /// The data partition that the directories are on, where they are on one.
    data: Option<&'a Attached>,
    /// A directory of another file system, where nothing shows but what was asked with.
    empty: Option<OwnedFd>,
    /// So often it was asked with an upper there, each time another one; `None` where that tells nothing.
    asked: Option<u32>,
    /// Whether overlayfs takes directories of the mount that all are on.
    takes: Option<bool>,
    stage: Option<Stage>,
    /// Where the data partition stands on the stage.
    again: Option<PathBuf>,
}

impl<'a> Question<'a> {
    /// About directories that are on this data partition, or on none.
    #[must_use]
    pub const fn new(data: Option<&'a Attached>) -> Self {
        Self { data, empty: None, asked: Some(0), takes: None, stage: None, again: None }
    }

    /// Whether an overlay has it, as far as the kernel tells.
    pub fn is_in_use(&mut self, directory: &Arc<OwnedFd>) -> bool {
        match self.asked.filter(|_| makes_with_detached()).map(|before| self.ask_for_a_lower(directory, before)) {
            Some(Ok(true)) => return false,
            Some(Err(Errno::EBUSY)) => {}
            _ => self.asked = None,
        }
        self.is_in_use_as_upper(directory)
    }

    /// True where the kernel would have said `EBUSY`.
    fn ask_for_a_lower(&mut self, directory: &Arc<OwnedFd>, before: u32) -> Result<bool, Errno> {
        self.asked = before.checked_add(1);
        let [upper, work] = ["upper", "work"].map(|name| format!("{name}{before}"));
        let home = self.empty()?;
        for name in [&upper, &work] {
            rustix::fs::mkdirat(home, name, Mode::RWXU)?;
        }
        let within = path_of(home);
        let context = FsContext::open("overlay")?;
        let layers = [("lowerdir", path_of(&**directory)), ("upperdir", within.join(upper)), ("workdir", within.join(&work))];
        for (name, path) in layers {
            context.string(name, path.as_os_str())?;
        }
        context.string("index", "on".as_ref())?;
        let _made = context.mount(Attributes::default())?;
        Ok(fs::exists(within.join(work).join(ovl::INDEX))?)
    }

    fn is_in_use_as_upper(&mut self, directory: &Arc<OwnedFd>) -> bool {
        match self.ask(directory) {
            Ok(()) | Err(Errno::ENODEV) => false,
            Err(Errno::EBUSY) => true,
            Err(Errno::ENOSYS | Errno::EPERM) => self.is_in_use_by_path(directory),
            Err(_) if self.takes(directory) => false,
            Err(_) => self.is_in_use_by_path(directory),
        }
    }

    fn ask(&mut self, upper: &Arc<OwnedFd>) -> Result<(), Errno> {
        let empty = path_of(self.empty()?);
        let context = FsContext::open("overlay")?;
        for (name, path) in [("lowerdir", &empty), ("upperdir", &path_of(&**upper)), ("workdir", &empty)] {
            context.string(name, path.as_os_str())?;
        }
        context.string("index", "on".as_ref())?;
        context.mount(Attributes::default()).map(drop)
    }

    /// Whether overlayfs takes the directory as a layer, so that `EINVAL` was not said of that. As a lower it is only read, if at all.
    fn takes(&mut self, directory: &Arc<OwnedFd>) -> bool {
        let known = self.takes.unwrap_or_else(|| is_in_sight(directory) || self.joins(directory).is_ok());
        *self.takes.insert(known)
    }

    fn joins(&mut self, directory: &Arc<OwnedFd>) -> Result<OwnedFd, Errno> {
        let mut lowers = path_of(&**directory).into_os_string();
        lowers.push(":");
        lowers.push(path_of(self.empty()?));
        let context = FsContext::open("overlay")?;
        context.string("lowerdir", &lowers)?;
        context.string("index", "off".as_ref())?;
        context.mount(Attributes { read_only: true, ..Attributes::default() })
    }

    fn empty(&mut self) -> Result<&OwnedFd, Errno> {
        let known = self.empty.take();
        Ok(self.empty.insert(known.map_or_else(|| FsContext::open("tmpfs")?.mount(Attributes::default()), Ok)?))
    }

    /// The same by mount(2), and by a path in sight: for kernels without fsopen(2), and those before Linux 6.15, which take no directory
    /// of a mount that is in no mount namespace.
    fn is_in_use_by_path(&mut self, directory: &Arc<OwnedFd>) -> bool {
        if !rustix::process::geteuid().is_root() {
            return false;
        }
        let answer = self.ask_by_path(directory);
        if !matches!(answer, Ok(Err(Errno::EBUSY | Errno::EINVAL))) {
            tracing::debug!("whether an overlay has the upper cannot be asked: {answer:?}");
        }
        matches!(answer, Ok(Err(Errno::EBUSY)))
    }

    fn ask_by_path(&mut self, directory: &Arc<OwnedFd>) -> Result<Result<(), Errno>> {
        let upper = if is_in_sight(directory) { path_of(&**directory) } else { self.in_sight(directory)? };
        let stage = on(&mut self.stage)?;
        let (empty, place) = (stage.place()?, stage.place()?);
        let mut options = OsString::from("index=on");
        for (name, path) in [(",lowerdir=", &empty), (",upperdir=", &upper), (",workdir=", &empty)] {
            options.push(name);
            options.push(path);
        }
        Ok(kernel_mount::mount("overlay", "haosfs".as_ref(), &place, Attributes::default(), &options).map(drop))
    }

    /// The path of a directory of the data partition, which is mounted once more for that: a mount that stands nowhere can be given a
    /// place once, and what was in sight cannot get another.
    fn in_sight(&mut self, directory: &Arc<OwnedFd>) -> Result<PathBuf, Errno> {
        let again = match (&self.again, self.data) {
            (Some(again), _) => again.clone(),
            (None, Some(data)) => {
                let stage = on(&mut self.stage).map_err(|e| e.errno())?;
                self.again.insert(data.stand_again(stage).map_err(|e| e.errno())?.ok_or(Errno::ENODEV)?).clone()
            }
            (None, None) => return Err(Errno::ENODEV),
        };
        // The kernel shows a path that begins at the root of the mount.
        let shown = fs::read_link(path_of(&**directory))?;
        let path = again.join(shown.strip_prefix("/").map_err(|_| Errno::ENOENT)?);
        let (found, known) = (fs::metadata(&path)?, Spot::Fd(Arc::clone(directory)).stat()?);
        if (found.dev(), found.ino()) == (known.dev, known.attr.ino) { Ok(path) } else { Err(Errno::ESTALE) }
    }
}

/// Whether overlayfs takes layers of mounts that are in no mount namespace (fs/namespace.c, `clone_private_mount`): since Linux 6.15.
fn makes_with_detached() -> bool {
    let release = release();
    let mut numbers = release.to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 15))
}

fn path_of(fd: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// Whether a mount is in a mount namespace of which this process sees all mounts.
fn is_in_sight(directory: &Arc<OwnedFd>) -> bool {
    let stat = Spot::Fd(Arc::clone(directory)).stat();
    let all = mountinfo::all().unwrap_or_default();
    stat.is_ok_and(|stat| all.iter().any(|mount| u64::from(mount.id) == stat.mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detached(fs_type: &str) -> Arc<OwnedFd> {
        Arc::new(FsContext::open(fs_type).unwrap().mount(Attributes::default()).unwrap())
    }

    /// The other way would have the kernel log an error at each mount.
    #[test]
    fn the_kernel_is_asked_for_what_it_can_make() {
        const TEST: &str = "the_kernel_is_asked_for_what_it_can_make";
        if !rustix::process::geteuid().is_root() || !makes_with_detached() {
            println!("SKIPPED {TEST}: needs root and Linux 6.15");
            assert!(std::env::var_os("HAOSFS_NO_SKIP").is_none_or(|v| v != "1"), "{TEST} was skipped: needs root and Linux 6.15");
            return;
        }
        let (mut question, directory) = (Question::new(None), detached("tmpfs"));
        assert_eq!([0, 1].map(|before| question.ask_for_a_lower(&directory, before)), [Ok(true); 2]);
        assert_eq!(fs::read_dir(path_of(&*directory)).unwrap().count(), 0, "nothing is changed");
        assert!(!question.is_in_use(&directory) && question.asked == Some(3));
        // One without file handles.
        let directory = detached("ramfs");
        assert_eq!(question.ask_for_a_lower(&directory, 3), Ok(false));
        assert!(!question.is_in_use(&directory) && question.asked.is_none());
    }
}
