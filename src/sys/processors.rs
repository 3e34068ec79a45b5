//! Which processors there are, and on which of them threads run (sched_setaffinity(2), proc_pid_stat(5)).
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::proc;

/// The numbers of all that run, as the kernel writes them: "0-3,8".
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// Those that are one core with the first.
const SIBLINGS: &str = "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
/// More than a line of proc_pid_stat(5) can have.
const LONGEST: u64 = 4096;
/// Of the fields after the name, which is the second of all, the one with the processor: the 39th of all.
const PROCESSOR: usize = 36;

/// True where the machine has exactly two processors, which are no halves of one, and this process may use both all the time.
#[must_use]
pub fn are_two() -> bool {
    // Also asks control groups how much time of them may be used.
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let says = |path: &str, what: &[u8]| fs::read(path).is_ok_and(|list| list.trim_ascii() == what);
    usable == 2 && says(ONLINE, b"0-1") && says(SIBLINGS, b"0")
}

/// The other one of two.
#[must_use]
pub const fn other(processor: usize) -> usize {
    1 - (processor & 1)
}

/// Has this thread go to one of two processors. It may be taken to the other one at any time.
///
/// # Errors
/// `EINVAL` where it may not use both, or others, too.
pub fn go_to(processor: usize) -> io::Result<()> {
    if sched_getcpu() == processor {
        return Ok(());
    }
    let allowed = sched_getaffinity(None)?;
    if processor > 1 || allowed.count() != 2 || !allowed.is_set(0) || !allowed.is_set(1) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut one = CpuSet::new();
    one.set(processor);
    sched_setaffinity(None, &one)?;
    // Threads that this one starts would have to stay there, too. Not only those of just now: more may come.
    let all = all();
    Ok(sched_setaffinity(None, &all).or_else(|_| sched_setaffinity(None, &all))?)
}

fn all() -> CpuSet {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|n| all.set(n));
    all
}

/// From now on this thread gives way to everybody else's.
///
/// # Errors
/// `EPERM` where it is a real-time thread, which gives way to none.
pub fn give_way() -> io::Result<()> {
    // SAFETY: sched_getscheduler(2) reads no memory of ours.
    match unsafe { libc::sched_getscheduler(0) } {
        libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE => Ok(rustix::process::setpriority_process(None, 19)?),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Tells where threads run, those of other processes as well.
#[derive(Debug)]
pub struct Threads(OwnedFd);

impl AsFd for Threads {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Threads {
    /// Opens /proc, so that no path is used later.
    ///
    /// # Errors
    /// The kernel's answer; `ENOENT` where it is not the one of this process' namespace.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open(proc::path("."), flags, Mode::empty())?;
        let me = rustix::fs::readlinkat(&proc, "self", Vec::new())?;
        // Of another namespace it would tell of others.
        if me.to_bytes() != std::process::id().to_string().as_bytes() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self(proc))
    }

    /// The processor on which the thread with this number runs, or ran last.
    ///
    /// # Errors
    /// `ENOENT` where it has ended, or is hidden from this user; [`io::ErrorKind::InvalidData`] where the answer is none.
    pub fn processor_of(&self, thread: u32) -> io::Result<usize> {
        let stat = openat(&self.0, format!("{thread}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut line = Vec::with_capacity(512);
        File::from(stat).take(LONGEST).read_to_end(&mut line)?;
        processor(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// As a line of proc_pid_stat(5) says. The name stands in brackets, and may be anything.
fn processor(line: &[u8]) -> Option<usize> {
    let end = line.iter().rposition(|&byte| byte == b')')?;
    let mut fields = line.get(end + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    std::str::from_utf8(fields.nth(PROCESSOR)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_where_it_went_and_may_go_on() {
        let threads = Threads::open().unwrap();
        let me = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let before = sched_getaffinity(None).unwrap();
        let may = before.count() == 2 && before.is_set(0) && before.is_set(1);
        for processor in [0, 1, 0] {
            // It may be taken away again before it can be asked.
            let is_there = (0..1000).any(|_| go_to(processor).is_ok() && threads.processor_of(me).unwrap() == processor);
            assert!(is_there || !may, "never on {processor}");
        }
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        assert_eq!(go_to(CpuSet::MAX_CPU).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(threads.processor_of(u32::MAX).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn who_is_bound_to_one_stays() {
        std::thread::spawn(|| {
            let mut one = CpuSet::new();
            let here = sched_getcpu();
            one.set(here);
            sched_setaffinity(None, &one).unwrap();
            assert!(go_to(other(here)).is_err());
            assert_eq!(sched_getaffinity(None).unwrap(), one);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn names_cannot_lie() {
        let fields = |name: &str, processor: &str| {
            let between = ["7"; PROCESSOR].join(" ");
            format!("12 ({name}) {between} {processor} 0 0\n").into_bytes()
        };
        assert_eq!(processor(&fields("cat", "1")), Some(1));
        assert_eq!(processor(&fields("a) 5 (b 5) 5", "11")), Some(11));
        assert_eq!(processor(&fields("cat", "x")), None);
        assert_eq!(processor(&fields("cat", "-1")), None);
        assert_eq!(processor(b"12 (cat) 7 7 7"), None);
        assert_eq!(processor(b"12 cat"), None);
        assert_eq!(processor(b""), None);
    }

    #[test]
    fn of_two_there_is_one_other() {
        assert_eq!([0, 1].map(other), [1, 0]);
    }
}
