//! Comparing two merged trees, and two uppers as they lie on disk.

use std::path::Path;

use super::layers::{LINKED, Rights};
use super::listed::{Cache, NOT_COMPARED, forgive, forgive_missing_data, forgive_names};
use crate::mounted::union::Union;
use crate::tree::compare::{Tolerance, differences};
use crate::tree::snapshot::{Seen, Snapshot};

/// Differences that are worth reading.
const WORTH_READING: usize = 12;

/// Compares the merged trees, everything that programs see, and the uppers: whiteouts, marks, and all else that they hold.
///
/// # Errors
/// What differs.
pub fn same_unions(kernel: &Union, ours: &Union, rights: Rights, cache: Cache, indexed: bool) -> Result<(), String> {
    let (upper, our_upper) = (read("kernel's upper", kernel.upper())?, read("haosfs' upper", ours.upper())?);
    let mut merged = read("kernel's union", kernel.path())?;
    identify_by(&upper, &mut merged, indexed);
    same("merged trees", merged, read("haosfs' union", ours.path())?, cache, indexed)?;
    let (mut upper, mut our_upper) = (bare(upper, rights), bare(our_upper, rights));
    if indexed {
        forgive_names(&mut upper, &mut our_upper);
    }
    for (name, seen) in &mut upper.names {
        if let Some(other) = our_upper.names.get_mut(name) {
            forgive_missing_data(seen, other, prefix(rights));
        }
    }
    same("uppers", upper, our_upper, Cache::Empty, indexed)
}

/// "Every inode has one device number": in the kernel's, hard links of a file that was copied up show different numbers while it
/// is mounted. So which of its names are one file is taken from the upper, but for those that an index keeps together.
fn identify_by(upper: &Snapshot, merged: &mut Snapshot, indexed: bool) {
    for (name, seen) in &mut merged.names {
        if indexed && seen.xattrs.contains_key(LINKED.as_bytes()) {
            continue;
        }
        if let Some(stored) = upper.names.get(name) {
            seen.first_name.clone_from(&stored.first_name);
        }
    }
}

fn read(what: &str, root: &Path) -> Result<Snapshot, String> {
    Snapshot::read(root).map_err(|e| format!("reading the {what}: {}", e.to_string().replace(&*root.to_string_lossy(), "")))
}

fn same(what: &str, mut kernel: Snapshot, mut ours: Snapshot, cache: Cache, indexed: bool) -> Result<(), String> {
    for (name, seen) in &mut kernel.names {
        if let Some(other) = ours.names.get_mut(name) {
            forgive(seen, other, cache, indexed);
        }
    }
    let lines = differences(&kernel, &ours, Tolerance::default());
    match lines.len() {
        0 => Ok(()),
        count => Err(format!("{what}: {count} differences\n  {}", lines[..count.min(WORTH_READING)].join("\n  "))),
    }
}

/// Leaves out the attributes that are not compared. Of whiteouts only that they are there counts: both drivers make them
/// as hard links of one, whose count, mode and time say nothing.
fn bare(mut upper: Snapshot, rights: Rights) -> Snapshot {
    let prefix = prefix(rights);
    for (name, seen) in &mut upper.names {
        if seen.mode & libc::S_IFMT == libc::S_IFCHR && seen.rdev == 0 {
            *seen =
                Seen { mode: libc::S_IFCHR, owner: (0, 0), nlink: 1, mtime: (0, 0), first_name: name.clone(), ..seen.clone() };
        }
        NOT_COMPARED.iter().for_each(|suffix| drop(seen.xattrs.remove(format!("{prefix}{suffix}").as_bytes())));
    }
    upper
}

const fn prefix(rights: Rights) -> &'static str {
    match rights {
        Rights::Root => "trusted.overlay.",
        Rights::Namespace => "user.overlay.",
    }
}
