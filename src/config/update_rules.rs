//! `[update]`: by which rules images are tried, trusted and kept. It is read where it is needed, so that a mistake in it keeps nobody
//! from mounting.

use std::time::Duration;

use super::haos_ini::Config;
use super::image_source::ImageSource;
use super::ini::{Entry, Flaw};

/// The section.
pub const UPDATE: &str = "update";

/// Attempts that an image gets where nothing is said; systemd-boot's examples have as many.
const TRIES: u32 = 3;

/// More attempts than these would be a mistake.
const MOST_TRIES: u32 = 20;

/// Seconds that a trial has where nothing is said.
const DEADLINE: u64 = 300;

/// More seconds than these would be a mistake: a day.
const LONGEST_DEADLINE: u64 = 24 * 3600;

/// Who says that an image works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Witness {
    /// The checks of `haosfs boot-guard`.
    #[default]
    Checks,
    /// The application as well, by `haosfs update confirm`.
    Application,
}

/// What `[update]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateRules {
    /// `tries=`: how often an image is booted at most before it must be confirmed, from 1 to 20.
    pub tries: u32,
    /// `public_key=`: minisign's; with it, only images that are signed with its secret key are staged.
    pub public_key: Option<String>,
    /// `deadline=`: seconds after which a boot that is tried has failed, from 10 to a day; `None` for `none`.
    pub deadline: Option<Duration>,
    /// `confirmed_by=`.
    pub witness: Witness,
    /// `pinned=`: images that are never removed.
    pub pinned: Vec<ImageSource>,
    /// Keys that this version does not know.
    pub unknown: Vec<Entry>,
}

impl Default for UpdateRules {
    fn default() -> Self {
        Self {
            tries: TRIES,
            public_key: None,
            deadline: Some(Duration::from_secs(DEADLINE)),
            witness: Witness::default(),
            pinned: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

impl UpdateRules {
    /// Those of a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with the section, at least one flaw.
    pub fn of(config: &Config) -> Result<Self, Vec<Flaw>> {
        let (mut rules, mut flaws) = (Self::default(), Vec::new());
        let mut seen: Vec<&Entry> = Vec::new();
        let sections = config.extensions.iter().filter(|section| section.name == UPDATE);
        for entry in sections.flat_map(|section| &section.entries) {
            if let Some(first) = seen.iter().find(|first| first.key == entry.key) {
                flaws.push(Flaw::of(entry.line, &entry.key, format!("it is given again; line {} has it already", first.line)));
            } else if let Err(why) = rules.read(entry) {
                flaws.push(Flaw::of(entry.line, &entry.key, why));
            }
            seen.push(entry);
        }
        if flaws.is_empty() { Ok(rules) } else { Err(flaws) }
    }

    /// Whether the application must say that an image works.
    #[must_use]
    pub fn waits_for_the_application(&self) -> bool {
        self.witness == Witness::Application
    }

    fn read(&mut self, entry: &Entry) -> Result<(), String> {
        let value = entry.value.as_str();
        match entry.key.as_str() {
            "tries" => {
                let digits = value.bytes().all(|b| b.is_ascii_digit());
                let number = value.parse().ok().filter(|tries| digits && (1..=MOST_TRIES).contains(tries));
                self.tries = number.ok_or_else(|| format!("{value}: expected a number from 1 to {MOST_TRIES}"))?;
            }
            "public_key" if value.is_empty() => return Err("it is empty; expected the second line of a minisign.pub".to_owned()),
            "public_key" => self.public_key = Some(value.to_owned()),
            "deadline" if value == "none" => self.deadline = None,
            "deadline" => {
                let digits = value.bytes().all(|b| b.is_ascii_digit());
                let number = value.parse().ok().filter(|secs| digits && (10..=LONGEST_DEADLINE).contains(secs));
                let expected = || format!("{value}: expected seconds from 10 to {LONGEST_DEADLINE}, or none");
                self.deadline = Some(Duration::from_secs(number.ok_or_else(expected)?));
            }
            "confirmed_by" => {
                self.witness = match value {
                    "checks" => Witness::Checks,
                    "application" => Witness::Application,
                    _ => return Err(format!("{value}: expected checks or application")),
                }
            }
            "pinned" => {
                let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
                self.pinned = items.map(ImageSource::parse).collect::<Result<_, _>>()?;
            }
            _ => self.unknown.push(entry.clone()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(section: &str) -> Result<UpdateRules, Vec<String>> {
        let config = Config::parse(&format!("[haos]\ndata_partition=/d\nsystem_image=a\n{section}")).unwrap();
        UpdateRules::of(&config).map_err(|flaws| flaws.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rules_have_defaults() {
        assert_eq!(rules("").unwrap(), UpdateRules::default());
        let found = rules("[update]\ntries = 1\npublic_key = RWQ\npinned = a, images/b,,\ncolour = blue\n").unwrap();
        assert_eq!((found.tries, found.public_key.as_deref()), (1, Some("RWQ")));
        assert_eq!(found.pinned.iter().map(ImageSource::as_str).collect::<Vec<_>>(), ["a", "images/b"]);
        assert_eq!(found.unknown[0].key, "colour");
        let found = rules("[update]\ndeadline = 90\nconfirmed_by = application\n").unwrap();
        assert_eq!((found.deadline, found.witness), (Some(Duration::from_secs(90)), Witness::Application));
        assert_eq!(rules("[update]\ndeadline = none\nconfirmed_by = checks\n").unwrap().deadline, None);
    }

    #[test]
    fn mistakes_are_told() {
        for (section, why) in [
            ("[update]\ntries = 0\n", "5: tries: 0: expected a number from 1 to 20"),
            ("[update]\ntries = +1\n", "5: tries: +1: expected a number"),
            ("[update]\ndeadline = 9\n", "5: deadline: 9: expected seconds from 10 to 86400, or none"),
            ("[update]\ndeadline = +90\n", "5: deadline: +90: expected seconds"),
            ("[update]\nconfirmed_by = me\n", "5: confirmed_by: me: expected checks or application"),
            ("[update]\npublic_key =\n", "5: public_key: it is empty"),
            ("[update]\npinned = ../x\n", "5: pinned: ../x: expected the name"),
            ("[update]\ntries = 1\n[update]\ntries = 1\n", "7: tries: it is given again; line 5 has it already"),
        ] {
            let found = rules(section).unwrap_err();
            assert!(found.len() == 1 && found[0].starts_with(why), "{section}: {found:?}");
        }
    }
}
