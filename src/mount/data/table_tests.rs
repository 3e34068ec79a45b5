use super::*;

const BLOCK: usize = 512;
const BLOCKS: usize = 200;
const GUID: &str = "a52a4597-fa3a-4851-aefd-2fbe9f849079";

/// A disk with a GPT at both ends; partition 2 begins at block 64.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; BLOCK * BLOCKS];
    disk[450] = 0xee;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut entries = vec![0; 4 * ENTRY];
    entries[ENTRY..ENTRY + 16].fill(7);
    let guid = [0x97, 0x45, 0x2a, 0xa5, 0x3a, 0xfa, 0x51, 0x48, 0xae, 0xfd, 0x2f, 0xbe, 0x9f, 0x84, 0x90, 0x79];
    entries[ENTRY + 16..ENTRY + 32].copy_from_slice(&guid);
    entries[ENTRY + 32..ENTRY + 40].copy_from_slice(&64_u64.to_le_bytes());
    let name: Vec<u8> = "hassos-däta".encode_utf16().flat_map(u16::to_le_bytes).collect();
    entries[ENTRY + 56..ENTRY + 56 + name.len()].copy_from_slice(&name);
    for (header, array) in [(1, 2), (BLOCKS - 1, BLOCKS - 2)] {
        disk[array * BLOCK..array * BLOCK + entries.len()].copy_from_slice(&entries);
        let at = header * BLOCK;
        disk[at..at + 8].copy_from_slice(b"EFI PART");
        put(&mut disk, at + 12, 92);
        put(&mut disk, at + 24, u32::try_from(header).unwrap());
        put(&mut disk, at + 32, u32::try_from(BLOCKS - header).unwrap());
        put(&mut disk, at + 72, u32::try_from(array).unwrap());
        put(&mut disk, at + 80, 4);
        put(&mut disk, at + 84, 128);
        put(&mut disk, at + 88, crc32(&entries));
        seal(&mut disk, at);
    }
    disk
}

fn put(disk: &mut [u8], at: usize, value: u32) {
    disk[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Makes the header's own checksum right.
fn seal(disk: &mut [u8], at: usize) {
    put(disk, at + 16, 0);
    let checksum = crc32(&disk[at..at + 92]);
    put(disk, at + 16, checksum);
}

fn table(disk: &[u8]) -> Option<Table> {
    let read = |at: u64, len: usize| {
        let at = usize::try_from(at).ok()?;
        disk.get(at..at.checked_add(len)?).map(<[u8]>::to_vec)
    };
    Table::read(&read, disk.len() as u64, BLOCK as u64)
}

#[test]
fn checksums_are_ieee() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn a_gpt_names_partitions() {
    let table = table(&disk()).unwrap();
    assert_eq!(table.partition(2, 64 * 512), (Some(GUID.into()), Some("hassos-däta".into())));
    assert_eq!(table.end(), Some((BLOCK * BLOCKS) as u64));
    for (number, start) in [(2, 65 * 512), (1, 0), (0, 0), (5, 0), (u32::MAX, 0)] {
        assert_eq!(table.partition(number, start), (None, None), "{number}");
    }
}

#[test]
fn the_copy_stands_in_for_a_damaged_gpt() {
    // Magic, a number, the first entry's type, and a byte of the second entry.
    for at in [0, 57, BLOCK, BLOCK + 140] {
        let mut damaged = disk();
        damaged[BLOCK + at] ^= 1;
        assert_eq!(table(&damaged), table(&disk()), "{at}");
        damaged[(BLOCKS - 1) * BLOCK] ^= 1;
        assert_eq!(table(&damaged), None, "{at}");
    }
}

#[test]
fn other_tables_are_no_gpt() {
    let mut mbr = disk();
    mbr[450] = 0x83;
    put(&mut mbr, 440, 0x1a2b_3c4d);
    assert_eq!(table(&mbr).unwrap().partition(5, 0), (Some("1a2b3c4d-05".into()), None));
    assert_eq!(table(&vec![0; 4096]), None);
    assert_eq!(table(&[]), None);
    assert_eq!(table(&disk()[..512]), None);
}

/// Numbers that lie, under a checksum that is right.
#[test]
fn a_header_may_say_anything() {
    for field in [12, 24, 28, 32, 36, 72, 76, 80, 84] {
        for value in [0, 1, 91, 93, 512, 513, 127, 1 << 20, u32::MAX] {
            let mut hostile = disk();
            for header in [1, BLOCKS - 1] {
                put(&mut hostile, header * BLOCK + field, value);
                seal(&mut hostile, header * BLOCK);
            }
            if let Some(table) = table(&hostile) {
                let _ = table.partition(2, 64 * 512);
            }
        }
    }
}
