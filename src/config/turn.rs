//! Whose turn it is to change what stands in a directory.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::error::Errno;
use crate::sys::lock;
use crate::sys::private_lock::{PrivateLock, is_private};

/// A directory that this process alone changes, of all that ask for a turn.
///
/// A directory that nobody but its owner may open is locked itself. Any other could be locked by whoever looks into it, for as long as
/// he likes: its private lock decides among the processes of root. It is locked, too, for those who cannot take that one: users with a
/// haos.ini of their own, and programs with another /run. They change it in a moment, so they are waited for, but have no veto.
#[derive(Debug)]
pub struct Turn {
    directory: OwnedFd,
    _private: Option<PrivateLock>,
}

impl Turn {
    /// Takes the turn; waits so long while somebody else has it.
    ///
    /// # Errors
    /// `EAGAIN` where somebody else has it still; what the kernel answers.
    pub fn take(directory: OwnedFd, patience: Duration) -> Result<Self, Errno> {
        let private = if is_private(&directory)? { None } else { private_lock_of(&directory, patience)? };
        match (lock::exclusive_within(&directory, if private.is_some() { lock::PATIENCE } else { patience }), &private) {
            (Err(Errno::EAGAIN), Some(_)) => tracing::debug!("a directory is locked by who is not waited for"),
            (locked, _) => locked?,
        }
        Ok(Self { directory, _private: private })
    }

    /// The directory.
    #[must_use]
    pub const fn directory(&self) -> &OwnedFd {
        &self.directory
    }
}

/// `None` where there can be none.
fn private_lock_of(directory: &OwnedFd, patience: Duration) -> Result<Option<PrivateLock>, Errno> {
    match PrivateLock::of(directory, patience) {
        Ok(lock) => Ok(Some(lock)),
        Err(Errno::EAGAIN) => Err(Errno::EAGAIN),
        Err(errno) => {
            tracing::debug!("there is no private lock, {errno}");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;
    use crate::sys::replace::open_dir;

    #[test]
    fn one_at_a_time_whoever_else_holds_a_lock() {
        let scratch = tempfile::tempdir().unwrap();
        let take = || Turn::take(open_dir(scratch.path()).unwrap(), lock::PATIENCE);
        for mode in [0o700, 0o755] {
            fs::set_permissions(scratch.path(), PermissionsExt::from_mode(mode)).unwrap();
            let turn = take().unwrap();
            assert_eq!(take().unwrap_err(), Errno::EAGAIN, "{mode:o}");
            drop(turn);
            drop(take().unwrap());
            let other = File::open(scratch.path()).unwrap();
            lock::exclusive(&other).unwrap();
            let may_wait = mode == 0o755 && rustix::process::geteuid().is_root();
            assert_eq!(take().map(drop), if may_wait { Ok(()) } else { Err(Errno::EAGAIN) }, "{mode:o}");
        }
    }

    #[test]
    fn whoever_waits_comes_next() {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = scratch.path().to_owned();
        let turns: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || {
                    for _ in 0..20 {
                        let turn = Turn::take(open_dir(&path).unwrap(), Duration::from_secs(60)).unwrap();
                        let begun = Instant::now();
                        File::create_new(path.join("mine")).unwrap();
                        while begun.elapsed() < Duration::from_millis(1) {}
                        fs::remove_file(path.join("mine")).unwrap();
                        drop(turn);
                    }
                })
            })
            .collect();
        turns.into_iter().for_each(|turn| turn.join().unwrap());
    }
}
