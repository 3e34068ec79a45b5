//! Bytes in one word of plain ASCII.

use std::fmt::Write as _;

/// `%xx` for every byte that is not plain, and for `%`.
pub fn escaped(bytes: &[u8], is_plain: impl Fn(u8) -> bool) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if is_plain(byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

/// The bytes that were escaped; `None` for what cannot be.
pub fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(hex_byte(digits)?);
        rest = after;
    }
    Some(bytes)
}

/// Two lower-case digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A SHA-256 in lower-case digits.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = hex_byte(digits)?;
    }
    Some(bytes)
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(is_hex)).and_then(|text| u8::from_str_radix(text, 16).ok())
}
