//! File systems by their superblocks: type, id and name. Where each format keeps them is written in its Linux source
//! (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h, include/uapi/linux/btrfs_tree.h, include/linux/f2fs_fs.h, fs/erofs/erofs_fs.h,
//! include/uapi/linux/msdos_fs.h, fs/exfat/exfat_raw.h, fs/ntfs3/ntfs.h).

/// A file system's type, id and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// As mount(8) takes it.
    pub kind: &'static str,
    /// Its UUID or serial number as blkid(8) writes it, in lower case.
    pub uuid: Option<String>,
    /// Its name.
    pub label: Option<String>,
}

impl FileSystem {
    /// False for those of which it is known that whiteouts and extended attributes of overlayfs cannot be stored in them, or that
    /// they are only the wrapping of another.
    #[must_use]
    pub fn may_hold_uppers(&self) -> bool {
        !matches!(self.kind, "vfat" | "exfat" | "ntfs" | "squashfs" | "erofs" | LUKS | RAID)
    }

    /// What stands for all that is known of a part of an array.
    #[must_use]
    pub fn part_of_raid() -> Self {
        Self { kind: RAID, ..Self::default() }
    }
}

/// What blkid(8) calls a device that is part of an array of the kernel's.
pub const RAID: &str = "linux_raid_member";

/// What it calls a volume that has to be unlocked.
pub const LUKS: &str = "crypto_LUKS";

/// Finds out whether a device of `size` bytes is part of an array whose metadata are at the end: the kernel's versions 0.90 and 1.0
/// (include/uapi/linux/raid/md_p.h), Intel's and DDF. Such a one looks like what is on the array, and whoever writes to it alone leaves the
/// array with parts that differ. `ends` is where what it begins with says that it ends.
///
/// What is on an array ends before them. What goes on has its own bytes there, whatever they look like, or was made when the array was no
/// more.
#[must_use]
pub fn is_raid_member(ends: Option<u64>, read: &dyn Fn(u64, usize) -> Option<Vec<u8>>, size: u64) -> bool {
    let has_at = |at: &u64, magic: &[u8]| read(*at, magic.len()).is_some_and(|found| found == magic);
    let old = (size & !(MD_RESERVED - 1)).checked_sub(MD_RESERVED).filter(|at| {
        // In the order of the processor that has made it.
        [MD_MAGIC.to_le_bytes(), MD_MAGIC.to_be_bytes()].iter().any(|magic| has_at(at, magic)) && has_at(&(at + 4), &[0; 4])
    });
    let new = (size / SECTOR).checked_sub(16).map(|sector| (sector & !7) * SECTOR);
    let new = new.filter(|at| is_recent_md(&read(*at, MD_LOOKED_AT).unwrap_or_default(), *at));
    let firmware = FIRMWARE.iter().filter_map(|(behind, magic)| size.checked_sub(*behind).filter(|at| has_at(at, magic)));
    [old, new].into_iter().flatten().chain(firmware).any(|at| ends.is_none_or(|end| end <= at || end > size))
}

/// What is known of arrays that a disk's firmware knows, too: Intel's anchor in the last block but one (mdadm, super-intel.c), and DDF's in
/// the last sector, in either order of bytes (SNIA, "Common RAID Disk Data Format"); by bytes before the end.
const FIRMWARE: [(u64, &[u8]); 4] = [
    (2 * 512, b"Intel Raid ISM Cfg Sig. "),
    (2 * 4096, b"Intel Raid ISM Cfg Sig. "),
    (512, &[0xde, 0x11, 0xde, 0x11]),
    (512, &[0x11, 0xde, 0x11, 0xde]),
];

/// Version 1 says where it stands.
fn is_recent_md(bytes: &[u8], at: u64) -> bool {
    has(bytes, 0, &MD_MAGIC.to_le_bytes()) && has(bytes, 4, &1_u32.to_le_bytes()) && has(bytes, 144, &(at / SECTOR).to_le_bytes())
}

