//! Disks as power cuts leave them: of what was written since the last flush, some is there and some is not. QEMU logs the writes in
//! the form of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// What the guest asked of its disk.
enum Entry {
    /// These bytes of the log go there.
    Write { to: u64, from: u64, len: u64, is_durable: bool },
    /// All that was written before is durable.
    Flush,
}

/// What was written, in the order in which it was.
pub struct Log {
    file: File,
    entries: Vec<Entry>,
}

/// What became of the writes since the last flush.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    /// They are there.
    pub kept: usize,
    /// They are not, or in part.
    pub lost: usize,
}

fn number(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_le_bytes(bytes)
}

/// The entries that a log has by now, while it grows.
pub fn entries(log: &File) -> usize {
    usize::try_from(number(log, 16)).unwrap()
}

impl Log {
    /// Reads one.
    pub fn read(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        assert_eq!(number(&file, 0), MAGIC);
        let sector = number(&file, 24) & u64::from(u32::MAX);
        let (mut at, mut list) = (sector, Vec::new());
        for _ in 0..entries(&file) {
            let [start, count, flags] = [0, 8, 16].map(|field| number(&file, at + field));
            at += sector;
            let len = if flags & DISCARD == 0 { count * sector } else { 0 };
            // QEMU makes two entries of what the kernel could tell in one.
            assert!(flags & FLUSH == 0 || len == 0, "a flush with data");
            list.push(match flags & FLUSH {
                0 => Entry::Write { to: start * sector, from: at, len, is_durable: flags & FUA != 0 },
                _ => Entry::Flush,
            });
            at += len;
        }
        Self { file, entries: list }
    }

    /// A moment right before some flush, where what is not durable is most; none before the first of these entries.
    pub fn moment(&self, first: usize, chance: &mut fastrand::Rng) -> usize {
        let is_flush = |number: &usize| matches!(self.entries[*number], Entry::Flush);
        let after_write = |number: &usize| *number > first && !is_flush(&(number - 1));
        let moments: Vec<usize> = (first..self.entries.len()).filter(is_flush).filter(after_write).collect();
        moments[chance.usize(0..moments.len())]
    }

    /// Brings a disk from where the log began to where a power cut before this entry could have left it. Writes break off at multiples
    /// of so many bytes, which the disk writes at once.
    pub fn replay(&self, disk: &File, end: usize, at_once: u64, chance: &mut fastrand::Rng) -> Lost {
        let durable = self.entries[..end].iter().rposition(|entry| matches!(entry, Entry::Flush)).unwrap_or(0);
        let mut fate = Lost::default();
        for (number, entry) in self.entries[..end].iter().enumerate() {
            let Entry::Write { to, from, len, is_durable } = entry else { continue };
            let kept = match (*is_durable || number < durable, chance.u8(0..8)) {
                (false, 0..4) => 0,
                (false, 4) => len / (2 * at_once) * at_once,
                _ => *len,
            };
            if number >= durable {
                *if kept == *len { &mut fate.kept } else { &mut fate.lost } += 1;
            }
            let mut bytes = vec![0; usize::try_from(kept).unwrap()];
            self.file.read_exact_at(&mut bytes, *from).unwrap();
            disk.write_all_at(&bytes, *to).unwrap();
        }
        fate
    }
}
