//! The union's own UUID, which the kernel's overlayfs keeps on the root of the upper and shows in statfs(2) (util.c,
//! `ovl_init_uuid_xattr`). FUSE cannot show it, but hands it on to the kernel's next mount.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use super::Upper;
use crate::error::Errno;
use crate::ovl::xattr::Private;
use crate::sys::spot::Spot;

/// The option `uuid` (overlayfs.rst, "UUID and fsid").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UuidMode {
    /// None is given to an upper; one that it has stays.
    #[default]
    Null,
    /// The same, and handles do not say which file system they are of, where all layers are on one.
    Off,
    /// An upper that is new is given one.
    Auto,
    /// One that has none is given one.
    On,
}

/// Bytes of a UUID.
const LEN: usize = 16;

/// Gives an upper its UUID where `mode` asks for that. As in the kernel's, a mount goes on without.
pub(super) fn give(upper: &Upper, mode: UuidMode) {
    if matches!(mode, UuidMode::Auto | UuidMode::On)
        && let Err(e) = try_give(upper, mode)
    {
        tracing::warn!("{}: cannot be given a UUID, so it stays without: {e}", upper.path().display());
    }
}

fn try_give(upper: &Upper, mode: UuidMode) -> Result<(), Errno> {
    let root = Spot::Fd(Arc::clone(upper.root()));
    if upper.private(&root, Private::Uuid)?.is_some_and(|uuid| uuid.len() == LEN) {
        return Ok(());
    }
    // Copy-up, and looking up a directory that merges, marks the root.
    if mode == UuidMode::Auto && upper.private(&root, Private::Impure)?.is_some() {
        return Ok(());
    }
    upper.set_private(&root, Private::Uuid, &random()?)
}

/// Version 4 of RFC 9562.
fn random() -> Result<[u8; LEN], Errno> {
    let mut uuid = [0; LEN];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut uuid)).map_err(Errno::from)?;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut uuid;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    Ok(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_random() {
        let (a, b) = (random().unwrap(), random().unwrap());
        assert_ne!(a, b);
        assert_eq!((a[6] >> 4, a[8] >> 6), (4, 2));
    }
}
