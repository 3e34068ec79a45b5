//! What a new inode inherits from its directory: set-group-id, and POSIX default ACLs (acl(5), fs/posix_acl.c,
//! `posix_acl_create`). Needed where an object is made in the work directory first, for there the file system cannot do it.

use crate::types::Kind;

/// Name of the attribute that holds a default ACL.
pub const DEFAULT: &str = "system.posix_acl_default";
/// Name of the attribute that holds an access ACL.
pub const ACCESS: &str = "system.posix_acl_access";

/// `ACL_EA_VERSION` and the entry tags of `<linux/posix_acl_xattr.h>` and `<linux/posix_acl.h>`.
const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What a new inode starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Permission bits.
    pub perm: u32,
    /// Access ACL where the mode cannot express it.
    pub access: Option<Vec<u8>>,
    /// Default ACL of a new directory.
    pub default: Option<Vec<u8>>,
}

/// Applies the directory's default ACL, or else the umask, to the mode that a program asked for. A default ACL that is no
/// valid ACL counts as none.
#[must_use]
pub fn inherit(default: Option<&[u8]>, kind: Kind, perm: u32, umask: u32) -> Birth {
    let plain = || Birth { perm: perm & !umask, access: None, default: None };
    if kind == Kind::Symlink {
        return Birth { perm, access: None, default: None };
    }
    let Some(acl) = default else { return plain() };
    let Some((access, masked, extended)) = masked(acl, perm) else { return plain() };
    Birth { perm: masked, access: extended.then_some(access), default: kind.is_dir().then(|| acl.to_vec()) }
}

/// The access ACL made from a default ACL and a mode, the mode that results, and whether it says more than the mode.
fn masked(acl: &[u8], perm: u32) -> Option<(Vec<u8>, u32, bool)> {
    let (head, entries) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*head) != VERSION || !entries.len().is_multiple_of(8) {
        return None;
    }
    let tag = |entry: &[u8]| entry.first_chunk::<2>().map(|tag| u16::from_le_bytes(*tag));
    let has_mask = entries.chunks_exact(8).any(|entry| tag(entry) == Some(MASK));
    let mut out = head.to_vec();
    let mut mode = perm & !0o777;
    let mut extended = false;
    for entry in entries.chunks_exact(8) {
        let [t0, t1, p0, p1, id @ ..] = entry else { return None };
        let (tag, mut bits) = (u16::from_le_bytes([*t0, *t1]), u16::from_le_bytes([*p0, *p1]));
        let shift = match tag {
            USER_OBJ => Some(6),
            MASK => Some(3),
            GROUP_OBJ if !has_mask => Some(3),
            OTHER => Some(0),
            _ => None,
        };
        extended |= !matches!(tag, USER_OBJ | GROUP_OBJ | OTHER);
        if let Some(shift) = shift {
            bits &= u16::try_from((perm >> shift) & 0o7).ok()?;
            mode |= u32::from(bits) << shift;
        }
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&bits.to_le_bytes());
        out.extend_from_slice(id);
    }
    Some((out, mode, extended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&perm.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    const NONE: u32 = u32::MAX;
    const USER: u16 = 0x02;

    #[test]
    fn the_umask_counts_only_without_a_default_acl() {
        assert_eq!(inherit(None, Kind::File, 0o666, 0o022).perm, 0o644);
        let minimal = acl(&[(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 4, NONE)]);
        let birth = inherit(Some(&minimal), Kind::File, 0o666, 0o077);
        assert_eq!((birth.perm, birth.access, birth.default), (0o644, None, None));
    }

    #[test]
    fn the_mask_takes_the_group_bits() {
        let default = acl(&[(USER_OBJ, 7, NONE), (USER, 7, 1000), (GROUP_OBJ, 7, NONE), (MASK, 7, NONE), (OTHER, 0, NONE)]);
        let birth = inherit(Some(&default), Kind::Dir, 0o750, 0o022);
        assert_eq!(birth.perm, 0o750);
        let access = acl(&[(USER_OBJ, 7, NONE), (USER, 7, 1000), (GROUP_OBJ, 7, NONE), (MASK, 5, NONE), (OTHER, 0, NONE)]);
        assert_eq!(birth.access, Some(access));
        assert_eq!(birth.default, Some(default));
    }

    #[test]
    fn nonsense_is_no_acl() {
        for bytes in [&b""[..], b"\x02\0\0\0abc", b"\x01\0\0\0"] {
            assert_eq!(inherit(Some(bytes), Kind::File, 0o666, 0o022).perm, 0o644);
        }
    }
}
