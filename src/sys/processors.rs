//! Which processors there are, and on which of them threads run (sched_setaffinity(2), proc_pid_stat(5)).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::proc;

/// The numbers of all that run, as the kernel writes them: "0-3,8".
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// More than a line of proc_pid_stat(5) can have.
const LONGEST: u64 = 4096;
/// Of the fields after the name, which is the second of all, the one with the processor: the 39th of all.
const PROCESSOR: usize = 36;

/// True where the machine has exactly two processors, and this process may use both all the time.
#[must_use]
pub fn are_two() -> bool {
    // Also asks control groups how much time of them may be used.
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    usable == 2 && fs::read(ONLINE).is_ok_and(|list| list.trim_ascii() == b"0-1")
}

/// The other one of two.
#[must_use]
pub const fn other(processor: usize) -> usize {
    1 - (processor & 1)
}

/// Has this thread go to a processor. It may be taken to another one at any time.
///
/// # Errors
/// `EINVAL` where it may not use that one.
pub fn go_to(processor: usize) -> io::Result<()> {
    if sched_getcpu() == processor {
        return Ok(());
    }
    let allowed = sched_getaffinity(None)?;
    if processor >= CpuSet::MAX_CPU || !allowed.is_set(processor) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut one = CpuSet::new();
    one.set(processor);
    sched_setaffinity(None, &one)?;
    // Threads that this one starts would have to stay there, too.
    Ok(sched_setaffinity(None, &allowed)?)
}

/// From now on this thread gives way to everybody else's.
///
/// # Errors
/// None are known.
pub fn give_way() -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, 19)?)
}

/// Tells where threads run, those of other processes as well.
#[derive(Debug)]
pub struct Threads(OwnedFd);

impl Threads {
    /// Opens /proc, so that no path is used later.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(proc::path("."), flags, Mode::empty())?))
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
        let allowed: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&n| before.is_set(n)).collect();
        for &processor in &allowed {
            // It may be taken away again before it can be asked.
            let is_there = (0..1000).any(|_| {
                go_to(processor).unwrap();
                threads.processor_of(me).unwrap() == processor
            });
            assert!(is_there, "never on {processor} of {allowed:?}");
        }
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        assert_eq!(go_to(CpuSet::MAX_CPU).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(threads.processor_of(u32::MAX).unwrap_err().raw_os_error(), Some(libc::ENOENT));
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
