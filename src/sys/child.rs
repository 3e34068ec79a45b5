//! Forking, by processes with one thread.
#![allow(unsafe_code)]

use std::io;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Which process one is in after a fork.
pub enum Forked {
    /// The one that forked.
    Parent(Child),
    /// The new one.
    Child,
}

/// A child that has not been waited for.
#[derive(Debug)]
pub struct Child(Pid);

/// fork(2) by a process with one thread, whose child may do whatever it could do itself.
///
/// # Errors
/// `EAGAIN` or `ENOMEM` from the kernel; [`io::ErrorKind::Other`] when other threads run, since they would not live on in the child,
/// but what they had locked would stay locked.
pub fn fork_alone() -> io::Result<Forked> {
    if thread_count() != 1 {
        return Err(io::Error::other("cannot fork after threads were started"));
    }
    // SAFETY: this is the only thread, so the child's memory is consistent, locks and allocator included.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child).map_or(Forked::Child, |child| Forked::Parent(Child(child)))),
    }
}

/// Does some work on a stack of so many bytes, of which the kernel gives what is used. Afterwards there are as many threads as before, so
/// that a process that could fork can.
///
/// # Errors
/// `EAGAIN` or `ENOMEM` from the kernel.
pub fn on_large_stack<R: Send>(bytes: usize, work: impl FnOnce() -> R + Send) -> io::Result<R> {
    let before = thread_count();
    let done = thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(bytes).spawn_scoped(scope, work)?;
        Ok(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    // A thread that has been waited for has done all but leave.
    for _ in 0..MOST_LOOKS {
        if thread_count() <= before {
            break;
        }
        thread::sleep(LOOK);
    }
    done
}

/// How often, and how long apart, it is looked whether a thread has left.
const MOST_LOOKS: usize = 1000;
const LOOK: Duration = Duration::from_millis(1);

impl Child {
    /// Waits until it has ended.
    ///
    /// # Errors
    /// Those of waitpid(2). Not `ECHILD`: where whoever started this process ignored SIGCHLD, so does this, and the kernel itself
    /// waits for its children.
    pub fn wait(self) -> io::Result<()> {
        loop {
            match waitpid(Some(self.0), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                Ok(_) | Err(Errno::CHILD) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Ends it, whatever it does.
    ///
    /// # Errors
    /// As for [`Child::wait`].
    pub fn end(self) -> io::Result<()> {
        // Where it has been waited for, its number may be another's.
        if matches!(waitpid(Some(self.0), WaitOptions::NOHANG), Ok(None)) {
            kill_process(self.0, Signal::KILL)?;
            return self.wait();
        }
        Ok(())
    }
}

/// Ends this process at once, without what a parent's copy of it may still have to do.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) runs no handlers and does not return; buffers that belong to the parent are not flushed twice.
    unsafe { libc::_exit(code) }
}

/// Without /proc the caller is believed.
fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_forks_beside_other_threads() {
        // The harness is one, this test another.
        assert!(fork_alone().is_err_and(|e| e.kind() == io::ErrorKind::Other));
    }

    #[test]
    fn a_child_is_waited_for_or_ended() {
        #[expect(clippy::zombie_processes, reason = "that is what is tested")]
        let child = |seconds: &str| {
            let child = std::process::Command::new("sleep").arg(seconds).spawn().unwrap();
            Child(Pid::from_child(&child))
        };
        child("0").wait().unwrap();
        let long = child("1000");
        let pid = long.0;
        long.end().unwrap();
        assert_eq!(waitpid(Some(pid), WaitOptions::NOHANG).unwrap_err(), Errno::CHILD);
        // Already waited for, and the number free.
        Child(pid).end().unwrap();
        Child(pid).wait().unwrap();
    }
}