/// Versions 1.1 and 1.2, which stand at the beginning.
fn md(bytes: &[u8]) -> Option<FileSystem> {
    let stands = |at: usize| bytes.get(at..).is_some_and(|rest| is_recent_md(rest, at as u64));
    (stands(0) || stands(4096)).then(FileSystem::part_of_raid)
}

/// Where a file system says that it ends; `None` for those that cannot hold an upper, and for what makes no sense.
pub fn end_of(start: &[u8]) -> Option<u64> {
    let le = |at: usize| start.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes).map(u64::from);
    let le64 = |at: usize| start.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let be = |at: usize| start.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes).map(u64::from);
    let be64 = |at: usize| start.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    let shifted = |one: u64, by: u64| (by < 32).then_some(one << by);
    match identify(start)?.kind {
        "xfs" => be(4)?.checked_mul(be64(8)?),
        "btrfs" => le64(BTRFS + 0xc9 + 8),
        "f2fs" => le64(1024 + 36)?.checked_mul(shifted(1, le(1024 + 16)?)?),
        "ext2" | "ext3" | "ext4" => {
            const INCOMPAT_64BIT: u64 = 0x80;
            let high = if le(1024 + 0x60)? & INCOMPAT_64BIT == 0 { 0 } else { le(1024 + 0x150)? };
            (high << 32 | le(1024 + 4)?).checked_mul(shifted(1024, le(1024 + 0x18)?)?)
        }
        _ => None,
    }
}

const MD_MAGIC: u32 = 0xa92b_4efc;
/// Version 0.90 has the last whole 64 KiB for itself.
const MD_RESERVED: u64 = 64 << 10;
const SECTOR: u64 = 512;
/// To the end of what is looked at of version 1.
const MD_LOOKED_AT: usize = 152;

/// Bytes from the beginning of a device that are looked at: to the end of a btrfs superblock.
pub const LOOKED_AT: usize = (64 << 10) + 4096;

const BTRFS: usize = 64 << 10;

/// What the first bytes of a device tell; `None` where they tell nothing, or more than one thing. A part of an array and a locked
/// volume are that whatever else is there: making them leaves what was there before, where it is not in their way, and making a file
/// system leaves nothing of them.
#[must_use]
pub fn identify(bytes: &[u8]) -> Option<FileSystem> {
    md(bytes).or_else(|| luks(bytes)).or_else(|| {
        let mut found = file_systems(bytes);
        let first = found.next()?;
        // What is left of another file system could be the one that is meant.
        found.next().is_none().then_some(first)
    })
}

fn file_systems(bytes: &[u8]) -> impl Iterator<Item = FileSystem> {
    [ext, xfs, btrfs, f2fs, erofs, squashfs, ntfs, exfat, vfat].into_iter().filter_map(|read| read(bytes))
}

/// True for what is on a CD or DVD and nowhere else: its volume descriptors are behind 16 sectors of 2 KiB (ECMA-119, 8.1; ECMA-167,
/// 2/9.1).
#[must_use]
pub fn is_optical(bytes: &[u8]) -> bool {
    const FIRST: usize = 16 * 2048;
    [b"CD001", b"BEA01"].iter().any(|id| has(bytes, FIRST + 1, *id)) && file_systems(bytes).next().is_none()
}

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

fn ext(bytes: &[u8]) -> Option<FileSystem> {
    const SUPERBLOCK: usize = 1024;
    const HAS_JOURNAL: u32 = 0x4;
    /// extents, 64bit, flex_bg.
    const EXT4: u32 = 0x40 | 0x80 | 0x200;
    if !has(bytes, SUPERBLOCK + 0x38, &[0x53, 0xef]) {
        return None;
    }
    let word = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes);
    let kind = match (word(SUPERBLOCK + 0x60) & EXT4, word(SUPERBLOCK + 0x5c) & HAS_JOURNAL) {
        (0, 0) => "ext2",
        (0, _) => "ext3",
        _ => "ext4",
    };
    Some(FileSystem { kind, uuid: uuid(bytes, SUPERBLOCK + 0x68), label: label(bytes, SUPERBLOCK + 0x78, 16) })
}

