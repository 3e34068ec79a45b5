//! What of a [`State`] survives a power cut: keys of haos.ini, and one file in `trial/` whose name counts the attempts.

use super::state::{Failed, Proven, State};
use super::trial_file::Count;
use crate::config::haos_ini::{Config, HAOS};
use crate::config::image_source::ImageSource;
use crate::config::ini::Edit;

/// What haos.ini says of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `system_image`, `previous_image`.
    pub proven: Proven,
    /// `update_image`.
    pub next: Option<ImageSource>,
    /// `failed_image`, `failed_reason`.
    pub failed: Option<Failed>,
}

impl Keys {
    /// Their names, in `[haos]`.
    const NAMES: [&str; 5] = ["system_image", "update_image", "previous_image", "failed_image", "failed_reason"];

    /// Whether an edit concerns one of them.
    #[must_use]
    pub fn are_changed_by(edit: &Edit) -> bool {
        let (Edit::Set { section, key, .. } | Edit::Unset { section, key }) = edit;
        section == HAOS && Self::NAMES.contains(&&**key)
    }

    /// Those of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let why = || config.failed_reason.clone().unwrap_or_default();
        Self {
            proven: Proven { good: config.system_image.clone(), previous: config.previous_image.clone() },
            next: config.update_image.clone(),
            failed: config.failed_image.clone().map(|image| Failed { image, why: why() }),
        }
    }

    fn edits(&self, from: &Self) -> Vec<Edit> {
        let source = |image: &Option<ImageSource>| image.as_ref().map(|image| image.as_str().to_owned());
        let values = |keys: &Self| {
            [
                Some(keys.proven.good.as_str().to_owned()),
                source(&keys.next),
                source(&keys.proven.previous),
                keys.failed.as_ref().map(|failed| failed.image.as_str().to_owned()),
                keys.failed.as_ref().map(|failed| reason(&failed.why)).filter(|why| !why.is_empty()),
            ]
        };
        let both = values(self).into_iter().zip(values(from));
        let changed = Self::NAMES.into_iter().zip(both).filter(|(_, (to, from))| to != from);
        let section = || HAOS.to_owned();
        changed
            .map(|(key, (to, _))| (key.to_owned(), to))
            .map(|(key, value)| match value {
                Some(value) => Edit::Set { section: section(), key, value },
                None => Edit::Unset { section: section(), key },
            })
            .collect()
    }
}

/// Longest reason that is kept, in characters.
const LONGEST: usize = 200;

/// A reason as a line of an ini file can say it: `\` would go on in the next, blanks at the ends are not kept.
fn reason(why: &str) -> String {
    one_line(&why.replace('\\', " "), LONGEST)
}

/// Words in one line of so many characters at most.
pub(super) fn one_line(text: &str, longest: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Everything that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// In haos.ini.
    pub keys: Keys,
    /// In `trial/`, in any order.
    pub counts: Vec<Count>,
}

/// A write that is whole or not at all, or leaves at worst the old beside the new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// An image's file in `trial/` gets this name; where there is none yet it is made.
    Count(Count),
    /// haos.ini is changed.
    Keys(Vec<Edit>),
    /// This file of `trial/` goes.
    Forget(Count),
}

impl Record {
    /// The count of an image; of two, which a power cut can leave, that with fewer attempts left.
    pub(super) fn count(&self, image: &ImageSource) -> Option<&Count> {
        self.counts.iter().filter(|count| count.image == *image).min_by_key(|count| count.left)
    }

    /// Reads the state. An image that has failed is not tried again because haos.ini names it; one that haos.ini names and nobody
    /// has counted yet has `tries` attempts.
    #[must_use]
    pub fn state(&self, tries: u32) -> State {
        let Keys { proven, next, failed } = self.keys.clone();
        let has_failed = |image: &ImageSource| failed.as_ref().is_some_and(|failed| failed.image == *image);
        if let Some(next) = next.filter(|next| !has_failed(next) && *next != proven.good) {
            return match self.count(&next) {
                Some(&Count { left, tried, .. }) if tried > 0 => State::Trying { proven, failed, next, left, tried },
                Some(&Count { left, .. }) => State::Staged { proven, failed, next, left },
                None => State::Staged { proven, failed, next, left: tries },
            };
        }
        match failed {
            Some(bad) => match self.count(&bad.image) {
                Some(&Count { tried, .. }) => State::RolledBack { proven, bad, tried },
                None => State::Stable { proven, failed: Some(bad) },
            },
            None => State::Stable { proven, failed },
        }
    }

    /// The writes that make a state durable, in their order: attempts are counted before haos.ini names their image, and taken away
    /// or forgotten after haos.ini names it no more.
    #[must_use]
    pub fn writes(&self, state: &State) -> Vec<Write> {
        let keys = |proven: &Proven, next: Option<&ImageSource>, failed: Option<&Failed>| Keys {
            proven: proven.clone(),
            next: next.cloned(),
            failed: failed.cloned(),
        };
        let (wanted, kept, counted) = match state {
            State::Safe { before, .. } => return self.writes(before),
            State::Stable { proven, failed } => (keys(proven, None, failed.as_ref()), None, None),
            State::Staged { proven, failed, next, left } => {
                let count = Count { image: next.clone(), left: *left, tried: 0 };
                (keys(proven, Some(next), failed.as_ref()), Some(next), Some(count))
            }
            State::Trying { proven, failed, next, left, tried } => {
                let count = Count { image: next.clone(), left: *left, tried: *tried };
                (keys(proven, Some(next), failed.as_ref()), Some(next), Some(count))
            }
            // That it is still there tells this from a failure that has been seen to; that it has no attempt left, the process that
            // stands by the trial.
            State::RolledBack { proven, bad, tried } => {
                let count = Count { image: bad.image.clone(), left: 0, tried: *tried };
                (keys(proven, None, Some(bad)), Some(&bad.image), Some(count))
            }
        };
        let keeps = |count: &&Count| match &counted {
            Some(wanted) => *count == wanted,
            None => kept == Some(&count.image) && self.count(&count.image) == Some(*count),
        };
        let count = counted.clone().filter(|wanted| !self.counts.contains(wanted)).map(Write::Count);
        // The file that gets a new name is gone by that.
        let renamed = count.as_ref().and_then(|_| self.count(kept?));
        let comes_last = renamed.is_some() && matches!(state, State::RolledBack { .. });
        let (first, then) = if comes_last { (None, count) } else { (count, None) };
        let edits = Some(wanted.edits(&self.keys)).filter(|edits| !edits.is_empty()).map(Write::Keys);
        let forgotten = self.counts.iter().filter(|count| !keeps(count) && renamed != Some(*count)).cloned().map(Write::Forget);
        first.into_iter().chain(edits).chain(then).chain(forgotten).collect()
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
