//! Ini files as people write them: read without losing anything, changed line by line.
//!
//! A file is `[section]` lines, `key = value` lines (`:` does as well), and comments, which begin with `#` or `;` as the first
//! character of a line that is no blank. A value is the rest of its line without the blanks around it: no quotes, no escapes, no
//! comment behind it.

mod edit;
mod flaw;
mod lines;
mod sections;

pub use edit::{Edit, edited};
pub use flaw::Flaw;
pub use sections::{Entry, Section, read};
