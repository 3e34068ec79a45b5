//! An ini file as sections and entries: rust-ini's reading, with the lines.

use rust_ini::{Ini, ParseOption};

use super::flaw::Flaw;
use super::lines::{Said, scan};

/// A `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Its line, from 1.
    pub line: usize,
}

/// What stands below one `[name]`, in order; names and keys may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name; empty for what stands above the first.
    pub name: String,
    /// The line of the name, from 1.
    pub line: usize,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Reads a text.
///
/// # Errors
/// The first line that is none of an ini file.
pub fn read(text: &str) -> Result<Vec<Section>, Flaw> {
    let (plain, sections) = placed(text)?;
    let options = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    let parsed = Ini::load_from_str_opt(&plain, options).map_err(|e| Flaw::at(e.line, e.msg.into_owned()))?;
    let parsed = parsed.iter().map(|(name, entries)| (name.unwrap_or_default(), entries));
    let mut parsed = parsed.filter(|(name, entries)| !(name.is_empty() && entries.is_empty()));
    let agreed = sections.iter().all(|section| {
        let here = section.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
        parsed.next().is_some_and(|(name, entries)| name == section.name && entries.iter().eq(here))
    });
    if agreed && parsed.next().is_none() {
        return Ok(sections);
    }
    Err(Flaw { line: None, key: None, why: "it cannot be read in one way only; write plain key = value lines".to_owned() })
}

/// What is said on which line, and the same text without blanks and comments, to which rust-ini has its own rules.
fn placed(text: &str) -> Result<(String, Vec<Section>), Flaw> {
    let mut plain = String::with_capacity(text.len());
    let mut sections = Vec::new();
    let mut current = Section { name: String::new(), line: 1, entries: Vec::new() };
    let part = |range: &std::ops::Range<usize>| text.get(range.clone()).unwrap_or_default();
    for (number, line) in (1..).zip(scan(text)?) {
        match line.said {
            Said::Nothing => {}
            Said::Section { name } => {
                let next = Section { name: part(&name).to_owned(), line: number, entries: Vec::new() };
                sections.push(std::mem::replace(&mut current, next));
                plain.push_str(&format!("[{}]", part(&name)));
            }
            Said::Entry { key, value } => {
                let (key, value) = (part(&key), part(&value));
                current.entries.push(Entry { key: key.to_owned(), value: value.to_owned(), line: number });
                plain.push_str(&format!("{key}={value}"));
            }
        }
        plain.push('\n');
    }
    sections.push(current);
    sections.retain(|section| !(section.name.is_empty() && section.entries.is_empty()));
    Ok((plain, sections))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sections_keep_order_and_lines() {
        let sections = read("top = 0\n[a]\nk = 1\nk = 2\n\n[b]\n[a]\n# c\nl: 3\n").unwrap();
        let told: Vec<String> = sections
            .iter()
            .flat_map(|s| {
                let entries = s.entries.iter().map(|e| format!("{} {}={}", e.line, e.key, e.value));
                std::iter::once(format!("{} [{}]", s.line, s.name)).chain(entries)
            })
            .collect();
        assert_eq!(told, ["1 []", "1 top=0", "2 [a]", "3 k=1", "4 k=2", "6 [b]", "7 [a]", "9 l=3"]);
    }

    proptest! {
        /// Whatever the lines are taken for, rust-ini takes them for the same.
        #[test]
        fn both_readers_agree(text in "([\\[\\]=:#; \\t\\\\\"'a-c,{}\u{e4}\u{a0}]{0,7}\r?\n){0,6}") {
            if scan(&text).is_ok() {
                prop_assert!(read(&text).is_ok(), "{:?}", read(&text));
            }
        }
    }
}
