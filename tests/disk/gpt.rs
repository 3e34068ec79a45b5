//! Writes a GPT (UEFI specification, 5.3).

use std::fs::File;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 512;
const ENTRIES: usize = 128 * 128;

/// Bytes behind the partition: the second array of entries and the second header.
pub const BEHIND: u64 = 33 * BLOCK;

/// "Linux filesystem data".
const KIND: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/// One partition.
pub struct Entry<'a> {
    /// Its first byte.
    pub start: u64,
    /// The first byte behind it.
    pub end: u64,
    /// Its unique id.
    pub guid: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// Makes a disk of `size` bytes have these partitions.
pub fn write(disk: &File, size: u64, partitions: &[Entry<'_>]) {
    let blocks = size / BLOCK;
    let mut entries = vec![0; ENTRIES];
    for (partition, entry) in partitions.iter().zip(entries.chunks_mut(128)) {
        entry[..16].copy_from_slice(&bytes_of(KIND));
        entry[16..32].copy_from_slice(&bytes_of(partition.guid));
        entry[32..40].copy_from_slice(&(partition.start / BLOCK).to_le_bytes());
        entry[40..48].copy_from_slice(&(partition.end / BLOCK - 1).to_le_bytes());
        let name: Vec<u8> = partition.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        entry[56..56 + name.len()].copy_from_slice(&name);
    }
    let mut protective = [0; 512];
    protective[450] = 0xee;
    protective[454..458].copy_from_slice(&1_u32.to_le_bytes());
    protective[458..462].copy_from_slice(&u32::try_from(blocks - 1).unwrap().to_le_bytes());
    protective[510..].copy_from_slice(&[0x55, 0xaa]);
    let put = |bytes: &[u8], block: u64| disk.write_all_at(bytes, block * BLOCK).unwrap();
    put(&protective, 0);
    for (own, other, array) in [(1, blocks - 1, 2), (blocks - 1, 1, blocks - 33)] {
        put(&header(own, other, array, blocks, &entries), own);
        put(&entries, array);
    }
}

fn header(own: u64, other: u64, array: u64, blocks: u64, entries: &[u8]) -> Vec<u8> {
    let mut header = b"EFI PART".to_vec();
    [0x1_0000, 92, 0, 0].iter().for_each(|word: &u32| header.extend(word.to_le_bytes()));
    [own, other, 34, blocks - 34].iter().for_each(|word| header.extend(word.to_le_bytes()));
    header.extend(bytes_of("11111111-2222-3333-4444-555555555555"));
    header.extend(array.to_le_bytes());
    [128, 128, crc32(entries)].iter().for_each(|word: &u32| header.extend(word.to_le_bytes()));
    let checksum = crc32(&header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// The first three groups are little-endian numbers.
fn bytes_of(guid: &str) -> [u8; 16] {
    let number = u128::from_str_radix(&guid.replace('-', ""), 16).unwrap();
    let mut bytes = number.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit))
}
