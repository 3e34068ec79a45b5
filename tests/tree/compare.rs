//! Strict comparison of two snapshots.

use std::fmt::Debug;

use super::snapshot::{Name, Seen, Snapshot};

/// What need not agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tolerance {
    /// Fractions of seconds, which squashfs does not keep.
    pub nanoseconds: bool,
    /// Modification times at all, where two trees were made one after the other.
    pub times: bool,
    /// Link counts of directories, which file systems count in their own ways.
    pub directory_links: bool,
    /// Extended attributes, in images without them.
    pub xattrs: bool,
    /// `system.posix_acl_*`, which squashfs does not keep.
    pub acls: bool,
    /// Link counts and grouping of files, which copy-up breaks without an index.
    pub hard_links: bool,
}

/// How many differences are worth reading.
const WORTH_READING: usize = 20;

/// Panics with the first differences, if there are any.
#[track_caller]
pub fn assert_same(what: &str, expected: &Snapshot, found: &Snapshot, tolerance: Tolerance) {
    let differences = differences(expected, found, tolerance);
    let shown = differences.iter().take(WORTH_READING).map(|line| format!("\n  {line}")).collect::<String>();
    assert!(differences.is_empty(), "{what}: {} differences{shown}", differences.len());
}

/// One line for each difference, in order of names.
pub fn differences(expected: &Snapshot, found: &Snapshot, tolerance: Tolerance) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, seen) in &expected.names {
        match found.names.get(name) {
            None => lines.push(format!("{}: missing", printable(name))),
            Some(other) => compare(name, seen, other, tolerance, &mut lines),
        }
    }
    let extra = found.names.keys().filter(|name| !expected.names.contains_key(*name));
    lines.extend(extra.map(|name| format!("{}: should not be there", printable(name))));
    lines
}

fn compare(name: &Name, expected: &Seen, found: &Seen, tolerance: Tolerance, lines: &mut Vec<String>) {
    let mut line = |field: &str, a: &dyn Debug, b: &dyn Debug| {
        lines.push(format!("{}: {field} should be {a:?}, is {b:?}", printable(name)));
    };
    macro_rules! same {
        ($field:literal, $get:expr) => {
            let get = $get;
            let (a, b) = (get(expected), get(found));
            if a != b {
                line($field, &a, &b);
            }
        };
    }
    same!("mode (octal)", |seen: &Seen| format!("{:o}", seen.mode));
    same!("owner", |seen: &Seen| seen.owner);
    same!("size", |seen: &Seen| seen.size);
    same!("device", |seen: &Seen| seen.rdev);
    same!("target", |seen: &Seen| seen.target.as_deref().map(printable));
    same!("digest of content", |seen: &Seen| seen.content);
    if !tolerance.times {
        same!("mtime", |seen: &Seen| (seen.mtime.0, if tolerance.nanoseconds { 0 } else { seen.mtime.1 }));
    }
    let is_dir = expected.mode & libc::S_IFMT == libc::S_IFDIR;
    let any_links = if is_dir { tolerance.directory_links } else { tolerance.hard_links };
    if !any_links {
        same!("link count", |seen: &Seen| seen.nlink);
    }
    if !tolerance.hard_links {
        same!("first name of the inode", |seen: &Seen| printable(&seen.first_name));
    }
    if !tolerance.xattrs {
        same!("attributes", |seen: &Seen| attributes(seen, tolerance));
    }
}

fn attributes(seen: &Seen, tolerance: Tolerance) -> Vec<(String, String)> {
    let shown = seen.xattrs.iter().filter(|(name, _)| !(tolerance.acls && name.starts_with(b"system.posix_acl_")));
    shown.map(|(name, value)| (printable(name), printable(value))).collect()
}

/// Bytes as text, with escapes.
pub fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
