//! The kernel's log, record by record (Documentation/ABI/testing/dev-kmsg).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Where it is.
const KERNEL_LOG: &str = "/dev/kmsg";

/// A record has less, in bytes (`CONSOLE_EXT_LOG_MAX`).
const LARGEST: usize = 8192;

/// So much is taken at a time, in bytes.
const BATCH: usize = 64 << 10;

/// The log, from the oldest record that the kernel still has.
pub struct KernelLog {
    file: File,
    buffer: Vec<u8>,
}

impl KernelLog {
    /// Opens it.
    ///
    /// # Errors
    /// `ENOENT` without one, `EPERM` without the right.
    pub fn open() -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(KERNEL_LOG)?;
        Ok(Self { file, buffer: vec![0; LARGEST] })
    }

    /// Lines for people, as many as there are and are taken at a time; none where nothing is new.
    pub fn take(&mut self) -> Vec<u8> {
        let mut lines = Vec::new();
        while lines.len() < BATCH {
            match self.file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(size) => line(self.buffer.get(..size).unwrap_or_default(), &mut lines),
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => lines.extend_from_slice(b"(some records are lost)\n"),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lines
    }
}

impl AsFd for KernelLog {
    /// Readable when there is something new.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `PRIORITY,NUMBER,MICROSECONDS,FLAGS[,...];TEXT`, and lines that begin with a blank and say more. What is not so is taken as it is.
fn line(record: &[u8], into: &mut Vec<u8>) {
    match parsed(record) {
        Some((micros, text)) => {
            into.extend_from_slice(format!("[{:5}.{:06}] ", micros / 1_000_000, micros % 1_000_000).as_bytes());
            into.extend_from_slice(text);
            into.push(b'\n');
        }
        None => into.extend_from_slice(record),
    }
}

fn parsed(record: &[u8]) -> Option<(u64, &[u8])> {
    let at = record.iter().position(|&b| b == b';')?;
    let (head, text) = record.split_at_checked(at)?;
    let micros = std::str::from_utf8(head).ok()?.split(',').nth(2)?.parse().ok()?;
    let text = text.strip_prefix(b";")?;
    Some((micros, text.split(|&b| b == b'\n').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines() {
        for (record, expected) in [
            ("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n", "[    5.140900] NET: Registered\n"),
            ("4,1,7,c,caller=T1;a;b\\x0a\n", "[    0.000007] a;b\\x0a\n"),
            ("plain\n", "plain\n"),
            ("a,b,c;d\n", "a,b,c;d\n"),
            ("", ""),
        ] {
            let mut found = Vec::new();
            line(record.as_bytes(), &mut found);
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
    }
}