fn xfs(bytes: &[u8]) -> Option<FileSystem> {
    has(bytes, 0, b"XFSB").then(|| FileSystem { kind: "xfs", uuid: uuid(bytes, 32), label: label(bytes, 108, 12) })
}

fn btrfs(bytes: &[u8]) -> Option<FileSystem> {
    let found = has(bytes, BTRFS + 0x40, b"_BHRfS_M");
    found.then(|| FileSystem { kind: "btrfs", uuid: uuid(bytes, BTRFS + 0x20), label: label(bytes, BTRFS + 0x12b, 256) })
}

fn f2fs(bytes: &[u8]) -> Option<FileSystem> {
    let name = || {
        let units: Vec<u16> = bytes.get(1148..1148 + 1024)?.as_chunks().0.iter().map(|two| u16::from_le_bytes(*two)).collect();
        let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
        Some(String::from_utf16_lossy(units.get(..end)?)).filter(|name| !name.is_empty())
    };
    has(bytes, 1024, &0xf2f5_2010_u32.to_le_bytes()).then(|| FileSystem { kind: "f2fs", uuid: uuid(bytes, 1132), label: name() })
}

fn erofs(bytes: &[u8]) -> Option<FileSystem> {
    let found = has(bytes, 1024, &0xe0f5_e1e2_u32.to_le_bytes());
    found.then(|| FileSystem { kind: "erofs", uuid: uuid(bytes, 1072), label: label(bytes, 1088, 16) })
}

fn squashfs(bytes: &[u8]) -> Option<FileSystem> {
    has(bytes, 0, b"hsqs").then(|| FileSystem { kind: "squashfs", ..FileSystem::default() })
}

fn luks(bytes: &[u8]) -> Option<FileSystem> {
    let found = has(bytes, 0, b"LUKS\xba\xbe");
    found.then(|| FileSystem { kind: LUKS, uuid: label(bytes, 168, 40).map(|id| id.to_ascii_lowercase()), label: None })
}

fn ntfs(bytes: &[u8]) -> Option<FileSystem> {
    has(bytes, 3, b"NTFS    ").then(|| FileSystem { kind: "ntfs", uuid: serial(bytes, 72, 8), label: None })
}

fn exfat(bytes: &[u8]) -> Option<FileSystem> {
    has(bytes, 3, b"EXFAT   ").then(|| FileSystem { kind: "exfat", uuid: dashed(bytes, 100), label: None })
}

/// The name of a FAT stands in its root directory, too, and there it may be another: only the id is taken.
fn vfat(bytes: &[u8]) -> Option<FileSystem> {
    if !has(bytes, 510, &[0x55, 0xaa]) {
        return None;
    }
    let at = if has(bytes, 82, b"FAT32   ") {
        67
    } else if has(bytes, 54, b"FAT16   ") || has(bytes, 54, b"FAT12   ") {
        39
    } else {
        return None;
    };
    Some(FileSystem { kind: "vfat", uuid: dashed(bytes, at), label: None })
}

fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let id: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    (id != [0; 16]).then(|| uuid_text(&id))
}

/// 8-4-4-4-12 hexadecimal digits in the order of the bytes.
pub fn uuid_text(id: &[u8; 16]) -> String {
    let hex: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let group = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().concat();
    [group(0..4), group(4..6), group(6..8), group(8..10), group(10..16)].join("-")
}

