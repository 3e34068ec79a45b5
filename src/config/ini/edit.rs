//! Changes of a text that leave every other line as it is.

use std::ops::Range;

use super::flaw::Flaw;
use super::lines::{Line, Said, scan};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The key gets this value; key and section are made where they are not there.
    Set {
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// The key goes, where it is there.
    Unset {
        /// The section.
        section: String,
        /// The key.
        key: String,
    },
}

/// The text after a change. Comments, order, blanks, line ends and everything unknown stay.
///
/// # Errors
/// A text that is none of an ini file, a key that comes more than once, or names and values that no line can say.
pub fn edited(text: &str, edit: &Edit) -> Result<String, Flaw> {
    let (section, key, value) = match edit {
        Edit::Set { section, key, value } => (section, key, Some(value)),
        Edit::Unset { section, key } => (section, key, None),
    };
    let lines = scan(text)?;
    let (found, last) = look(text, &lines, section, key);
    let mut new = text.to_owned();
    match (found.as_slice(), value) {
        ([], None) => {}
        ([at], None) => new.replace_range(lines.get(*at).map_or(0..0, |line| line.whole.clone()), ""),
        ([at], Some(value)) => replace_value(&mut new, &lines, *at, value),
        ([], Some(value)) => insert(&mut new, &lines, last, section, key, value),
        ([_, again, ..], _) => {
            return Err(Flaw::of(again + 1, key, format!("it stands {} times in [{section}]; leave one", found.len())));
        }
    }
    let expected = value.map(|value| (key.as_str(), value.as_str()));
    if says(&new, section, key) == expected.into_iter().collect::<Vec<_>>() {
        return Ok(new);
    }
    Err(Flaw::without(key, format!("no line of an ini file can say {:?} in [{section}]", value.map_or("", |value| value))))
}

/// Indices of the lines with this key, and of the line behind which a new one belongs: the last that says something in the
/// section.
fn look(text: &str, lines: &[Line], section: &str, key: &str) -> (Vec<usize>, Option<usize>) {
    let (mut found, mut last, mut here) = (Vec::new(), None, section.is_empty());
    for (at, line) in lines.iter().enumerate() {
        match &line.said {
            Said::Nothing => continue,
            Said::Section { name } => here = text.get(name.clone()) == Some(section),
            Said::Entry { key: found_key, .. } if here && text.get(found_key.clone()) == Some(key) => found.push(at),
            Said::Entry { .. } => {}
        }
        if here {
            last = Some(at);
        }
    }
    (found, last)
}

fn replace_value(text: &mut String, lines: &[Line], at: usize, value: &str) {
    let Some(Line { said: Said::Entry { value: old, .. }, .. }) = lines.get(at) else { return };
    let is_bare = old.is_empty() && !value.is_empty();
    let blank = if is_bare && text.get(..old.start).is_some_and(|before| before.ends_with(['=', ':'])) { " " } else { "" };
    text.replace_range(old.clone(), &format!("{blank}{value}"));
}

fn insert(text: &mut String, lines: &[Line], last: Option<usize>, section: &str, key: &str, value: &str) {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let entry = format!("{key} = {value}{end}");
    match last.and_then(|last| lines.get(last)) {
        Some(line) => insert_behind(text, &line.whole, end, &entry),
        None if section.is_empty() => text.insert_str(0, &entry),
        None => {
            let blank = if lines.is_empty() { "" } else { end };
            let whole = 0..text.len();
            insert_behind(text, &whole, end, &format!("{blank}[{section}]{end}{entry}"));
        }
    }
}

fn insert_behind(text: &mut String, line: &Range<usize>, end: &str, new: &str) {
    let ended = line.is_empty() || text.get(line.clone()).is_some_and(|line| line.ends_with('\n'));
    let before = if ended { "" } else { end };
    text.insert_str(line.end, &format!("{before}{new}"));
}

