//! The block devices of this machine, from sysfs, with what is written on them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::partition::{Content, DeviceNumber, Disk, Partition};
use super::signature::{FileSystem, LOOKED_AT, LUKS, end_of, identify, is_optical, is_raid_member};
use super::table::Table;
use crate::error::{Errno, Error, Result};

/// Where the kernel lists block devices (sysfs(5)), partitions among them.
const CLASS: &str = "/sys/class/block";

/// The unit of sizes in sysfs, whatever the blocks of the device are.
const SECTOR: u64 = 512;

/// A disk, the table on it where that has been read, and whether all of it is part of an array.
type Disks = BTreeMap<PathBuf, (Disk, Option<Table>, bool)>;

/// All partitions of this machine and the disks without any, those of loop devices included, ordered by name. Left out is what
/// has no size, and what something else was built on, such as RAID or an encrypted volume: that is in the list itself.
///
/// # Errors
/// Where sysfs is not there. A device that cannot be read is in the list and says so.
pub fn partitions() -> Result<Vec<Partition>> {
    let entries = fs::read_dir(CLASS).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::Refused(format!("{CLASS} is missing: `mount -t sysfs sysfs /sys` first")),
        _ => Error::sys("list block devices in", CLASS, e),
    })?;
    let mut paths = entries.map(|entry| fs::canonicalize(entry?.path())).filter_map(io::Result::ok).collect::<Vec<PathBuf>>();
    paths.sort();
    let mut disks = Disks::new();
    Ok(paths.iter().filter_map(|path| partition(path, &mut disks)).collect())
}

/// `None` for what cannot hold data, and for what went away meanwhile.
fn partition(path: &Path, disks: &mut Disks) -> Option<Partition> {
    let size = number(&path.join("size"))?.checked_mul(SECTOR)?;
    let is_hidden = number(&path.join("hidden")) == Some(1);
    let partition_number = number(&path.join("partition")).and_then(|number| u32::try_from(number).ok());
    let disk_path = if partition_number.is_some() { path.parent()? } else { path };
    if size == 0 || is_hidden || [path, disk_path].iter().any(|path| has_entries(&path.join("holders"))) {
        return None;
    }
    if partition_number.is_none() && end_of_partitions(path).is_some() {
        return None;
    }
    let (disk, table, is_member) =
        disks.entry(disk_path.to_owned()).or_insert_with(|| read_disk(disk_path, partition_number.is_some()));
    let start = number(&path.join("start")).unwrap_or(0).saturating_mul(SECTOR);
    let (part_uuid, part_label) = match (partition_number, table) {
        (Some(number), Some(table)) => table.partition(number, start),
        _ => (None, None),
    };
    let (device, number) = (device_node(path)?, device_number(path)?);
    let content = match open(&device, number).and_then(|file| content(&file, size)) {
        Ok(_) if *is_member => Content::FileSystem(FileSystem::part_of_raid()),
        Ok(found) => found.map_or(Content::Unknown, Content::FileSystem),
        Err(errno) => Content::Unread(errno),
    };
    Some(Partition { device, number, size, disk: disk.clone(), part_uuid, part_label, content })
}

fn read_disk(path: &Path, has_table: bool) -> (Disk, Option<Table>, bool) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let backing_file = text(&path.join("loop/backing_file"));
    let disk = Disk { name, serial: serial(path), backing_file };
    let (table, is_member) = if has_table { read_table(path) } else { None }.unwrap_or_default();
    (disk, table, is_member)
}

/// The table, and whether it is that of an array of which this disk is a part.
fn read_table(path: &Path) -> Option<(Option<Table>, bool)> {
    let (device, size) = (device_node(path)?, number(&path.join("size"))?.checked_mul(SECTOR)?);
    let block = number(&path.join("queue/logical_block_size")).filter(|block| (512..=65536).contains(block)).unwrap_or(SECTOR);
    let file = open(&device, device_number(path)?).ok()?;
    let read = |at, len| read_exact(&file, at, len);
    let table = Table::read(&read, size, block);
    let ends = end_of_partitions(path).max(table.as_ref().and_then(Table::end));
    Some((table, is_raid_member(ends, &read, size)))
}

