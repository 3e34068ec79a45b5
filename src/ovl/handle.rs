//! File handles as the format stores them: in `origin` the identity of the lower inode that was copied up
//! (fs/overlayfs/overlayfs.h, `struct ovl_fb`; checked by namei.c, `ovl_check_fb_len`).
//!
//! ```text
//! byte  0        1       2              3      4     5..21  21..
//!       version  0xfb    length of all  flags  type  uuid   fid, as the file system gives it
//! ```

/// UUID of a file system, in the byte order of its superblock; all zeros where it has none.
pub type Uuid = [u8; 16];

/// Longest `fid`, in bytes (`MAX_HANDLE_SZ` of `<linux/exportfs.h>`).
pub const FID_MAX: usize = 128;

/// Type of a `fid` of a 32-bit inode number and a 32-bit generation, both in the machine's byte order (`FILEID_INO32_GEN`).
pub const INO32_GEN: u8 = 1;

const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
/// Bytes before the `fid`.
const HEAD: usize = 21;

const BIG_ENDIAN: u8 = 1;
const ANY_ENDIAN: u8 = 2;
const UPPER: u8 = 4;
const KNOWN: u8 = BIG_ENDIAN | ANY_ENDIAN | UPPER;
/// What this machine writes (`OVL_FH_FLAG_CPU_ENDIAN`).
const ENDIAN: u8 = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };

/// The identity of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The file system it is on.
    pub uuid: Uuid,
    /// What `fid` is made of; file systems choose it (`enum fid_type` of `<linux/exportfs.h>`).
    pub kind: u8,
    /// What the file system finds the inode by, at most [`FID_MAX`] bytes.
    pub fid: Vec<u8>,
    /// It is an inode of the upper.
    pub upper: bool,
}

/// What the value of an `origin` attribute tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Nothing: copied up from a layer whose inodes cannot be found again.
    Empty,
    /// Written by a newer kernel or on a machine of another byte order: to be taken for no origin.
    Unknown,
    /// No handle at all.
    Invalid,
    /// A handle.
    Handle(Handle),
}

impl Handle {
    /// The handle of inode `ino` of generation 0 on a file system without UUID, as the kernel's squashfs gives it
    /// (fs/libfs.c, `generic_encode_ino32_fh`).
    #[must_use]
    pub fn of_number(ino: u32) -> Self {
        Self { uuid: Uuid::default(), kind: INO32_GEN, fid: [ino.to_ne_bytes(), [0; 4]].concat(), upper: false }
    }

    /// The inode number, where the `fid` begins with one of 32 bits.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        let (number, _generation) =
            self.fid.split_first_chunk::<4>().filter(|(_, rest)| self.kind == INO32_GEN && rest.len() >= 4)?;
        Some(u32::from_ne_bytes(*number))
    }

    /// The value to be stored; `None` where the `fid` is too long.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u8::try_from(HEAD + self.fid.len()).ok().filter(|_| self.fid.len() <= FID_MAX)?;
        let flags = ENDIAN | if self.upper { UPPER } else { 0 };
        Some([&[VERSION, MAGIC, length, flags, self.kind], self.uuid.as_slice(), &self.fid].concat())
    }
}

/// Bytes of the handle that a value begins with, as it says itself.
#[must_use]
pub fn length(value: &[u8]) -> Option<usize> {
    value.get(2).map(|length| usize::from(*length))
}

