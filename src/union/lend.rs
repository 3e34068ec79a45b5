//! Permissions lent for an instant. An ordinary user's daemon must sometimes read, fill or move a directory whose owner, the
//! same user, took the right from himself; so it gives itself the right, acts, and takes it back. One lender at a time, and
//! nobody looks meanwhile: so a lent mode is never shown, kept or taken for the real one. With privilege nothing is lent.

use super::Upper;
use crate::error::Errno;
use crate::sys::spot::{Spot, Stat};

/// Read, write and search permission of the owner.
pub(super) const OWNER_ALL: u32 = 0o700;

type Result<T> = std::result::Result<T, Errno>;

impl Upper {
    /// stat(2), never with a lent mode.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn stat(&self, spot: &Spot) -> Result<Stat> {
        let _nobody_lends = (!self.privilege().dac_override).then(|| self.lending.read());
        spot.stat()
    }

    /// chmod(2), never undone by a lender.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn chmod(&self, spot: &Spot, perm: u32) -> Result<()> {
        let _nobody_lends = (!self.privilege().dac_override).then(|| self.lending.read());
        spot.chmod(perm)
    }

    /// Does what needs read permission on a directory.
    pub(super) fn readable<T>(&self, spot: &Spot, act: impl Fn() -> Result<T>) -> Result<T> {
        if self.privilege().dac_override {
            return act();
        }
        {
            let _nobody_lends = self.lending.read();
            match act() {
                Err(Errno::EACCES) => {}
                answer => return answer,
            }
        }
        self.writing_into(std::slice::from_ref(spot), act)
    }

    /// Does what needs every right of the owner on directories, which keep their modes. `act` makes system calls and takes no lock.
    ///
    /// # Errors
    /// What `act` answers, or the kernel where nothing can be lent.
    pub fn writing_into<T>(&self, dirs: &[Spot], act: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.privilege().dac_override {
            return act();
        }
        let _alone = self.lending.write();
        let mut loans = Loans(Vec::new());
        for dir in dirs {
            loans.take(dir)?;
        }
        act()
    }

    /// True for permissions that a directory gets only once it is in its place: without privilege one that its owner cannot write
    /// to could be neither marked nor moved there.
    pub(super) fn holds_back(&self, perm: u32) -> bool {
        !self.privilege().dac_override && perm & OWNER_ALL != OWNER_ALL
    }

    /// Gives a directory in its place what was held back.
    pub(super) fn give_held_back(&self, spot: &Spot, perm: u32) {
        if let Err(e) = spot.chmod(perm) {
            tracing::error!("{spot:?} keeps more permissions in the upper than {perm:o}: {e}");
        }
    }

    /// Moves a directory away, which needs write permission on itself (rename(2)). It keeps its mode only where that fails.
    ///
    /// # Errors
    /// What `act` answers, or the kernel where nothing can be lent.
    pub fn moving<T>(&self, spot: &Spot, act: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.privilege().dac_override {
            return act();
        }
        let _alone = self.lending.write();
        let mut loans = Loans(Vec::new());
        loans.take(spot)?;
        let answer = act();
        if answer.is_ok() {
            loans.0.clear();
        }
        answer
    }
}

/// Directories and the modes they get back.
struct Loans(Vec<(Spot, u32)>);

impl Loans {
    fn take(&mut self, dir: &Spot) -> Result<()> {
        // Held by descriptor: the name may mean something else when the mode goes back.
        let pin = Spot::Fd(dir.pin()?);
        let perm = pin.stat()?.attr.perm;
        if perm & OWNER_ALL != OWNER_ALL {
            pin.chmod(perm | OWNER_ALL)?;
            self.0.push((pin, perm));
        }
        Ok(())
    }
}

impl Drop for Loans {
    fn drop(&mut self) {
        for (dir, perm) in self.0.drain(..) {
            if let Err(e) = dir.chmod(perm) {
                tracing::error!("a directory of the upper keeps mode {:o} instead of {perm:o}: {e}", perm | OWNER_ALL);
            }
        }
    }
}
