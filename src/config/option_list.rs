//! The shape of `-o` lists: items between commas, `name` or `name=value`, with the kernel overlayfs' backslash escapes
//! (fs/overlayfs/params.c: `\,` in any value, `\:` between lower directories, `\\` for a backslash).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Splits at every `separator` that no backslash precedes; the pieces keep their escapes.
#[must_use]
pub fn split_unescaped(list: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut escaped = false;
    let mut rest = list;
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        if byte == separator && !escaped {
            let (piece, tail) = rest.split_at(at);
            pieces.push(piece);
            rest = tail.get(1..).unwrap_or_default();
            at = 0;
            continue;
        }
        escaped = byte == b'\\' && !escaped;
        at += 1;
    }
    pieces.push(rest);
    pieces
}

/// Removes one level of backslashes: each stands for the byte after it. A backslash at the end stands for itself.
#[must_use]
pub fn unescape(value: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    OsString::from_vec(plain)
}

/// The name and, where there is a `=`, the value of one item.
#[must_use]
pub fn name_and_value(item: &[u8]) -> (&[u8], Option<&[u8]>) {
    item.iter().position(|&b| b == b'=').map_or((item, None), |at| {
        let (name, value) = item.split_at(at);
        (name, value.get(1..))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_at_separators_that_are_not_escaped() {
        for (list, pieces) in [
            ("a:b:c", vec!["a", "b", "c"]),
            ("a\\:b:c", vec!["a\\:b", "c"]),
            ("a\\\\:b", vec!["a\\\\", "b"]),
            ("", vec![""]),
            (":", vec!["", ""]),
            ("a\\", vec!["a\\"]),
        ] {
            let pieces: Vec<&[u8]> = pieces.iter().map(|p| p.as_bytes()).collect();
            assert_eq!(split_unescaped(list.as_bytes(), b':'), pieces, "{list}");
        }
    }

    #[test]
    fn a_backslash_stands_for_the_byte_after_it() {
        for (escaped, plain) in [("a\\:b", "a:b"), ("a\\\\b", "a\\b"), ("a\\,b", "a,b"), ("a\\", "a\\"), ("", "")] {
            assert_eq!(unescape(escaped.as_bytes()), OsString::from(plain), "{escaped}");
        }
    }

    #[test]
    fn only_the_first_equals_sign_separates() {
        assert_eq!(name_and_value(b"fsname=a=b"), (&b"fsname"[..], Some(&b"a=b"[..])));
        assert_eq!(name_and_value(b"ro"), (&b"ro"[..], None));
        assert_eq!(name_and_value(b"fsname="), (&b"fsname"[..], Some(&b""[..])));
    }
}
