//! Just enough of Rust's lexical structure to find words and braces: comments, strings and characters become spaces.

/// The same text, line by line, with comments and literals blanked out.
pub fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        match end {
            Some(end) => {
                out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8(out).unwrap()
}

/// Where the comment or literal that begins at `at` ends; `None` where none begins.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return Some(rest.iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n));
    }
    if rest.starts_with(b"/*") {
        return Some(block_comment_end(bytes, at));
    }
    if rest[0] == b'r' && !(word_before && bytes[at - 1] != b'b') {
        return raw_string_end(bytes, at);
    }
    match rest[0] {
        b'"' => Some(quoted_end(bytes, at, b'"')),
        b'\'' if rest.get(1) == Some(&b'\\') => Some(quoted_end(bytes, at, b'\'')),
        // 'x' is a character, 'x without a quote after it a lifetime; characters of several bytes are never lifetimes.
        b'\'' => {
            let close = rest.iter().skip(1).take(5).position(|&b| b == b'\'')?;
            (close == 1 || (close > 1 && !rest[1].is_ascii())).then_some(at + close + 2)
        }
        _ => None,
    }
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = at + 2 + hashes;
    let length = bytes[body..].windows(close.len()).position(|w| w == close)?;
    Some(body + length + close.len())
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut end = at;
    while end < bytes.len() {
        if bytes[end..].starts_with(b"/*") {
            depth += 1;
            end += 2;
        } else if bytes[end..].starts_with(b"*/") {
            depth -= 1;
            end += 2;
            if depth == 0 {
                break;
            }
        } else {
            end += 1;
        }
    }
    end
}

/// The identifiers of blanked text with their positions.
pub fn words(blanked: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + blanked[at..].find(is_word)?;
        let end = blanked[start..].find(|c| !is_word(c)).map_or(blanked.len(), |n| start + n);
        at = end;
        Some((start, &blanked[start..end]))
    })
}

#[test]
fn comments_and_literals_become_spaces() {
    for (source, blanked) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("{ \" }") + 1"#, "f(        ) + 1"),
        ("g('{', '\\'', b'}')", "g(   ,     , b   )"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("let s = r#\"unsafe { \"x\" \"#;", "let s =                   ;"),
        ("var\"x\"", "var   "),
    ] {
        assert_eq!(blank(source), blanked);
    }
}
