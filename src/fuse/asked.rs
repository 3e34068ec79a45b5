//! A request from when it has come until it is answered.

use super::guard::guarded;
use super::turns::Turn;
use crate::error::Result;
use crate::union::Union;

/// A request that is being answered; to be dropped after the reply was sent, for its worker may wait then.
pub(super) struct Asked<'a> {
    union: &'a Union,
    turn: Turn<'a>,
}

impl<'a> Asked<'a> {
    pub(super) const fn new(union: &'a Union, turn: Turn<'a>) -> Self {
        Self { union, turn }
    }

    /// Asks the union.
    ///
    /// # Errors
    /// The answer's; `EIO` for a defect.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Union) -> Result<T>) -> Result<T> {
        guarded(|| question(self.union))
    }

    /// As `ask`, where the answer may take long.
    ///
    /// # Errors
    /// As for `ask`.
    pub(super) fn ask_for_long<T>(&self, question: impl FnOnce(&Union) -> Result<T>) -> Result<T> {
        self.turn.hand_on();
        self.ask(question)
    }

    /// What is left to be done after the answer.
    pub(super) fn afterwards(&self, work: impl FnOnce(&Union)) {
        self.turn.answered();
        self.turn.hand_on();
        self.tell(work);
    }

    /// What may be done for each of `items` after the answer, as long as nobody asks.
    pub(super) fn while_idle<T>(&self, items: impl IntoIterator<Item = T>, work: impl Fn(&Union, T)) {
        self.turn.answered();
        for item in items.into_iter().take_while(|_| self.turn.is_idle()) {
            self.tell(|union| work(union, item));
        }
    }

    /// There is no answer in which it could be said that this went wrong; the log has it.
    pub(super) fn tell(&self, message: impl FnOnce(&Union)) {
        let _told = self.ask(|union| {
            message(union);
            Ok(())
        });
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.turn.answered();
        self.tell(Union::tidy);
    }
}
