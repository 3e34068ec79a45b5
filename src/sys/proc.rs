//! /proc, which the daemon of a root file system must reach although an initramfs moves it away.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// Where it stands as long as it was not taken.
const PROC: &str = "/proc";

/// Whether it is the working directory of this process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes /proc along, wherever it is moved: it becomes the working directory, as a mount of its own, so that it can be unmounted by
/// others. Call it before any thread is started, and use no other relative path afterwards.
///
/// # Errors
/// The kernel's answer; then it is found by its path.
pub fn take() -> io::Result<()> {
    let own = open_tree(CWD, PROC, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    let own = match own {
        // Before Linux 5.2.
        Err(Errno::NOSYS | Errno::PERM) => {
            rustix::fs::open(PROC, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?
        }
        own => own?,
    };
    rustix::process::fchdir(&own)?;
    // Closed, it would be unmounted.
    std::mem::forget(own);
    TAKEN.store(true, Ordering::Release);
    Ok(())
}

/// What paths in /proc begin with.
#[must_use]
pub fn prefix() -> &'static str {
    if TAKEN.load(Ordering::Acquire) { "" } else { "/proc/" }
}

/// The path of something in /proc.
#[must_use]
pub fn path(rest: &str) -> PathBuf {
    format!("{}{rest}", prefix()).into()
}

/// The process that a thread is of (`Tgid` of proc_pid_status(5)); `None` where that is not seen from here.
#[must_use]
pub fn process_of(thread: u32) -> Option<u32> {
    let status = std::fs::read(path(&format!("{thread}/status"))).ok()?;
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Tgid:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}
