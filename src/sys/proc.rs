//! /proc, which the daemon of a root file system must reach although an initramfs moves it away.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// One process; no other has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// When it was started, since the machine was, to a hundredth of a second.
    pub started: Duration,
}

/// The time since the machine was started, sleep included, as [`Process::started`] counts it.
#[must_use]
pub fn since_start() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// The process that a thread is of (`Tgid` of proc_pid_status(5)); `None` where that is not seen from here, or is the kernel's.
#[must_use]
pub fn process_of(thread: u32) -> Option<Process> {
    let status = std::fs::read(path(&format!("{thread}/status"))).ok()?;
    let value = |key: &[u8]| status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(key));
    // Only programs have memory.
    value(b"VmSize:")?;
    let id = number(value(b"Tgid:")?)?;
    let stat = std::fs::read(path(&format!("{id}/stat"))).ok()?;
    // The name of the program, which may be anything, ends with the last bracket; `starttime` is the 20th behind it.
    let behind = stat.iter().rposition(|&b| b == b')')?;
    let ticks = stat.get(behind + 1..)?.split(|&b| b == b' ').filter(|field| !field.is_empty()).nth(19)?;
    let hundredths = number::<u64>(ticks)?.saturating_mul(100) / rustix::param::clock_ticks_per_second().max(1);
    Some(Process { id, started: Duration::from_millis(hundredths.saturating_mul(10)) })
}

/// The real and the effective user of a process (`Uid` of proc_pid_status(5)). The owner of its directory is root where others must not
/// look into it, whoever it is.
#[must_use]
pub fn users(pid: i32) -> Option<[u32; 2]> {
    let status = std::fs::read(path(&format!("{pid}/status"))).ok()?;
    let users = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let mut users = users.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).map(number);
    Some([users.next()??, users.next()??])
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_of_their_process() {
        let thread = || u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let own = process_of(thread()).unwrap();
        assert_eq!(own.id, std::process::id());
        let other = std::thread::scope(|scope| scope.spawn(|| process_of(thread())).join().unwrap());
        assert_eq!(other, Some(own));
        // It may be as new as the clock tells.
        let now = since_start();
        assert!(own.started <= now && own.started + Duration::from_secs(3600) > now, "{own:?} {now:?}");
        assert_eq!([0, u32::MAX].map(process_of), [None; 2]);
        let own_users = [rustix::process::getuid(), rustix::process::geteuid()].map(rustix::process::Uid::as_raw);
        assert_eq!([i32::try_from(own.id).unwrap(), -1].map(users), [Some(own_users), None]);
    }
}
