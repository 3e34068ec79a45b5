//! One partition (or whole disk) as this machine shows it.

use std::fmt;
use std::path::PathBuf;

use super::signature::FileSystem;
use crate::config::data_partition::Identity;
use crate::error::Errno;

/// Major and minor number of a block device.
pub type DeviceNumber = (u32, u32);

/// The disk that a partition lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name (`sda`).
    pub name: String,
    /// The serial number, where it has one.
    pub serial: Option<String>,
    /// The file behind a loop device.
    pub backing_file: Option<String>,
}

/// What lies on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// This file system.
    FileSystem(FileSystem),
    /// Nothing that is known here.
    Unknown,
    /// It could not be read.
    Unread(Errno),
}

/// A partition, or a disk without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its device node.
    pub device: PathBuf,
    /// The numbers of that.
    pub number: DeviceNumber,
    /// Size in bytes.
    pub size: u64,
    /// The disk.
    pub disk: Disk,
    /// Unique id in the partition table, in lower case.
    pub part_uuid: Option<String>,
    /// Name in the partition table.
    pub part_label: Option<String>,
    /// What lies on it.
    pub content: Content,
}

impl Partition {
    /// The file system, where one is known.
    #[must_use]
    pub const fn file_system(&self) -> Option<&FileSystem> {
        match &self.content {
            Content::FileSystem(found) => Some(found),
            Content::Unknown | Content::Unread(_) => None,
        }
    }

    /// Whether it is known by this.
    #[must_use]
    pub fn answers_to(&self, identity: &Identity) -> bool {
        let system = self.file_system();
        let (own, asked) = match identity {
            Identity::PartUuid(asked) => (self.part_uuid.as_deref(), asked),
            Identity::PartLabel(asked) => (self.part_label.as_deref(), asked),
            Identity::Uuid(asked) => (system.and_then(|found| found.uuid.as_deref()), asked),
            Identity::Label(asked) => (system.and_then(|found| found.label.as_deref()), asked),
            Identity::Disk(asked) => (self.disk.serial.as_deref(), asked),
        };
        own == Some(asked)
    }
}

impl fmt::Display for Partition {
    /// `/dev/sda8 (57.2 GiB on disk sda, serial S4X)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} on disk {}", self.device.display(), Size(self.size), self.disk.name)?;
        if let Some(file) = &self.disk.backing_file {
            write!(f, " of {file}")?;
        }
        match &self.disk.serial {
            Some(serial) => write!(f, ", serial {serial})"),
            None => f.write_str(", without serial number)"),
        }
    }
}

/// Bytes for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.into_iter().find(|(_, shift)| self.0 >> shift > 0) {
            Some((unit, shift)) => write!(f, "{}.{} {unit}", self.0 >> shift, (((self.0 >> (shift - 10)) & 1023) * 10) >> 10),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (bytes, text) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (61_438_164_992, "57.2 GiB"), (1 << 40, "1.0 TiB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
