//! The lines of an ini file, each with its place in the text.

use std::ops::Range;

use super::flaw::Flaw;

/// What a line says. Ranges are bytes of the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing, or a comment.
    Nothing,
    /// `[name]`.
    Section {
        /// The name, without the blanks around it.
        name: Range<usize>,
    },
    /// `key = value`.
    Entry {
        /// The key, without the blanks around it.
        key: Range<usize>,
        /// The value, without the blanks around it.
        value: Range<usize>,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// All of it, with its end.
    pub whole: Range<usize>,
    /// What it says.
    pub said: Said,
}

/// Takes a text apart; the lines together are the text.
///
/// # Errors
/// The first line that is none of an ini file.
pub fn scan(text: &str) -> Result<Vec<Line>, Flaw> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (number, whole) in (1..).zip(text.split_inclusive('\n')) {
        let end = start + whole.len();
        let said = said(text, trimmed(text, start..end)).map_err(|why| Flaw::at(number, why))?;
        lines.push(Line { whole: start..end, said });
        start = end;
    }
    Ok(lines)
}

/// The part of the range without the blanks at both its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let part = text.get(range.clone()).unwrap_or_default();
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

fn said(text: &str, range: Range<usize>) -> Result<Said, String> {
    let line = text.get(range.clone()).unwrap_or_default();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(Said::Nothing);
    }
    if let Some(c) = line.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("the control character {:?} is in it", c));
    }
    if line.starts_with('[') {
        let close = line.find(']').ok_or("expected ] at the end of a section's name")?;
        if close + 1 != line.len() {
            return Err("expected nothing behind the ] of a section's name".to_owned());
        }
        let name = trimmed(text, range.start + 1..range.start + close);
        return named(text, &name, "a section's name").map(|()| Said::Section { name });
    }
    let separator =
        line.find(['=', ':']).ok_or_else(|| format!("expected [section], key = value or # comment, found {line:?}"))?;
    let key = trimmed(text, range.start..range.start + separator);
    named(text, &key, "a key")?;
    if line.ends_with('\\') {
        return Err("a value cannot end in a backslash: it does not go on in the next line".to_owned());
    }
    Ok(Said::Entry { key, value: trimmed(text, range.start + separator + 1..range.end) })
}

fn named(text: &str, name: &Range<usize>, what: &str) -> Result<(), String> {
    let name = text.get(name.clone()).unwrap_or_default();
    if name.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if name.contains('\\') {
        return Err(format!("{what} has a backslash in it: {name:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let part = |range: &Range<usize>| text[range.clone()].to_owned();
        let shown = |line: &Line| match &line.said {
            Said::Nothing => String::new(),
            Said::Section { name } => format!("[{}]", part(name)),
            Said::Entry { key, value } => format!("{}={}", part(key), part(value)),
        };
        scan(text).unwrap().iter().map(shown).collect()
    }

    #[test]
    fn lines_say_what_people_mean() {
        for (text, said) in [
            ("", &[][..]),
            ("\n# c\n  ; c = d\n", &["", "", ""]),
            ("[ a b ]\r\nk = v # w\r\n", &["[a b]", "k=v # w"]),
            ("k=\n  l : m=n  ", &["k=", "l=m=n"]),
            ("k = \"q\"", &["k=\"q\""]),
        ] {
            assert_eq!(shown(text), said, "{text:?}");
        }
    }

    #[test]
    fn other_lines_are_flaws() {
        for (text, line, why) in [
            ("[a]\nword\n", 2, "expected [section], key = value or # comment, found \"word\""),
            ("[a", 1, "expected ]"),
            ("[a] b", 1, "nothing behind"),
            ("[ ]", 1, "name is empty"),
            ("\n\n= v", 3, "a key is empty"),
            ("k = v\\\nw = x", 1, "a backslash"),
            ("k\\ = v", 1, "a key has a backslash"),
            ("k = \0\0", 1, "control character '\\0'"),
        ] {
            let flaw = scan(text).unwrap_err();
            assert_eq!(flaw.line, Some(line), "{text:?}");
            assert!(flaw.why.contains(why), "{text:?}: {}", flaw.why);
        }
    }
}
