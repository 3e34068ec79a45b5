//! What the kernel said last before it stopped, where the machine has a place that keeps it (pstore).

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

/// Where it is mounted.
const PLACE: &str = "/sys/fs/pstore";

/// What a file's name begins with that has the kernel's log.
const LOG: &str = "dmesg-";

/// No more is taken of each, in bytes.
const LARGEST: u64 = 128 << 10;

/// No more files are taken.
const MOST: usize = 4;

/// The logs that were kept.
pub struct LastWords {
    text: Vec<u8>,
    files: Vec<PathBuf>,
}

impl LastWords {
    /// In the order of their names; `None` where there are none.
    pub fn read() -> Option<Self> {
        let entries = fs::read_dir(PLACE).ok()?.flatten();
        let logs = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(LOG.as_bytes()));
        let mut files: Vec<PathBuf> = logs.map(|entry| entry.path()).collect();
        files.sort();
        files.truncate(MOST);
        let mut text = Vec::new();
        for file in &files {
            text.extend_from_slice(format!("== haosfs: {} says:\n", file.display()).as_bytes());
            // What cannot be read says nothing.
            let _ = File::open(file).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
            text.push(b'\n');
        }
        (!files.is_empty()).then_some(Self { text, files })
    }

    /// All of them.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// They are kept elsewhere: gives their room free for the next, which would be taken for the same ones again.
    pub fn forget(&self) {
        for file in &self.files {
            if let Err(e) = fs::remove_file(file) {
                tracing::debug!("{}: {e}", file.display());
            }
        }
    }
}
