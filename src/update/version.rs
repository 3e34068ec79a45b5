//! Versions of images: numbers between dots and perhaps a stage before the release (`7.1.0.0`, `18.0.rc1`, `17.2.dev20250101`).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// How far a version is from its release, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Dev,
    Alpha,
    Beta,
    Pre,
    Rc,
    Release,
}

/// The stages by the words for them.
const STAGES: [(&str, Stage); 5] =
    [("dev", Stage::Dev), ("alpha", Stage::Alpha), ("beta", Stage::Beta), ("pre", Stage::Pre), ("rc", Stage::Rc)];

/// Fewest and most numbers. One alone could be anything: the 64 of `rpi4-64` is no version.
const NUMBERS: std::ops::RangeInclusive<usize> = 2..=8;

/// A version. Missing numbers are zeros, so `7.1` and `7.1.0.0` are one.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    /// Without zeros at the end.
    numbers: Vec<u64>,
    stage: Stage,
    /// The number of the stage.
    step: u64,
}

impl Version {
    /// Reads a version; `None` for anything else. The stage stands behind a dot, a dash or nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let stage_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (head, tail) = text.split_at_checked(stage_at)?;
        let (stage, step) = if tail.is_empty() { (Stage::Release, 0) } else { stage(tail)? };
        let head = if tail.is_empty() { head } else { head.strip_suffix(['.', '-']).unwrap_or(head) };
        let mut numbers = head.split('.').map(number).collect::<Option<Vec<u64>>>()?;
        if !NUMBERS.contains(&numbers.len()) {
            return None;
        }
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self { text: text.to_owned(), numbers, stage, step })
    }
}

fn stage(text: &str) -> Option<(Stage, u64)> {
    let (word, stage) = STAGES.into_iter().find(|(word, _)| text.starts_with(word))?;
    let step = text.strip_prefix(word)?;
    Some((stage, if step.is_empty() { 0 } else { number(step)? }))
}

/// `str::parse` would also take a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |version: &Self| (version.stage, version.step);
        self.numbers.cmp(&other.numbers).then_with(|| key(self).cmp(&key(other)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.numbers, self.stage, self.step).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn versions_stand_in_order() {
        let ascending = [
            "0.0",
            "5.13",
            "7.1.dev0",
            "7.1.alpha",
            "7.1.beta2",
            "7.1.pre1",
            "7.1.rc1",
            "7.1.0.0-rc2",
            "7.1rc10",
            "7.1.0.0",
            "7.1.0.1.rc1",
            "7.1.0.1",
            "7.1.1",
            "7.2.dev20250101",
            "7.2",
            "7.10",
            "17.2.dev0",
            "17.2",
            "18.0.rc1",
            "18.0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(version(a).cmp(&version(b)), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(version("7.1"), version("7.1.0.0"));
        assert_eq!(version("7.1.rc"), version("7.1-rc0"));
        assert_eq!(version("0.0.rc1").to_string(), "0.0.rc1");
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "7",
            "64",
            ".",
            "7.",
            ".7",
            "7..1",
            "v7.1",
            "7.1.x",
            "7.1.rcx",
            "7.1.rc1.dev2",
            "7.1.RC1",
            "7.1.post1",
            "7.1.rc-1",
            "+7.1",
            "-7.1",
            "7.1 ",
            "7.18446744073709551616",
            "1.2.3.4.5.6.7.8.9",
            "7.1.-rc1",
            "rc1",
            "7.1\u{663}",
        ] {
            assert!(Version::parse(text).is_none(), "{text}");
        }
    }

    fn any_version() -> impl Strategy<Value = Version> {
        "[0-3](\\.[0-2]){1,3}([.-]?(dev|alpha|beta|pre|rc)[0-2]?)?".prop_map(|text| version(&text))
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            if a == b {
                prop_assert_eq!(a.cmp(&c), b.cmp(&c));
            }
        }

        #[test]
        fn a_stage_stands_below_its_release_and_above_what_was_before(
            numbers in proptest::collection::vec(0_u64..5, 2..5),
            stage in "(dev|alpha|beta|pre|rc)[0-9]{0,3}",
        ) {
            let text = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
            let release = version(&text(&numbers));
            let before = version(&format!("{release}.{stage}"));
            prop_assert!(before < release);
            let mut older = numbers;
            if let Some(last) = older.iter_mut().rev().find(|n| **n > 0) {
                *last -= 1;
                prop_assert!(version(&text(&older)) < before);
            }
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,12}") {
            if let Some(found) = Version::parse(&text) {
                prop_assert_eq!(found.to_string(), text);
            }
        }
    }
}
