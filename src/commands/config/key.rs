//! How a key is named on the command line.

use crate::config::haos_ini::HAOS;
use crate::error::{Error, Result};

/// `KEY` in `[haos]`, or `SECTION.KEY`: the section ends at the first dot.
pub fn parse(text: &str) -> (String, String) {
    text.split_once('.').map_or_else(|| (HAOS.to_owned(), text.to_owned()), |(section, key)| (section.to_owned(), key.to_owned()))
}

/// `KEY=VALUE`.
///
/// # Errors
/// [`Error::Refused`] without a `=`.
pub fn parse_assignment(text: &str) -> Result<(String, String, String)> {
    let (name, value) = text.split_once('=').ok_or_else(|| Error::Refused(format!("{text}: expected KEY=VALUE")))?;
    let (section, key) = parse(name.trim());
    Ok((section, key, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_stands_before_the_first_dot() {
        for (text, section, key) in [
            ("system_image", "haos", "system_image"),
            ("network.address", "network", "address"),
            ("a.b.c", "a", "b.c"),
            (".a", "", "a"),
        ] {
            assert_eq!(parse(text), (section.to_owned(), key.to_owned()));
        }
        let (section, key, value) = parse_assignment("data_partition={x},fs=ext4").unwrap();
        assert_eq!((&*section, &*key, &*value), ("haos", "data_partition", "{x},fs=ext4"));
        assert!(parse_assignment("system_image").is_err());
    }
}
