//! Sizes as people write them: digits and a binary suffix.

/// Reads `4096`, `64K`, `16M`, `1G` (powers of 1024, either case) as bytes; `None` for anything else or past 2^64.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (text.get(..text.len().checked_sub(1)?)?, 10),
        b'm' | b'M' => (text.get(..text.len().checked_sub(1)?)?, 20),
        b'g' | b'G' => (text.get(..text.len().checked_sub(1)?)?, 30),
        _ => (text, 0),
    };
    parse_digits(digits)?.checked_mul(1 << shift)
}

/// Reads decimal digits only; `str::parse` would also take a sign.
#[must_use]
pub fn parse_digits(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64K", Some(65536)),
            ("16m", Some(16 << 20)),
            ("1G", Some(1 << 30)),
            ("", None),
            ("K", None),
            ("-1", None),
            ("+1", None),
            ("1.5M", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184G", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
