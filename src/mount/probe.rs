//! Facts about this machine and this process that decide how to mount.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::sys::{fuse_mount, namespace};

/// What opening /dev/fuse gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFact {
    /// It opens for reading and writing.
    Usable,
    /// No such file, or no driver behind it.
    Missing,
    /// `EACCES` or `EPERM`.
    Denied,
}

/// What decides between the ways to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Effective user id.
    pub euid: u32,
    /// CAP_SYS_ADMIN in this user namespace.
    pub may_administer: bool,
    /// This is the machine's first user namespace.
    pub initial_user_namespace: bool,
    /// /dev/fuse.
    pub device: DeviceFact,
    /// The set-user-id mount helper of the fuse3 package.
    pub fusermount: Option<PathBuf>,
}

/// Looks at this machine.
#[must_use]
pub fn probe() -> Facts {
    let device = match fuse_mount::open_device() {
        Ok(_) => DeviceFact::Usable,
        Err(Errno::ACCESS | Errno::PERM) => DeviceFact::Denied,
        Err(_) => DeviceFact::Missing,
    };
    Facts {
        euid: rustix::process::geteuid().as_raw(),
        may_administer: fuse_mount::may_administer(),
        initial_user_namespace: namespace::in_initial_user_namespace(),
        device,
        fusermount: find_fusermount(std::env::var_os("PATH").as_deref()),
    }
}

/// The first `fusermount3` on the search path, else where distributions put it.
fn find_fusermount(search: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let directories = std::env::split_paths(search.unwrap_or_default());
    let usual = ["/usr/bin", "/bin", "/usr/local/bin"].map(PathBuf::from);
    directories.chain(usual).filter(|d| d.is_absolute()).map(|d| d.join("fusermount3")).find(|p| is_program(p))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
