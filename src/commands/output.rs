//! Standard output: buffered, with names made fit for a terminal.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::error::{Error, Result};

/// Locked, buffered standard output.
pub struct Output {
    stream: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Takes standard output.
    pub fn open() -> Self {
        Self { stream: BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// `EPIPE` when the reader has gone, `ENOSPC` and the like.
    pub fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.stream, "{line}").map_err(failed)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// As for [`Output::line`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(failed)
    }

    /// Hands everything to the kernel; without it errors at the end would be lost.
    ///
    /// # Errors
    /// As for [`Output::line`].
    pub fn finish(mut self) -> Result<()> {
        self.stream.flush().map_err(failed)
    }
}

fn failed(e: io::Error) -> Error {
    Error::sys("write to", "standard output", e)
}

/// A name as text: control characters, backslashes and what is not UTF-8 become `\xNN` or `\\`, so that an image cannot send
/// escape sequences to a terminal and no two names look alike.
pub fn printable(name: &OsStr) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| push_hex(&mut text, b)),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|&b| push_hex(&mut text, b));
    }
    text
}

/// Adds a member to a JSON object.
pub fn add(object: &mut Value, key: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}

/// Adds a name to a JSON object: as text, and by its bytes as `KEY_hex` where they are not UTF-8.
pub fn add_bytes(object: &mut Value, key: &str, bytes: &OsStr) {
    let Some(members) = object.as_object_mut() else { return };
    members.insert(key.to_owned(), bytes.to_string_lossy().into());
    if bytes.to_str().is_none() {
        let hex: String = bytes.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        members.insert(format!("{key}_hex"), hex.into());
    }
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_reach_the_terminal_raw() {
        for (name, text) in [
            (&b"plain name"[..], "plain name"),
            ("h\u{e4}os".as_bytes(), "h\u{e4}os"),
            (b"a\x1b[31mb", "a\\x1b[31mb"),
            (b"a\nb\\c", "a\\x0ab\\\\c"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{9b}".as_bytes(), "\\xc2\\x9b"),
        ] {
            assert_eq!(printable(OsStr::from_bytes(name)), text);
        }
    }
}
