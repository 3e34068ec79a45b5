//! What the kernel said last before it stopped, where the machine has a place that keeps it (pstore).

use std::fs::{self, File};
use std::io::Read;

/// Where it is mounted.
const PLACE: &str = "/sys/fs/pstore";

/// What a file's name begins with that has the kernel's log.
const LOG: &str = "dmesg-";

/// No more is taken of each, in bytes.
const LARGEST: u64 = 128 << 10;

/// The logs that were kept, in the order of their names; `None` where there are none. They stay where they are.
pub fn read() -> Option<Vec<u8>> {
    let entries = fs::read_dir(PLACE).ok()?;
    let mut files: Vec<_> = entries.flatten().filter(|e| e.file_name().as_encoded_bytes().starts_with(LOG.as_bytes())).collect();
    files.sort_by_key(fs::DirEntry::file_name);
    let mut words = Vec::new();
    for file in files.into_iter().take(4) {
        words.extend_from_slice(format!("== haosfs: {} says:\n", file.path().display()).as_bytes());
        // What cannot be read says nothing.
        let _ = File::open(file.path()).and_then(|file| file.take(LARGEST).read_to_end(&mut words));
        words.push(b'\n');
    }
    (!words.is_empty()).then_some(words)
}
