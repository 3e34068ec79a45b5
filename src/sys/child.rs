//! Forking, by processes with one thread.
#![allow(unsafe_code)]

use std::io;

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

impl Child {
    /// Waits until it has ended.
    ///
    /// # Errors
    /// `ECHILD` where it was waited for by somebody else.
    pub fn wait(self) -> io::Result<()> {
        while let Err(e) = waitpid(Some(self.0), WaitOptions::empty()) {
            if e != rustix::io::Errno::INTR {
                return Err(e.into());
            }
        }
        Ok(())
    }

    /// Ends it, whatever it does.
    ///
    /// # Errors
    /// As for [`Child::wait`].
    pub fn end(self) -> io::Result<()> {
        // One that has ended stays until it is waited for.
        kill_process(self.0, Signal::KILL)?;
        self.wait()
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
