//! What an installation has made, kept beside it so that its removal takes that and nothing else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Below the prefix.
pub const PLACE: &str = "share/haosfs/installed";

/// Paths from the root of the system, without a leading slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Files and links.
    pub files: BTreeSet<PathBuf>,
    /// Directories that were not there before.
    pub directories: BTreeSet<PathBuf>,
}

impl Record {
    /// Reads a record; an empty one where there is none.
    ///
    /// # Errors
    /// The kernel's answer; [`Error::Refused`] for a path that leads out of the system's root.
    pub fn read(file: &Path) -> Result<Self> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::sys("read", file, e)),
        };
        let mut record = Self::default();
        for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let (set, path) = match line.strip_suffix(b"/") {
                Some(directory) => (&mut record.directories, directory),
                None => (&mut record.files, line),
            };
            let path = Path::new(OsStr::from_bytes(path));
            if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                let (file, path) = (file.display(), path.display());
                return Err(Error::Refused(format!("{file}: {path} is no path below the root of the system")));
            }
            set.insert(path.to_owned());
        }
        Ok(record)
    }

    /// One path a line, directories with a slash at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (set, end) in [(&self.directories, &b"/\n"[..]), (&self.files, b"\n")] {
            for path in set {
                text.extend_from_slice(path.as_os_str().as_bytes());
                text.extend_from_slice(end);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("installed");
        assert_eq!(Record::read(&file).unwrap(), Record::default());
        let record = Record {
            files: ["usr/bin/haosfs", "usr/a b"].map(PathBuf::from).into(),
            directories: ["usr", "usr/bin"].map(PathBuf::from).into(),
        };
        fs::write(&file, record.to_bytes()).unwrap();
        assert_eq!(Record::read(&file).unwrap(), record);
        for bad in ["/etc/passwd\n", "usr/../etc\n", "../x/\n"] {
            fs::write(&file, bad).unwrap();
            assert!(Record::read(&file).unwrap_err().to_string().contains("is no path below the root"), "{bad}");
        }
    }
}