/// Each kind of disk has its own place for it. SCSI has it in a page of its own (SPC, "Unit Serial Number VPD page"), behind four
/// bytes.
fn serial(path: &Path) -> Option<String> {
    let plain = ["serial", "device/serial"].iter().find_map(|name| text(&path.join(name)));
    let page = || fs::read(path.join("device/vpd_pg80")).ok()?.get(4..).map(clean);
    plain.or_else(page).filter(|serial| !serial.is_empty())
}

/// The content of an attribute without the line end; `None` where it is empty or absent.
fn text(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| clean(&bytes)).filter(|text| !text.is_empty())
}

/// Devices say what they like, and it comes on somebody's terminal.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0').replace(|c: char| c.is_control(), "?")
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

fn has_entries(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// Where the last partition of a disk ends; `None` where it has none.
fn end_of_partitions(disk: &Path) -> Option<u64> {
    let end = |at: &Path| {
        number(&at.join("partition"))?;
        number(&at.join("start"))?.checked_add(number(&at.join("size"))?)?.checked_mul(SECTOR)
    };
    fs::read_dir(disk).ok()?.filter_map(|entry| end(&entry.ok()?.path())).max()
}

/// The node as devtmpfs names it; names with a slash have another in sysfs.
fn device_node(path: &Path) -> Option<PathBuf> {
    let event = fs::read_to_string(path.join("uevent")).ok()?;
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

fn device_number(path: &Path) -> Option<DeviceNumber> {
    let numbers = text(&path.join("dev"))?;
    let (major, minor) = numbers.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Opens a node if it is that of this device.
fn open(device: &Path, number: DeviceNumber) -> std::result::Result<File, Errno> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(device)?;
    let found = file.metadata()?;
    let is_this = found.file_type().is_block_device() && found.rdev() == libc::makedev(number.0, number.1);
    if is_this { Ok(file) } else { Err(Errno::ENODEV) }
}

/// What is on a device of `size` bytes.
fn content(file: &File, size: u64) -> std::result::Result<Option<FileSystem>, Errno> {
    let start = read_start(file)?;
    let found = identify(&start);
    // Whatever it looks like. The end of what cannot hold an upper, such as a CD, is not looked at: it may take long.
    let may_be_part = found.as_ref().map_or_else(|| !is_optical(&start), |found| found.may_hold_uppers() || found.kind == LUKS);
    let is_member = may_be_part && is_raid_member(end_of(&start), &|at, len| read_exact(file, at, len), size);
    Ok(if is_member { Some(FileSystem::part_of_raid()) } else { found })
}

fn read_exact(file: &File, at: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
}

fn read_start(file: &File) -> std::result::Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; LOOKED_AT];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_disk_tells_its_serial_number() {
        for (file, content, expected) in [
            ("serial", &b"QM00001\n"[..], Some("QM00001")),
            ("device/serial", b"  S4X 1\n", Some("S4X 1")),
            ("device/vpd_pg80", b"\0\x80\0\x08  WD-1\x1b ", Some("WD-1?")),
            ("device/vpd_pg80", b"\0\x80", None),
            ("serial", b"\n", None),
            ("other", b"x", None),
        ] {
            let disk = tempfile::tempdir().unwrap();
            fs::create_dir(disk.path().join("device")).unwrap();
            fs::write(disk.path().join(file), content).unwrap();
            assert_eq!(serial(disk.path()).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn nodes_are_named_by_the_kernel() {
        let device = tempfile::tempdir().unwrap();
        fs::write(device.path().join("uevent"), "MAJOR=104\nMINOR=0\nDEVNAME=cciss/c0d0\nDEVTYPE=disk\n").unwrap();
        fs::write(device.path().join("dev"), "104:0\n").unwrap();
        assert_eq!(device_node(device.path()), Some("/dev/cciss/c0d0".into()));
        assert_eq!(device_number(device.path()), Some((104, 0)));
    }

    #[test]
    fn a_node_of_something_else_is_not_read() {
        assert!(matches!(open(Path::new("/dev/null"), (1, 3)), Err(Errno::ENODEV)));
    }
}
