//! What is wrong with a file, and where.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The line, from 1; `None` where it is something that is missing.
    pub line: Option<usize>,
    /// The key.
    pub key: Option<String>,
    /// What was found and what was expected.
    pub why: String,
}

impl Flaw {
    /// A flaw of a line.
    pub fn at(line: usize, why: impl Into<String>) -> Self {
        Self { line: Some(line), key: None, why: why.into() }
    }

    /// A flaw of a key's value.
    pub fn of(line: usize, key: &str, why: impl Into<String>) -> Self {
        Self { line: Some(line), key: Some(key.to_owned()), why: why.into() }
    }

    /// A key that is not there.
    pub fn without(key: &str, why: impl Into<String>) -> Self {
        Self { line: None, key: Some(key.to_owned()), why: why.into() }
    }
}

impl fmt::Display for Flaw {
    /// `LINE: KEY: WHY`, to be put behind the file's name and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        } else {
            f.write_str(" ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.why)
    }
}
