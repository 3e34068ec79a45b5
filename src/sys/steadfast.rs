//! What keeps the process of a root file system alive while everything else is being ended: its name, its memory, its rank.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mm::{MlockAllFlags, mlockall};

/// The first byte of `argv[0]` by which systemd knows processes that serve the root file system, and ends them last
/// (<https://systemd.io/ROOT_STORAGE_DAEMONS>). It believes only processes of root.
const MARK: u8 = b'@';

/// The lowest value of oom_score_adj (proc_pid_oom_score_adj(5)): the process is never chosen.
const NEVER: &str = "-1000";

/// Whether this process bears the mark.
#[must_use]
pub fn is_marked() -> bool {
    std::env::args_os().next().is_some_and(|name| name.as_bytes().first() == Some(&MARK))
}

/// Executes the running program again, with the same arguments but for its name, which gets the mark: `@mount.haosfs` for
/// `/sbin/mount.haosfs`. Returns only where that fails. Call it before anything is opened or started.
#[must_use]
pub fn mark() -> io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "haosfs".into());
    let name = Path::new(&name).file_name().unwrap_or(OsStr::new("haosfs"));
    let mut marked = OsString::from("@");
    marked.push(name);
    Command::new("/proc/self/exe").arg0(marked).args(arguments).exec()
}

/// Keeps the memory of this process from being paged out: all that it has now, and what it will use later from the moment it uses
/// it. Maps of images are exempt (`image::map`), else the caches' bounds would mean nothing.
///
/// # Errors
/// `EPERM`, `ENOMEM` without `CAP_IPC_LOCK` and where the limit is too low.
pub fn lock_memory() -> io::Result<()> {
    mlockall(MlockAllFlags::CURRENT)?;
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

/// Exempts this process from being killed where memory runs out.
///
/// # Errors
/// `EACCES` without `CAP_SYS_RESOURCE`.
pub fn spare_when_memory_runs_out() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", NEVER)
}

/// Lets this thread, and every thread it starts, get memory without waiting for file systems, of which its own could be one
/// (`PR_SET_IO_FLUSHER`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_RESOURCE`, `EINVAL` before Linux 5.6.
pub fn never_wait_for_file_systems() -> io::Result<()> {
    Ok(rustix::process::configure_io_flusher_behavior(true)?)
}
