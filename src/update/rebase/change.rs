//! Whether two objects are one: content, kind and attributes; of an upper beside an image, or of two images.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::Namespace;
use crate::sys::data::{self, OFlags};
use crate::sys::spot::{Spot, Stat};
use crate::types::{Attr, Kind};
use crate::union::lower::{Lower, LowerId};

/// Bytes that are compared at a time.
const CHUNK: usize = 1 << 20;

/// Whether an object of an upper is what an image has: then nobody changed it since it was copied up.
///
/// Times of directories do not count: they change with the names in them. Access times never do.
///
/// # Errors
/// Where the upper cannot be read. An image that cannot be read has another object.
pub fn is_copy(spot: &Spot, stat: &Stat, lower: &dyn Lower, id: LowerId, namespace: Namespace) -> Result<bool> {
    match compare(spot, stat, lower, id, namespace) {
        Err(e @ Error::Damage(_)) => {
            tracing::warn!("what the upper has is taken for changed: {e}");
            Ok(false)
        }
        answer => answer,
    }
}

fn compare(spot: &Spot, stat: &Stat, lower: &dyn Lower, id: LowerId, namespace: Namespace) -> Result<bool> {
    let theirs = lower.attr(id)?;
    if !same_attributes(&stat.attr, &theirs) || xattrs_of(spot, namespace)? != lower_xattrs(lower, id, namespace)? {
        return Ok(false);
    }
    match theirs.kind {
        Kind::File => same_content(spot, lower, id, theirs.size),
        Kind::Symlink => Ok(spot.readlink()? == lower.readlink(id)?),
        _ => Ok(true),
    }
}

fn same_attributes(a: &Attr, b: &Attr) -> bool {
    let shared = a.kind == b.kind && (a.uid, a.gid) == (b.uid, b.gid) && (a.kind == Kind::Symlink || a.perm == b.perm);
    shared
        && match a.kind {
            Kind::Dir => true,
            Kind::File => a.size == b.size && a.mtime == b.mtime,
            _ => a.rdev == b.rdev && a.mtime == b.mtime,
        }
}

type Xattrs = BTreeMap<OsString, Vec<u8>>;

/// Without the marks of the format.
fn xattrs_of(spot: &Spot, namespace: Namespace) -> Result<Xattrs> {
    let mut found = Xattrs::new();
    for name in spot.xattr_names()? {
        if namespace.unescape(&name).is_some()
            && let Some(value) = spot.xattr(&name)?
        {
            found.insert(name, value);
        }
    }
    Ok(found)
}

fn lower_xattrs(lower: &dyn Lower, id: LowerId, namespace: Namespace) -> Result<Xattrs> {
    let mut found = Xattrs::new();
    for name in lower.xattr_names(id)? {
        if namespace.unescape(&name).is_some()
            && let Some(value) = lower.xattr(id, &name)?
        {
            found.insert(name, value);
        }
    }
    Ok(found)
}

/// Both have this size.
fn same_content(spot: &Spot, lower: &dyn Lower, id: LowerId, size: u64) -> Result<bool> {
    let file = spot.open_untouched(OFlags::RDONLY)?;
    let (mut at, mut ours) = (0, vec![0; CHUNK]);
    while at < size {
        let theirs = lower.read(id, at, CHUNK)?;
        let wanted = ours.get_mut(..theirs.len()).ok_or(Errno::EIO)?;
        let read = data::read_at(&file, wanted, at)?;
        let same = !theirs.is_empty() && read == theirs.len() && *wanted == *theirs;
        if !lower.is_intact(&theirs) || !same {
            return Ok(false);
        }
        at += theirs.len() as u64;
    }
    Ok(true)
}

/// Whether two images have the same object. Of directories only themselves are compared.
///
/// # Errors
/// Where one of them cannot be read.
pub fn is_same(a: (&dyn Lower, LowerId), b: (&dyn Lower, LowerId), namespace: Namespace) -> Result<bool> {
    let ((one, one_id), (other, other_id)) = (a, b);
    let (attr, other_attr) = (one.attr(one_id)?, other.attr(other_id)?);
    // A new image may have been built of the same files at another time.
    let untimed = |attr: Attr| Attr { mtime: crate::types::Time::default(), ..attr };
    if !same_attributes(&untimed(attr), &untimed(other_attr))
        || lower_xattrs(one, one_id, namespace)? != lower_xattrs(other, other_id, namespace)?
    {
        return Ok(false);
    }
    match attr.kind {
        Kind::File => same_bytes(one, one_id, other, other_id, attr.size),
        Kind::Symlink => Ok(one.readlink(one_id)? == other.readlink(other_id)?),
        _ => Ok(true),
    }
}

/// Levels that are looked into; a sound image has no more.
const DEEPEST: usize = 512;

/// Whether two images have the same object, with everything in it.
///
/// # Errors
/// As for [`is_same`].
pub fn is_same_tree(a: (&dyn Lower, LowerId), b: (&dyn Lower, LowerId), namespace: Namespace) -> Result<bool> {
    let mut waiting = vec![(a.1, b.1, 0)];
    while let Some((one, other, depth)) = waiting.pop() {
        if depth > DEEPEST || !is_same((a.0, one), (b.0, other), namespace)? {
            return Ok(false);
        }
        if !a.0.attr(one)?.kind.is_dir() {
            continue;
        }
        let (names, others) = (a.0.entries(one)?, b.0.entries(other)?);
        if names.len() != others.len() {
            return Ok(false);
        }
        for ((name, listed), (other_name, other_listed)) in names.iter().zip(&others) {
            match (a.0.listed(one, name, listed)?, b.0.listed(other, other_name, other_listed)?) {
                (Some(inner), Some(other_inner)) if name == other_name => waiting.push((inner, other_inner, depth + 1)),
                _ => return Ok(false),
            }
        }
    }
    Ok(true)
}

fn same_bytes(one: &dyn Lower, one_id: LowerId, other: &dyn Lower, other_id: LowerId, size: u64) -> Result<bool> {
    let mut at = 0;
    while at < size {
        let (a, b) = (one.read(one_id, at, CHUNK)?, other.read(other_id, at, CHUNK)?);
        let len = a.len().min(b.len());
        let same = len > 0 && a.get(..len) == b.get(..len);
        if !same || !one.is_intact(&a) || !other.is_intact(&b) {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}