/// Text that ends at the first zero; spaces at its end do not count.
fn label(bytes: &[u8], at: usize, len: usize) -> Option<String> {
    let field = bytes.get(at..at + len)?.split(|byte| *byte == 0).next()?;
    let text = String::from_utf8_lossy(field).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// A little-endian serial number in hexadecimal digits.
fn serial(bytes: &[u8], at: usize, len: usize) -> Option<String> {
    bytes.get(at..at + len).map(|id| id.iter().rev().map(|byte| format!("{byte:02x}")).collect())
}

/// The same in two groups.
fn dashed(bytes: &[u8], at: usize) -> Option<String> {
    let serial = serial(bytes, at, 4)?;
    serial.split_at_checked(4).map(|(high, low)| format!("{high}-{low}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(marks: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; LOOKED_AT];
        for (at, mark) in marks {
            bytes[*at..at + mark.len()].copy_from_slice(mark);
        }
        bytes
    }

    #[test]
    fn superblocks_tell_type_id_and_name() {
        let id: [u8; 16] = std::array::from_fn(|n| u8::try_from(n).unwrap() + 0xa0);
        let text = "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf";
        let f2fs_name: Vec<u8> = "däta".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (marks, kind, uuid, label) in [
            (&[(1080, &[0x53, 0xef][..]), (1128, &id), (1144, b"data")][..], "ext2", Some(text), Some("data")),
            (&[(1080, &[0x53, 0xef]), (1120, &[0x40]), (1144, b"sixteen letters!x")], "ext4", None, Some("sixteen letters!")),
            (&[(1080, &[0x53, 0xef]), (1116, &[0x04])], "ext3", None, None),
            (&[(0, b"XFSB"), (32, &id), (108, b"twelve lettr")], "xfs", Some(text), Some("twelve lettr")),
            (&[(BTRFS + 64, b"_BHRfS_M"), (BTRFS + 32, &id), (BTRFS + 0x12b, b"d")], "btrfs", Some(text), Some("d")),
            (&[(1024, &[0x10, 0x20, 0xf5, 0xf2]), (1132, &id), (1148, &f2fs_name)], "f2fs", Some(text), Some("däta")),
            (&[(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), (1072, &id)], "erofs", Some(text), None),
            (&[(0, b"hsqs")], "squashfs", None, None),
            (&[(0, b"LUKS\xba\xbe"), (168, text.as_bytes())], "crypto_LUKS", Some(text), None),
            (&[(3, b"NTFS    "), (72, &[1, 2, 3, 4, 5, 6, 7, 0x8f])], "ntfs", Some("8f07060504030201"), None),
            (&[(3, b"EXFAT   "), (100, &[0x34, 0x12, 0xcd, 0xab])], "exfat", Some("abcd-1234"), None),
            (&[(510, &[0x55, 0xaa]), (82, b"FAT32   "), (67, &[0x34, 0x12, 0xcd, 0xab])], "vfat", Some("abcd-1234"), None),
            (&[(510, &[0x55, 0xaa]), (54, b"FAT16   "), (39, &[0x34, 0x12, 0xcd, 0xab])], "vfat", Some("abcd-1234"), None),
        ] {
            let found = identify(&with(marks)).unwrap_or_else(|| panic!("{kind}"));
            assert_eq!((found.kind, found.uuid.as_deref(), found.label.as_deref()), (kind, uuid, label));
        }
    }

    #[test]
    fn nothing_and_two_things_tell_nothing() {
        assert_eq!(identify(&with(&[])), None);
        assert_eq!(identify(&[]), None);
        assert_eq!(identify(b"XFSB"), Some(FileSystem { kind: "xfs", uuid: None, label: None }));
        assert_eq!(identify(&with(&[(1080, &[0x53, 0xef]), (BTRFS + 64, b"_BHRfS_M")])), None);
        assert_eq!(identify(&with(&[(510, &[0x55, 0xaa])])), None);
        let locked = identify(&with(&[(0, b"LUKS\xba\xbe"), (1080, &[0x53, 0xef])]));
        assert_eq!(locked.map(|found| found.kind), Some(LUKS), "that is left of what was there before");
        for id in [b"CD001", b"BEA01"] {
            assert!(is_optical(&with(&[(32769, id)])) && !is_optical(&with(&[(32768, id)])));
            assert!(!is_optical(&with(&[(32769, id), (1080, &[0x53, 0xef])])));
        }
    }

    #[test]
    fn arrays_are_known_by_their_metadata() {
        const SIZE: u64 = (1 << 20) + 5 * 512;
        let (magic, here, there) = (MD_MAGIC.to_le_bytes(), 2032_u64.to_le_bytes(), 2040_u64.to_le_bytes());
        let (old, new) = ((1 << 20) - (64 << 10), 2032 * 512);
        let is_member = |start: &[u8], marks: &[(u64, &[u8])]| {
            let mut bytes = vec![0; SIZE as usize];
            marks.iter().for_each(|(at, mark)| bytes[*at as usize..][..mark.len()].copy_from_slice(mark));
            is_raid_member(end_of(start), &|at, len| bytes.get(at as usize..)?.get(..len).map(<[u8]>::to_vec), SIZE)
        };
        let alone = |marks: &[(u64, &[u8])]| is_member(&[], marks);
        assert!(!alone(&[]));
        assert!(alone(&[(old, &magic)]) && alone(&[(old, &MD_MAGIC.to_be_bytes())]));
        assert!(!alone(&[(old, &magic), (old + 4, &[1])]), "a version that lies elsewhere");
        assert!(!alone(&[(old + 512, &magic)]));
        assert!(alone(&[(new, &magic), (new + 4, &[1]), (new + 144, &here)]));
        assert!(!alone(&[(new, &magic), (new + 4, &[1]), (new + 144, &there)]), "that of the whole disk");
        assert!(!alone(&[(new, &magic), (new + 144, &here)]));
        for size in [0, 512, 8192, 65_535, u64::MAX] {
            assert!(!is_raid_member(None, &|_, len| Some(vec![0; len]), size) && !is_raid_member(None, &|_, _| None, size));
        }
        for (behind, magic) in FIRMWARE {
            assert!(alone(&[(SIZE - behind, magic)]) && !alone(&[(SIZE - behind - 512, magic)]));
            assert!(!alone(&[(SIZE - behind, &magic[1..])]));
        }
        // So many blocks of 1 KiB, 4 KiB, one byte and 4 KiB.
        let ext4 = |blocks: u32| with(&[(1080, &[0x53, 0xef]), (1028, &blocks.to_le_bytes())]);
        let xfs = |blocks: u64| with(&[(0, b"XFSB"), (4, &4096_u32.to_be_bytes()), (8, &blocks.to_be_bytes())]);
        let btrfs = |bytes: u64| with(&[(BTRFS + 64, b"_BHRfS_M"), (BTRFS + 0xd1, &bytes.to_le_bytes())]);
        let f2fs = |blocks: u64| with(&[(1024, &0xf2f5_2010_u32.to_le_bytes()), (1040, &[12]), (1060, &blocks.to_le_bytes())]);
        for (on_array, after_it) in
            [(ext4(960), ext4(1025)), (xfs(240), xfs(256)), (btrfs(old), btrfs(old + 1)), (f2fs(240), f2fs(241))]
        {
            assert!(is_member(&on_array, &[(old, &magic)]));
            assert!(!is_member(&after_it, &[(old, &magic)]), "it has its own bytes there");
        }
        assert!(is_member(&ext4(u32::MAX), &[(old, &magic)]), "it was made on something larger");
        for at in [0, 4096] {
            let place = (at as u64 / SECTOR).to_le_bytes();
            let start = [(at, &magic[..]), (at + 4, &[1]), (at + 144, &place)];
            assert_eq!(identify(&with(&start)).map(|found| (found.kind, found.may_hold_uppers())), Some((RAID, false)));
            for left in [&[(1080, &[0x53, 0xef][..])][..], &[(1080, &[0x53, 0xef]), (BTRFS + 64, b"_BHRfS_M")]] {
                assert_eq!(identify(&with(&[&start[..], left].concat())), Some(FileSystem::part_of_raid()));
            }
        }
    }

    proptest! {
        /// However little there is behind a magic number.
        #[test]
        fn no_device_is_too_short(
            len in 0..LOOKED_AT,
            at in prop::sample::select(vec![0, 3, 54, 82, 510, 1024, 1080, BTRFS + 64]),
            magic in prop::sample::select(vec![&b"XFSB"[..], b"LUKS\xba\xbe", b"NTFS    ", b"FAT32   ", b"\x53\xef", b"_BHRfS_M"]),
        ) {
            let mut bytes = vec![0xff; LOOKED_AT];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            bytes.truncate(len);
            let _ = identify(&bytes);
        }
    }
}