/// Every entry with this key.
fn says<'a>(text: &'a str, section: &str, key: &str) -> Vec<(&'a str, &'a str)> {
    let Ok(lines) = scan(text) else { return Vec::new() };
    let (found, _) = look(text, &lines, section, key);
    let entry = |at: &usize| match &lines.get(*at)?.said {
        Said::Entry { key, value } => Some((text.get(key.clone())?, text.get(value.clone())?)),
        _ => None,
    };
    found.iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(text: &str, section: &str, key: &str, value: &str) -> String {
        edited(text, &Edit::Set { section: section.into(), key: key.into(), value: value.into() }).unwrap()
    }

    fn unset(text: &str, section: &str, key: &str) -> String {
        edited(text, &Edit::Unset { section: section.into(), key: key.into() }).unwrap()
    }

    #[test]
    fn only_the_line_changes() {
        let text = "# top\n[haos]\n  system_image=a # 1\n; note\nx = y\n\n[net]\r\nip : 1";
        assert_eq!(set(text, "haos", "system_image", "b"), text.replace("a # 1", "b"));
        assert_eq!(set(text, "haos", "new", "1"), text.replace("x = y\n", "x = y\nnew = 1\r\n"));
        assert_eq!(set(text, "net", "dns", "2"), format!("{text}\r\ndns = 2\r\n"));
        assert_eq!(set(text, "later", "k", "v"), format!("{text}\r\n\r\n[later]\r\nk = v\r\n"));
        assert_eq!(set(text, "", "k", "v"), format!("k = v\r\n{text}"));
        assert_eq!(unset(text, "haos", "x"), text.replace("x = y\n", ""));
        assert_eq!(unset(text, "haos", "absent"), text);
        assert_eq!(set("", "haos", "k", "v"), "[haos]\nk = v\n");
        assert_eq!(set("[haos]", "haos", "k", "v"), "[haos]\nk = v\n");
        assert_eq!(set("[haos]\nk=\n", "haos", "k", "v"), "[haos]\nk= v\n");
        assert_eq!(set("[a]\nx = 1\n[b]\n[a]\ny = 2\n", "a", "z", "3"), "[a]\nx = 1\n[b]\n[a]\ny = 2\nz = 3\n");
    }

    #[test]
    fn what_no_line_can_say_is_refused() {
        for (section, key, value) in [
            ("haos", "k", "a\nb"),
            ("haos", "k", " a"),
            ("haos", "k", "a\\"),
            ("haos", "k", "a\0"),
            ("haos", "k=l", "v"),
            ("haos", "#k", "v"),
            ("haos", "[k", "v"),
            ("haos", "", "v"),
            ("ha]os", "k", "v"),
            ("ha\nos", "k", "v"),
        ] {
            let edit = Edit::Set { section: section.into(), key: key.into(), value: value.into() };
            assert!(edited("[haos]\nx = y\n", &edit).is_err(), "{edit:?}");
        }
        let flaw = edited("[a]\nk = 1\n[b]\n[a]\nk = 2\n", &Edit::Unset { section: "a".into(), key: "k".into() }).unwrap_err();
        assert_eq!((flaw.line, flaw.why.as_str()), (Some(5), "it stands 2 times in [a]; leave one"));
    }

    proptest! {
        /// A value that was set is read, every other line is still there, and taking it away gives the lines before.
        #[test]
        fn other_lines_stay(
            text in "((\\[[ab]\\]|[xyz] ?[=:] ?[a-c#]{0,3}|[#;][^\r\n]{0,5}| *)\r?\n){0,8}",
            section in "[abc]",
            value in "[a-z{},=/]{1,4}[a-z ]{0,4}",
        ) {
            let value = value.trim();
            let new = set(&text, &section, "new", value);
            prop_assert_eq!(says(&new, &section, "new"), [("new", value)]);
            let header = format!("[{section}]");
            let grown = |line: &&str| line.trim() != format!("new = {value}").trim() && !line.trim().is_empty();
            let before: Vec<&str> = text.split_inclusive('\n').filter(grown).collect();
            let after: Vec<&str> = new.split_inclusive('\n').filter(grown).collect();
            let after = match after.split_last() {
                Some((last, rest)) if before.len() + 1 == after.len() && last.trim() == header => rest.to_vec(),
                _ => after,
            };
            prop_assert_eq!(before, after);
            let again = set(&new, &section, "new", "other");
            prop_assert_eq!(set(&again, &section, "new", value), new);
        }
    }
}
