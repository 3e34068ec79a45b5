//! The signals that ask a daemon to end, taken synchronously by one thread instead of a handler.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initialises the whole set that it is given.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// SIGTERM, SIGINT and SIGHUP, blocked in this thread and in every thread started after it.
pub struct Termination {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

/// The signals of the set, with their names.
const SIGNALS: [(i32, &str); 3] = [(libc::SIGTERM, "SIGTERM"), (libc::SIGINT, "SIGINT"), (libc::SIGHUP, "SIGHUP")];

impl Termination {
    /// Blocks the signals; call it before any thread is started.
    ///
    /// # Errors
    /// What pthread_sigmask(3) answers.
    pub fn block() -> io::Result<Self> {
        let (mut set, mut before) = (empty(), empty());
        for (signal, _) in SIGNALS {
            // SAFETY: `set` is an initialised set and the signal numbers are valid.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: both are initialised; the old mask is written to `before`.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) } {
            0 => Ok(Self { set, before }),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Has this thread take signals as before again. One that has arrived and was not waited for has its effect at once.
    ///
    /// # Errors
    /// What pthread_sigmask(3) answers.
    pub fn lift(self) -> io::Result<()> {
        // SAFETY: `before` was filled by the kernel; the mask that it replaces is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Waits for one of the signals and returns its name.
    ///
    /// # Errors
    /// What sigwait(3) answers.
    pub fn wait(&self) -> io::Result<&'static str> {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call; the set is initialised.
        match unsafe { libc::sigwait(&raw const self.set, &raw mut signal) } {
            0 => Ok(SIGNALS.iter().find(|(number, _)| *number == signal).map_or("signal", |(_, name)| name)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// A descriptor that can be read when one of the signals has arrived that are not ignored (signalfd(2)).
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        let mut heeded = self.set;
        for (signal, _) in SIGNALS.iter().filter(|(signal, _)| is_ignored(*signal)) {
            // SAFETY: the set is initialised, and the number valid.
            unsafe { libc::sigdelset(&raw mut heeded, *signal) };
        }
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const heeded, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// True when one of the signals has arrived and was not yet waited for, unless it would have no effect: what is blocked arrives also
    /// where it is ignored, as SIGHUP is below nohup(1).
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let mut pending = MaybeUninit::uninit();
        // SAFETY: sigpending(2) fills the set when it returns 0, and only then is it read.
        let pending = unsafe {
            if libc::sigpending(pending.as_mut_ptr()) != 0 {
                return false;
            }
            pending.assume_init()
        };
        // SAFETY: `pending` was filled by the kernel and the numbers are valid.
        let arrived = |number: i32| unsafe { libc::sigismember(&raw const pending, number) } == 1;
        SIGNALS.iter().any(|(number, _)| arrived(*number) && !is_ignored(*number))
    }
}

fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the number is valid; nothing is changed, and `action` is read only where the call has filled it.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0 && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// The program that is started can be ended by the signals that this process has blocked, which it would inherit.
pub fn unblock_in(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only sigemptyset(3) and sigprocmask(2) are called, which are safe there (signal-safety(7)), on a
    // set of this function's own.
    unsafe {
        command.pre_exec(|| {
            let mut none = MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            match libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })
    }
}

/// A write beyond the limit of file sizes is then `EFBIG` instead of the end of the process (setrlimit(2)). For a daemon that may
/// not raise that limit.
///
/// # Errors
/// What sigaction(2) answers.
pub fn ignore_file_size() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler, and the number is valid.
    match unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
