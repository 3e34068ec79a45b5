use super::*;
use crate::error::Errno;
use crate::mount::data::partition::Disk;
use crate::mount::data::signature::FileSystem;

const GUID: &str = "a52a4597-fa3a-4851-aefd-2fbe9f849079";

fn partition(minor: u32, device: &str, serial: Option<&str>, part_uuid: &str, uuid: &str, kind: &'static str) -> Partition {
    let system = FileSystem { kind, uuid: Some(uuid.into()), label: Some(format!("{kind}-data")) };
    Partition {
        device: device.into(),
        number: (8, minor),
        size: u64::from(minor) << 30,
        disk: Disk {
            name: device.trim_start_matches("/dev/").chars().take(3).collect(),
            serial: serial.map(Into::into),
            backing_file: None,
        },
        part_uuid: Some(part_uuid.into()),
        part_label: Some("hassos-data".into()),
        content: Content::FileSystem(system),
    }
}

/// Two disks with one installation each, and a third that is something else.
fn machine() -> Vec<Partition> {
    let mut machine = vec![
        partition(8, "/dev/sda8", Some("S1"), GUID, "aaaa-1", "ext4"),
        partition(24, "/dev/sdb8", Some("S2"), GUID, "aaaa-2", "btrfs"),
        partition(33, "/dev/sdc1", Some("S3"), "1a2b3c4d-01", "aaaa-3", "ext3"),
        partition(34, "/dev/sdc2", Some("S3"), "1a2b3c4d-02", "aaaa-3", "xfs"),
    ];
    machine[2].part_label = None;
    machine[3].part_label = Some("other".into());
    machine
}

fn resolved(value: &str, named: Option<DeviceNumber>, partitions: &[Partition]) -> std::result::Result<String, String> {
    let data = DataPartition::parse(value).unwrap();
    resolve(&data, named, partitions).map(|found| found.device.display().to_string()).map_err(|e| e.to_string())
}

#[test]
fn one_partition_is_found() {
    for (value, named, device) in [
        (format!("{{{GUID}}},disk=S1"), None, "/dev/sda8"),
        (format!("{GUID},UUID=AAAA-2,fs=btrfs"), None, "/dev/sdb8"),
        ("UUID=aaaa-1".into(), None, "/dev/sda8"),
        ("UUID=AAAA-1".into(), None, "/dev/sda8"),
        ("PARTUUID=1A2B3C4D-02".into(), None, "/dev/sdc2"),
        ("LABEL=xfs-data".into(), None, "/dev/sdc2"),
        ("PARTLABEL=other".into(), None, "/dev/sdc2"),
        ("PARTUUID=1a2b3c4d-01,fs=ext4".into(), None, "/dev/sdc1"),
        ("/dev/disk/by-id/x".into(), Some((8, 24)), "/dev/sdb8"),
        ("/dev/sdb8,disk=S2".into(), Some((8, 24)), "/dev/sdb8"),
    ] {
        assert_eq!(resolved(&value, named, &machine()).as_deref(), Ok(device), "{value}");
    }
}

#[test]
fn several_are_refused_by_name() {
    let message = resolved(&format!("{{{GUID}}}"), None, &machine()).unwrap_err();
    assert_eq!(
        message,
        format!(
            "data_partition PARTUUID={GUID}: 2 partitions answer to it: /dev/sda8 (8.0 GiB on disk sda, serial S1) and /dev/sdb8 \
             (24.0 GiB on disk sdb, serial S2); add ,disk=SERIAL to data_partition, or take one away"
        )
    );
    let message = resolved("UUID=aaaa-3", None, &machine()).unwrap_err();
    assert!(message.contains("/dev/sdc1 (33.0 GiB on disk sdc, serial S3) and /dev/sdc2"), "{message}");
    assert!(message.ends_with("; take one away, or name it by its device"), "{message}");
    let mut nameless = machine();
    nameless[1].disk.serial = None;
    let message = resolved(GUID, None, &nameless).unwrap_err();
    assert!(message.contains("/dev/sdb8 (24.0 GiB on disk sdb, without serial number); take one away"), "{message}");
}

#[test]
fn none_is_refused_with_what_was_found() {
    for (value, named, words) in [
        ("PARTUUID=00000000-01", None, "PARTUUID=00000000-01: no partition of this machine has it"),
        ("UUID=1a2b3c4d-02", None, ", but /dev/sdc2 (34.0 GiB on disk sdc, serial S3) is PARTUUID=1a2b3c4d-02"),
        ("LABEL=other", None, "is PARTLABEL=other"),
        ("PARTLABEL=other,disk=S9", None, "/dev/sdc2 (34.0 GiB on disk sdc, serial S3) is not disk=S9"),
        ("/dev/sdz", Some((9, 9)), "/dev/sdz: it is a disk with partitions, or something else lies on it, such as RAID"),
        ("/dev/sdb8,UUID=aaaa-1", Some((8, 24)), "is not UUID=aaaa-1"),
        ("LABEL=xfs-data,fs=ext4", None, "has the file system xfs, not ext4 as fs= says"),
    ] {
        let message = resolved(value, named, &machine()).unwrap_err();
        assert!(message.contains(words), "{value}: {message}");
    }
    let mut locked = machine();
    locked.iter_mut().for_each(|partition| partition.content = Content::Unread(Errno::EACCES));
    let message = resolved("UUID=aaaa-1", None, &locked).unwrap_err();
    assert!(message.ends_with("; /dev/sda8 and 3 more could not be read: Permission denied (os error 13)"), "{message}");
}
