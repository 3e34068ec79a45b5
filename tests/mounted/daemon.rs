//! The process behind a mount: what it holds, and its end when it does not answer.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

/// The haosfs that serves a mountpoint: mountpoints are unique, so an argument of that name belongs to it alone.
pub fn daemon(mountpoint: &Path) -> Option<Pid> {
    let serves = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == mountpoint.as_os_str().as_bytes())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(serves).find_map(Pid::from_raw)
}

/// Files and directories without a name that it has open.
pub fn deleted_files(daemon: Pid) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.as_raw_nonzero())).unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.as_os_str().as_bytes().ends_with(b" (deleted)")).collect()
}

/// Lets the kernel forget the names and inodes that nobody uses.
pub fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// Runs `work`, which uses the mount. When it takes longer than `limit` the daemon is killed, so that every request ends
/// and the test fails rather than hangs.
pub fn within<R: Send>(limit: Duration, mountpoint: &Path, work: impl FnOnce() -> R + Send) -> R {
    let (done, ended) = channel::<()>();
    let (outcome, is_timely) = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let _done = done;
            work()
        });
        let is_timely = ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout);
        if !is_timely {
            let killed = daemon(mountpoint).map(|pid| kill_process(pid, Signal::KILL));
            let aborted = unmount(mountpoint, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW);
            eprintln!("no end after {limit:?}: kill {killed:?}, unmount {aborted:?}");
        }
        (worker.join(), is_timely)
    });
    assert!(is_timely, "requests hung for {limit:?}");
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