/// Reads a stored value. Bytes after the length that it names do not count.
#[must_use]
pub fn decode(value: &[u8]) -> Decoded {
    if value.is_empty() {
        return Decoded::Empty;
    }
    let Some((&[version, magic, length, flags, kind], rest)) = value.split_first_chunk::<5>() else { return Decoded::Invalid };
    let Some((uuid, fid)) = rest.split_first_chunk::<16>() else { return Decoded::Invalid };
    let Some(fid) = usize::from(length).checked_sub(HEAD).and_then(|len| fid.get(..len)) else { return Decoded::Invalid };
    if magic != MAGIC {
        return Decoded::Invalid;
    }
    let other_order = flags & ANY_ENDIAN == 0 && flags & BIG_ENDIAN != ENDIAN;
    if version > VERSION || flags & !KNOWN != 0 || other_order {
        return Decoded::Unknown;
    }
    Decoded::Handle(Handle { uuid: *uuid, kind, fid: fid.to_vec(), upper: flags & UPPER != 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: Uuid = [0x70, 0xe6, 0x63, 0x8a, 0x19, 0x46, 0x18, 0x8f, 0xa8, 0xe4, 0x4e, 0x06, 0xef, 0xb1, 0x3f, 0x07];

    /// Five bytes, a UUID, a fid.
    fn value(head: [u8; 5], uuid: Uuid, fid: &[u8]) -> Vec<u8> {
        [head.as_slice(), &uuid, fid].concat()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_bytes() {
        let of_ext4 = Handle { uuid: UUID, kind: 1, fid: vec![4, 0, 1, 0, 0xe8, 0x45, 0xd1, 0xa2], upper: false };
        let of_xfs = Handle { kind: 0x81, fid: vec![0x86, 0, 0, 0, 0, 0, 0, 0, 6, 0x3d, 0x6e, 0x6a], ..of_ext4.clone() };
        let in_upper = Handle { upper: true, ..of_ext4.clone() };
        for (handle, bytes) in [
            (Handle::of_number(3), value([0, 0xfb, 29, 0, 1], [0; 16], &[3, 0, 0, 0, 0, 0, 0, 0])),
            (of_ext4.clone(), value([0, 0xfb, 29, 0, 1], UUID, &of_ext4.fid)),
            (of_xfs.clone(), value([0, 0xfb, 33, 0, 0x81], UUID, &of_xfs.fid)),
            (in_upper, value([0, 0xfb, 29, 4, 1], UUID, &of_ext4.fid)),
        ] {
            assert_eq!(handle.encode().as_ref(), Some(&bytes));
            assert_eq!(decode(&bytes), Decoded::Handle(handle));
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn what_is_no_handle_of_ours() {
        let fid = [3, 0, 0, 0, 0, 0, 0, 0];
        let with = |head| value(head, UUID, &fid);
        for (bytes, expected) in [
            (vec![], Decoded::Empty),
            (with([1, 0xfb, 29, 0, 1]), Decoded::Unknown),
            (with([0, 0xfb, 29, 8, 1]), Decoded::Unknown),
            (with([0, 0xfb, 29, 1, 1]), Decoded::Unknown),
            (with([0, 0xfa, 29, 0, 1]), Decoded::Invalid),
            (with([0, 0xfb, 30, 0, 1]), Decoded::Invalid),
            (with([0, 0xfb, 20, 0, 1]), Decoded::Invalid),
            (vec![0], Decoded::Invalid),
            (value([0, 0xfb, 21, 0, 1], UUID, &[])[..20].to_vec(), Decoded::Invalid),
        ] {
            assert_eq!(decode(&bytes), expected, "{bytes:x?}");
        }
        for flags in [2, 3] {
            assert!(matches!(decode(&with([0, 0xfb, 29, flags, 1])), Decoded::Handle(_)), "{flags}");
        }
    }

    #[test]
    fn numbers() {
        let handle = Handle::of_number(70_000);
        assert_eq!(handle.number(), Some(70_000));
        assert_eq!(Handle { kind: 0x81, ..handle.clone() }.number(), None);
        assert_eq!(Handle { fid: vec![1; 7], ..handle }.number(), None);
    }

    #[test]
    fn a_fid_too_long_is_not_stored() {
        let handle = |len| Handle { uuid: UUID, kind: 1, fid: vec![0; len], upper: false };
        assert!(handle(FID_MAX).encode().is_some());
        assert_eq!(handle(FID_MAX + 1).encode(), None);
        assert_eq!(handle(300).encode(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            let mut plausible = bytes;
            for (byte, value) in plausible.iter_mut().zip([VERSION, MAGIC]) {
                *byte = value;
            }
            let _ = decode(&plausible);
        }

        #[test]
        fn what_is_stored_is_read(
            uuid in any::<Uuid>(), kind in any::<u8>(), fid in prop::collection::vec(any::<u8>(), 0..=FID_MAX), upper in any::<bool>()
        ) {
            let handle = Handle { uuid, kind, fid, upper };
            prop_assert_eq!(decode(&handle.encode().unwrap()), Decoded::Handle(handle));
        }
    }
}
