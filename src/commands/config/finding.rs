//! What is wrong with a configuration, told to people or to programs.

use std::path::Path;

use serde_json::{Value, json};

use crate::commands::output::{add_bytes, printable};
use crate::config::ini::Flaw;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It will not work.
    Error,
    /// It may not be what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where and what.
    pub flaw: Flaw,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Finding {
    /// `error: FILE:LINE: KEY: WHY`.
    pub fn line(&self, file: &Path) -> String {
        format!("{}: {}:{}", self.severity.name(), printable(file.as_os_str()), self.flaw)
    }

    /// The same as an object.
    pub fn json(&self, file: &Path) -> Value {
        let mut object = json!({
            "severity": self.severity.name(),
            "line": self.flaw.line,
            "key": self.flaw.key,
            "means": self.flaw.why,
        });
        add_bytes(&mut object, "file", file.as_os_str());
        object
    }
}
