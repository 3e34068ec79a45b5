//! Partition tables: GPT (UEFI specification, 5.3) and the disk signature of MBRs.

/// Reads that many bytes at an offset of a disk; `None` where they cannot be had.
pub type Read<'a> = &'a dyn Fn(u64, usize) -> Option<Vec<u8>>;

/// Largest array of entries that is looked at, in bytes. The usual one has 16 KiB.
const LARGEST: u64 = 1 << 20;

/// Bytes of a header that are used, and of an entry at the least.
const HEADER: usize = 92;
const ENTRY: usize = 128;

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// Entries in order, of which unused ones are `None`, and where the disk ends that it was made for.
    Gpt(Vec<Option<GptEntry>>, u64),
    /// The signature of the disk, of which the kernel makes the ids of partitions.
    Mbr(u32),
}

/// One entry of a GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GptEntry {
    /// Unique GUID, in lower case.
    pub guid: String,
    /// Name, perhaps empty.
    pub name: String,
    /// First byte of the partition.
    pub start: u64,
}

impl Table {
    /// Reads the table of a disk with `size` bytes in blocks of `block` bytes. The GPT at the end of the disk stands in for one that
    /// is damaged.
    pub fn read(read: Read<'_>, size: u64, block: u64) -> Option<Self> {
        let sector = read(0, 512)?;
        if sector.get(510..512) != Some(&[0x55, 0xaa]) {
            return None;
        }
        let types = [446, 462, 478, 494].map(|at| sector.get(at + 4).copied());
        // A GPT below another MBR is a leftover.
        if !types.contains(&Some(0xee)) {
            return u32_at(&sector, 440).map(Self::Mbr);
        }
        let last = (size / block).checked_sub(1)?.checked_mul(block)?;
        let (entries, end) = [block, last].into_iter().find_map(|at| gpt(read, at, block))?;
        Some(Self::Gpt(entries, end))
    }

    /// Where the disk ends that it was made for, where it says so.
    pub const fn end(&self) -> Option<u64> {
        match self {
            Self::Gpt(_, end) => Some(*end),
            Self::Mbr(_) => None,
        }
    }

    /// Id and name of the partition with this number (from 1) that begins at this byte. A table that has it elsewhere is not the
    /// one the kernel went by.
    #[must_use]
    pub fn partition(&self, number: u32, start: u64) -> (Option<String>, Option<String>) {
        match self {
            Self::Mbr(signature) => (Some(format!("{signature:08x}-{number:02x}")), None),
            Self::Gpt(entries, _) => {
                let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
                let entry = at.and_then(|at| entries.get(at)).and_then(Option::as_ref).filter(|entry| entry.start == start);
                let name = entry.map(|entry| entry.name.clone()).filter(|name| !name.is_empty());
                (entry.map(|entry| entry.guid.clone()), name)
            }
        }
    }
}

fn gpt(read: Read<'_>, at: u64, block: u64) -> Option<(Vec<Option<GptEntry>>, u64)> {
    let mut header = read(at, usize::try_from(block).ok()?)?;
    let size = usize::try_from(u32_at(&header, 12)?).ok()?;
    if header.get(..8)? != b"EFI PART" || !(HEADER..=header.len()).contains(&size) {
        return None;
    }
    let (checksum, checksum_of_entries) = (u32_at(&header, 16)?, u32_at(&header, 88)?);
    header.get_mut(16..20)?.fill(0);
    if crc32(header.get(..size)?) != checksum || u64_at(&header, 24)?.checked_mul(block)? != at {
        return None;
    }
    let (count, entry_size) = (u64::from(u32_at(&header, 80)?), u64::from(u32_at(&header, 84)?));
    let length = count.checked_mul(entry_size).filter(|length| (1..=LARGEST).contains(length))?;
    let array = read(u64_at(&header, 72)?.checked_mul(block)?, usize::try_from(length).ok()?)?;
    let entry_size = usize::try_from(entry_size).ok().filter(|size| *size >= ENTRY)?;
    if crc32(&array) != checksum_of_entries {
        return None;
    }
    // The header and its copy say of each other where they are, and one of them is the last block.
    let end = u64_at(&header, 32)?.saturating_add(1).saturating_mul(block).max(at.saturating_add(block));
    Some((array.chunks_exact(entry_size).map(|bytes| entry(bytes, block)).collect(), end))
}

fn entry(bytes: &[u8], block: u64) -> Option<GptEntry> {
    let kind = bytes.get(..16)?;
    if kind.iter().all(|b| *b == 0) {
        return None;
    }
    let units: Vec<u16> = bytes.get(56..ENTRY)?.as_chunks().0.iter().map(|two| u16::from_le_bytes(*two)).collect();
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    let name = String::from_utf16_lossy(units.get(..end)?);
    Some(GptEntry { guid: guid(bytes.get(16..32)?)?, name, start: u64_at(bytes, 32)?.checked_mul(block)? })
}

/// The first three groups are stored as little-endian numbers.
fn guid(bytes: &[u8]) -> Option<String> {
    let mut ordered: [u8; 16] = bytes.try_into().ok()?;
    ordered[..4].reverse();
    ordered[4..6].reverse();
    ordered[6..8].reverse();
    Some(super::signature::uuid_text(&ordered))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?).and_then(|eight| eight.try_into().ok()).map(u64::from_le_bytes)
}

/// CRC-32 as in IEEE 802.3, which UEFI takes.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
