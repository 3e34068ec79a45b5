//! Leaving the terminal: fork, a new session, and a pipe on which the daemon says that it is ready or why it is not.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit};

use super::child::{Forked, exit_now, fork_alone};
use super::signals::Termination;
use crate::error::Errno;

/// All there is on the pipe when the daemon is ready.
const READY: u8 = 0;

/// First byte on the pipe when it gives up; the errno follows in four bytes, then the reason.
const FAILED: u8 = 1;

/// Which process one is in after [`detach`].
pub enum Side {
    /// The process that was started by the user; it waits for the daemon's word.
    Starter(Starting),
    /// The daemon: leader of no session, without a terminal.
    Daemon(Readiness),
}

/// The starter's end of the readiness pipe.
pub struct Starting {
    pipe: PipeReader,
}

/// The daemon's end of the readiness pipe. Dropping it unused tells the starter that the daemon died.
pub struct Readiness {
    pipe: PipeWriter,
}

/// What became of the daemon's start.
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// It answers requests.
    Ready,
    /// It gave up.
    Failed {
        /// For this reason.
        reason: String,
        /// Its errno.
        errno: Errno,
    },
    /// It ended without a word.
    Died,
    /// Its starter was asked to end before the daemon had said anything; it gives up as soon as it finds out.
    Interrupted,
}

impl Starting {
    /// Waits for the daemon's word, or for signals to end, which have no further effect then. Signals are taken as before afterwards:
    /// for one that has come behind the word that means what it would have meant before.
    ///
    /// # Errors
    /// What poll(2) and read(2) on a pipe answer.
    pub fn wait(mut self) -> io::Result<Started> {
        let termination = Termination::block()?;
        let started = self.word_or_signal(&termination);
        termination.lift()?;
        started
    }

    fn word_or_signal(&mut self, termination: &Termination) -> io::Result<Started> {
        let signal = termination.descriptor()?;
        let mut both = [PollFd::new(&self.pipe, PollFlags::IN), PollFd::new(&signal, PollFlags::IN)];
        while let Err(e) = poll(&mut both, None) {
            if e != rustix::io::Errno::INTR {
                return Err(e.into());
            }
        }
        if let [word, signal] = &both
            && word.revents().is_empty()
            && !signal.revents().is_empty()
        {
            while termination.is_pending() {
                termination.wait()?;
            }
            return Ok(Started::Interrupted);
        }
        // Not to the end: a child of the daemon may have the other end of the pipe a little longer.
        let mut word = Vec::new();
        self.pipe.by_ref().take(1).read_to_end(&mut word)?;
        match word[..] {
            [] => return Ok(Started::Died),
            [READY] => return Ok(Started::Ready),
            _ => self.pipe.read_to_end(&mut word)?,
        };
        let (errno, reason) = word.get(1..).and_then(<[u8]>::split_first_chunk).unwrap_or((&[0; 4], &[]));
        Ok(Started::Failed { reason: String::from_utf8_lossy(reason).into_owned(), errno: Errno(i32::from_le_bytes(*errno)) })
    }
}

impl Readiness {
    /// Gives up standard input, output and error, then lets the starter exit with success.
    ///
    /// # Errors
    /// When /dev/null cannot be opened or the starter is gone.
    pub fn succeed(mut self) -> io::Result<()> {
        give_up_stdio()?;
        self.pipe.write_all(&[READY])
    }

    /// Tells the starter why there will be no daemon.
    pub fn fail(mut self, reason: &str, errno: Errno) {
        let word = [&[FAILED], &errno.0.to_le_bytes()[..], reason.as_bytes()].concat();
        // A starter that is gone needs no reason.
        let _ = self.pipe.write_all(&word);
    }
}

/// Gives up standard input, output and error, for whose end somebody may wait.
///
/// # Errors
/// When /dev/null cannot be opened.
pub fn give_up_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

/// Forks twice around setsid(2), so that the daemon can never gain a controlling terminal and is no child of the starter.
/// The daemon's working directory becomes `/`.
///
/// # Errors
/// `EAGAIN`, `ENOMEM` or `EMFILE` from the kernel; [`io::ErrorKind::Other`] when threads already run, since only the forking
/// thread would live on in the child.
pub fn detach() -> io::Result<Side> {
    let (starter_end, daemon_end) = io::pipe()?;
    match fork_alone()? {
        Forked::Parent(middle) => {
            drop(daemon_end);
            middle.wait()?;
            Ok(Side::Starter(Starting { pipe: starter_end }))
        }
        Forked::Child => {
            drop(starter_end);
            Ok(Side::Daemon(become_daemon(daemon_end)))
        }
    }
}

/// The first child: a new session, then the second fork; only the grandchild returns.
fn become_daemon(daemon_end: PipeWriter) -> Readiness {
    let readiness = Readiness { pipe: daemon_end };
    let forked = rustix::process::setsid().map_err(io::Error::from).and_then(|_| fork_alone());
    match forked {
        Ok(Forked::Child) => {}
        Ok(Forked::Parent(_)) => exit_now(0),
        Err(e) => {
            readiness.fail(&format!("fork: {e}"), e.into());
            exit_now(1)
        }
    }
    if let Err(e) = rustix::process::chdir("/") {
        readiness.fail(&format!("chdir /: {e}"), e.into());
        exit_now(1)
    }
    readiness
}

/// How many descriptors the process may have open.
#[must_use]
pub fn descriptors() -> usize {
    rustix::process::getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Raises the soft limit of open descriptors to the hard one.
///
/// # Errors
/// What setrlimit(2) answers.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// Frees the daemon from limits that were meant for whoever started it: descriptors, as many as the system allows root and the
/// hard limit allows others; and the size of files, which becomes the asker's own again.
///
/// # Errors
/// What setrlimit(2) answers.
pub fn raise_limits() -> io::Result<()> {
    for (resource, most) in [(Resource::Nofile, most_descriptors()), (Resource::Fsize, None)] {
        let limit = rustix::process::getrlimit(resource);
        let all = Rlimit { current: most, maximum: most };
        // Only root may raise the hard limit.
        if rustix::process::setrlimit(resource, all).is_err() {
            rustix::process::setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        }
    }
    Ok(())
}

/// The sysctl `fs.nr_open`, beyond which nobody's limit goes; without /proc what it has been since it was made.
fn most_descriptors() -> Option<u64> {
    let told = std::fs::read_to_string(super::proc::path("sys/fs/nr_open")).ok().and_then(|text| text.trim().parse().ok());
    Some(told.unwrap_or(1 << 20))
}

/// Clears the file mode creation mask: modes come from requests, on which the kernel has already applied the caller's mask.
pub fn clear_umask() {
    rustix::process::umask(rustix::fs::Mode::empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signals that this thread does not take, as a mask in hexadecimal digits (proc_pid_status(5)).
    fn blocked() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
    }

    /// Whoever goes on for long after a daemon was started, as a boot does, can still be asked to end.
    #[test]
    fn signals_are_taken_as_before_once_the_word_is_there() {
        let before = blocked();
        for (word, expected) in [(&[][..], Started::Died), (&[READY], Started::Ready)] {
            let (pipe, mut other) = io::pipe().unwrap();
            other.write_all(word).unwrap();
            drop(other);
            assert_eq!(Starting { pipe }.wait().unwrap(), expected);
            assert_eq!(blocked(), before);
        }
    }
}
