//! Owner, mode, attributes and times of what stays.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::Work;
use super::survey::{Attributes, Node, Origin};
use crate::error::{Errno, Result};
use crate::ovl::xattr::Private;
use crate::sys::spot::{SetTime, Spot};
use crate::types::{Attr, Kind};

/// Gives an object of the new upper what it shall have; `from` is what it is made of in the old one. Owner first, for a change of
/// owner takes capabilities and set-id bits; times last.
pub fn dress(work: &Work<'_>, node: &Node, from: &Spot, to: &Spot) -> Result<()> {
    let found = to.stat()?.attr;
    let wanted = match node.attributes {
        Attributes::Own => node.stat.attr,
        Attributes::OfImage(id) => {
            let Attr { uid, gid, perm, .. } = work.new_image().attr(id)?;
            Attr { uid, gid, perm, ..node.stat.attr }
        }
    };
    if (found.uid, found.gid) != (wanted.uid, wanted.gid) {
        to.chown(Some(wanted.uid), Some(wanted.gid))?;
    }
    set_xattrs(to, &xattrs(work, node, from)?)?;
    // Attributes may have changed the mode, and a change of owner has.
    if wanted.kind != Kind::Symlink && to.stat()?.attr.perm != wanted.perm {
        to.chmod(wanted.perm)?;
    }
    Ok(to.set_times(SetTime::At(node.stat.attr.atime), SetTime::At(node.stat.attr.mtime))?)
}

type Xattrs = BTreeMap<OsString, Vec<u8>>;

/// Marks come from the old upper, the rest from whoever the attributes are of.
fn xattrs(work: &Work<'_>, node: &Node, from: &Spot) -> Result<Xattrs> {
    let namespace = work.request.namespace;
    let origin = namespace.name(Private::Origin);
    let mut wanted = Xattrs::new();
    for name in from.xattr_names()? {
        let is_mark = namespace.unescape(&name).is_none();
        if name != origin
            && (is_mark || node.attributes == Attributes::Own)
            && let Some(value) = from.xattr(&name)?
        {
            wanted.insert(name, value);
        }
    }
    if let Attributes::OfImage(id) = node.attributes {
        let image = work.new_image();
        for name in image.xattr_names(id)?.into_iter().filter(|name| namespace.unescape(name).is_some()) {
            if let Some(value) = image.xattr(id, &name)? {
                wanted.insert(name, value);
            }
        }
    }
    if let Origin::Is(value) = &node.origin {
        wanted.insert(origin, value.clone());
    }
    Ok(wanted)
}

fn set_xattrs(to: &Spot, wanted: &Xattrs) -> Result<()> {
    for name in to.xattr_names()?.into_iter().filter(|name| !wanted.contains_key(name)) {
        match to.remove_xattr(&name) {
            // The mode holds it, too: an access list without more than that.
            Ok(()) | Err(Errno::ENODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    for (name, value) in wanted {
        if to.xattr(name)?.as_ref() == Some(value) {
            continue;
        }
        match to.set_xattr(name, value, 0) {
            Ok(()) => {}
            // As at copy-up: what the file system cannot hold is left out, unless access depends on it.
            Err(Errno::EOPNOTSUPP) if !name.as_bytes().starts_with(b"security.") && !name.as_bytes().starts_with(b"system.") => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
