//! Partitions of real disks on loop devices: found by every identity, never guessed, and named as blkid(8) does.

#![allow(clippy::unwrap_used, clippy::panic)]

mod disk;
#[path = "cli/support.rs"]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::{Disk, fresh_guid, gpt, make};
use haosfs::config::data_partition::DataPartition;
use haosfs::mount::data::{DataPlace, Partition, locate, partitions};
use support::{Scratch, can_run, has_tool, is_root, pack, wait_until};

/// Bytes of a disk; XFS wants 300 MiB.
const SIZE: u64 = 400 << 20;

/// Bytes before the partition.
const START: u64 = 1 << 20;

/// A file with a GPT of one partition, which is named `data`.
fn disk_file(scratch: &Scratch, name: &str, guid: &str) -> PathBuf {
    let path = scratch.path(name);
    let file = File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    gpt::write(&file, SIZE, &[gpt::Entry { start: START, end: SIZE - gpt::BEHIND, guid, name: "data" }]);
    path
}

fn listed(disk: &Disk) -> Partition {
    let found = partitions().unwrap().into_iter().find(|partition| partition.device == disk.partition(1));
    found.unwrap_or_else(|| panic!("{} is not listed", disk.partition(1).display()))
}

fn possible(test: &str, mkfs: &str) -> bool {
    let tools =
        [mkfs, "losetup", "partx", "blkid"].into_iter().all(|tool| has_tool(tool) || Path::new("/usr/sbin").join(tool).exists());
    can_run(
        test,
        is_root() && tools && Path::new("/dev/loop-control").exists(),
        &format!("needs root, loop devices, partx and {mkfs}"),
    )
}

fn located(value: &str) -> Result<PathBuf, String> {
    match locate(&DataPartition::parse(value).unwrap(), Path::new("/")).map_err(|e| e.to_string())? {
        DataPlace::Partition(partition) => Ok(partition.device),
        DataPlace::Directory(directory) => Ok(directory),
    }
}

/// What blkid(8) says of a device.
fn blkid(device: &Path, tag: &str) -> Option<String> {
    let output = Command::new("blkid").args(["--probe", "--output", "value", "--match-tag", tag]).arg(device).output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()).filter(|value| !value.is_empty())
}

/// Makes a file system on a partition, and finds it by everything it is known by.
fn is_found(test: &str, mkfs: &str, label: &[&str], kind: &str) {
    if !possible(test, mkfs) {
        return;
    }
    let scratch = Scratch::new();
    let guid = fresh_guid();
    let disk = Disk::new(&disk_file(&scratch, "disk", &guid), 1);
    let name = format!("t{}", &guid[..8]);
    make(mkfs, &[label, &[&*name]].concat(), &disk.partition(1));
    let listed = listed(&disk);
    assert_eq!(listed.size, SIZE - START - gpt::BEHIND);
    assert_eq!((listed.part_uuid.as_deref(), listed.part_label.as_deref()), (Some(&*guid), Some("data")));
    let system = listed.file_system().unwrap_or_else(|| panic!("{listed:?}"));
    assert_eq!((system.kind, system.label.as_deref()), (kind, Some(&*name)));
    assert_eq!(
        (system.uuid.clone(), Some(kind.to_owned())),
        (blkid(&disk.partition(1), "UUID"), blkid(&disk.partition(1), "TYPE"))
    );
    let uuid = system.uuid.as_deref().unwrap();
    for value in [
        format!("{{{}}},fs={kind}", guid.to_uppercase()),
        format!("PARTUUID={guid},UUID={uuid},PARTLABEL=data"),
        format!("UUID={uuid}"),
        format!("LABEL={name}"),
        format!("{},LABEL={name}", disk.partition(1).display()),
    ] {
        assert_eq!(located(&value).as_ref(), Ok(&disk.partition(1)), "{value}");
    }
    let message = located(&format!("{guid},fs=other")).unwrap_err();
    assert!(message.ends_with(&format!("has the file system {kind}, not other as fs= says")), "{message}");
    let message = located(&format!("UUID={guid}")).unwrap_err();
    assert!(
        message.contains(&format!("no partition of this machine has it, but {} (", disk.partition(1).display())),
        "{message}"
    );
}

#[test]
fn ext4_is_found() {
    is_found("ext4_is_found", "mkfs.ext4", &["-q", "-L"], "ext4");
}

#[test]
fn xfs_is_found() {
    is_found("xfs_is_found", "mkfs.xfs", &["-q", "-L"], "xfs");
}

#[test]
fn btrfs_is_found() {
    is_found("btrfs_is_found", "mkfs.btrfs", &["-q", "-L"], "btrfs");
}

/// What the superblocks of arrays begin with (md_p.h).
const MD_MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// Versions 0.90 and 1.0 (md_p.h): where they are on a device of this size, and what they say.
fn superblocks(size: u64) -> [(u64, [u8; 256]); 2] {
    let (old, new) = ((size & !0xffff) - 0x1_0000, ((size / 512 - 16) & !7) * 512);
    let mut ancient = [0; 256];
    ancient[..4].copy_from_slice(&MD_MAGIC);
    ancient[8] = 90;
    [(old, ancient), (new, superblock(new))]
}

/// Version 1 at this byte: 1.0, or 1.2 where that is the 4096th.
fn superblock(at: u64) -> [u8; 256] {
    let mut recent = [0; 256];
    recent[..4].copy_from_slice(&MD_MAGIC);
    recent[4] = 1;
    recent[144..152].copy_from_slice(&(at / 512).to_le_bytes());
    let mut checksum = 0_u64;
    recent.as_chunks::<4>().0.iter().for_each(|word| checksum += u64::from(u32::from_le_bytes(*word)));
    recent[216..220].copy_from_slice(&((checksum & 0xffff_ffff) as u32).wrapping_add((checksum >> 32) as u32).to_le_bytes());
    recent
}

/// A half of a mirror looks like what is on the mirror, and is not to be written to alone. blkid(8) knows it, too, but takes the bytes of
/// a file system for an array's.
#[test]
fn a_part_of_an_array_is_not_taken_for_what_is_on_it() {
    if !possible("a_part_of_an_array_is_not_taken_for_what_is_on_it", "mkfs.ext4") {
        return;
    }
    let scratch = Scratch::new();
    let (guid, size) = (fresh_guid(), SIZE - START - gpt::BEHIND);
    let disk = Disk::new(&disk_file(&scratch, "disk", &guid), 1);
    let device = disk.partition(1);
    for (at, superblock) in superblocks(size) {
        // An array leaves its metadata, and more, behind what it shows.
        let blocks = (size / 1024 - 128).to_string();
        let made = Command::new("mkfs.ext4").args(["-F", "-b", "1024"]).arg(&device).arg(&blocks).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        assert_eq!(listed(&disk).file_system().map(|found| found.kind), Some("ext4"));
        fs::OpenOptions::new().write(true).open(&device).unwrap().write_all_at(&superblock, at).unwrap();
        assert_eq!(listed(&disk).file_system().map(|found| found.kind), Some("linux_raid_member"), "at {at}");
        assert_eq!(blkid(&device, "TYPE").as_deref(), Some("linux_raid_member"), "at {at}");
        let refused = located(&format!("PARTUUID={guid},fs=ext4")).unwrap_err();
        assert!(refused.contains("is part of a RAID, which has the data; assemble that"), "{refused}");
        let uuid = listed(&disk).file_system().unwrap().uuid.clone();
        assert_eq!(uuid, None, "what is on the array is looked for");
        make("mkfs.ext4", &["-F"], &device);
        fs::OpenOptions::new().write(true).open(&device).unwrap().write_all_at(&superblock, at).unwrap();
        assert_eq!(listed(&disk).file_system().map(|found| found.kind), Some("ext4"), "these are bytes of its own, at {at}");
        fs::OpenOptions::new().write(true).open(&device).unwrap().write_all_at(&[0; 256], at).unwrap();
    }
}

/// Making an array writes its own superblock, and leaves what a file system had elsewhere: `fs=` does not make that the one that is meant.
#[test]
fn what_is_left_below_an_array_is_not_taken_for_what_is_on_it() {
    if !possible("what_is_left_below_an_array_is_not_taken_for_what_is_on_it", "mkfs.ext4") {
        return;
    }
    let scratch = Scratch::new();
    let (guid, size) = (fresh_guid(), SIZE - START - gpt::BEHIND);
    let disk = Disk::new(&disk_file(&scratch, "disk", &guid), 1);
    let device = disk.partition(1);
    let write = |bytes: &[u8], at| fs::OpenOptions::new().write(true).open(&device).unwrap().write_all_at(bytes, at).unwrap();
    let [(old, ancient), (new, recent)] = superblocks(size);
    // What tells btrfs and LUKS.
    let [btrfs, luks] = [(&b"_BHRfS_M"[..], 0x1_0040), (b"LUKS\xba\xbe", 0)];
    let second = superblock(4096);
    for (what, marks) in [
        ("1.2", &[(&second[..], 4096)][..]),
        ("1.2 and btrfs", &[(&second, 4096), btrfs]),
        ("0.90 and btrfs", &[(&ancient, old), btrfs]),
        ("1.0 and btrfs", &[(&recent, new), btrfs]),
        ("1.0 and LUKS", &[(&recent, new), luks]),
    ] {
        make("mkfs.ext4", &["-F", "-q"], &device);
        marks.iter().for_each(|(bytes, at)| write(bytes, *at));
        assert_eq!(listed(&disk).file_system().map(|found| found.kind), Some("linux_raid_member"), "{what}");
        for value in [guid.clone(), format!("PARTUUID={guid},fs=ext4")] {
            let refused = located(&value).unwrap_err();
            assert!(refused.contains("is part of a RAID, which has the data; assemble that"), "{what}: {refused}");
        }
        marks.iter().for_each(|(bytes, at)| write(&vec![0; bytes.len()], *at));
    }
    // What no signature is known of could be on an array, too.
    write(&[0; 2048], 0);
    assert!(listed(&disk).file_system().is_none());
    write(&ancient, old);
    let refused = located(&format!("{guid},fs=bcachefs")).unwrap_err();
    assert!(refused.contains("is part of a RAID"), "{refused}");
}

/// The kernel shows the partitions of a disk that is part of an array as a whole, where nobody has assembled that.
#[test]
fn a_partition_of_a_part_of_an_array_is_not_taken_either() {
    if !possible("a_partition_of_a_part_of_an_array_is_not_taken_either", "mkfs.ext4") {
        return;
    }
    // The array ends before its metadata, and its table before that.
    const ARRAY: u64 = SIZE - (1 << 20);
    let (scratch, guid) = (Scratch::new(), fresh_guid());
    let path = disk_file(&scratch, "disk", &guid);
    let entry = gpt::Entry { start: START, end: ARRAY - gpt::BEHIND, guid: &guid, name: "data" };
    gpt::write(&fs::OpenOptions::new().write(true).open(&path).unwrap(), ARRAY, &[entry]);
    let disk = Disk::new(&path, 1);
    let kind = |disk: &Disk| listed(disk).file_system().map(|found| found.kind);
    make("mkfs.ext4", &["-q"], &disk.partition(1));
    fs::OpenOptions::new().write(true).open(&disk.device).unwrap().write_all_at(&[0; 0x8000], SIZE - 0x8000).unwrap();
    assert_eq!(kind(&disk), Some("ext4"));
    let mut all: Vec<(u64, Vec<u8>)> = superblocks(SIZE).into_iter().map(|(at, superblock)| (at, superblock.to_vec())).collect();
    all.push((SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00".to_vec()));
    all.push((SIZE - 512, [&[0xde, 0x11, 0xde, 0x11][..], &[0; 92]].concat()));
    for (at, superblock) in all {
        let write =
            |bytes: &[u8]| fs::OpenOptions::new().write(true).open(&disk.device).unwrap().write_all_at(bytes, at).unwrap();
        write(&superblock);
        let known = blkid(&disk.device, "TYPE").unwrap_or_default();
        assert!(known.ends_with("_raid_member"), "at {at}: {known}");
        assert_eq!(kind(&disk), Some("linux_raid_member"), "at {at}");
        let refused = located(&guid).unwrap_err();
        assert!(refused.contains("or its disk, is part of a RAID, which has the data; assemble that"), "{refused}");
        write(&vec![0; superblock.len()]);
    }
    // A table that was made for all of the disk is none of an array's, whatever is left of that.
    let (at, superblock) = superblocks(SIZE)[0];
    drop(disk);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let entry = gpt::Entry { start: START, end: ARRAY - gpt::BEHIND, guid: &guid, name: "data" };
    gpt::write(&file, SIZE, &[entry]);
    file.write_all_at(&superblock, at).unwrap();
    assert_eq!(kind(&Disk::new(&path, 1)), Some("ext4"));
}

/// Whoever named it by the id of its partition has forgotten that something has to be unlocked.
#[test]
fn a_locked_volume_is_told_of() {
    if !possible("a_locked_volume_is_told_of", "mkfs.ext4") {
        return;
    }
    let scratch = Scratch::new();
    let guid = fresh_guid();
    let disk = Disk::new(&disk_file(&scratch, "disk", &guid), 1);
    // The second version of LUKS (its specification, 2.1).
    fs::OpenOptions::new().write(true).open(disk.partition(1)).unwrap().write_all_at(b"LUKS\xba\xbe\0\x02", 0).unwrap();
    for value in [guid.clone(), format!("{guid},fs=ext4")] {
        let refused = located(&value).unwrap_err();
        assert!(refused.contains("is locked by encryption; unlock it before, and name what is on it"), "{refused}");
    }
}

/// Two installations of one system have the same GUIDs.
#[test]
fn a_second_disk_with_the_same_guid_is_not_passed_over() {
    if !possible("a_second_disk_with_the_same_guid_is_not_passed_over", "mkfs.ext4") {
        return;
    }
    let scratch = Scratch::new();
    let guid = fresh_guid();
    let [one, two] = ["one", "two"].map(|name| Disk::new(&disk_file(&scratch, name, &guid), 1));
    [&one, &two].into_iter().for_each(|disk| make("mkfs.ext4", &["-q"], &disk.partition(1)));
    let message = located(&guid).unwrap_err();
    let told = |disk: &Disk, file: &str| {
        let name = disk.device.file_name().unwrap().to_str().unwrap();
        format!(
            "{} (398.9 MiB on disk {name} of {}, without serial number)",
            disk.partition(1).display(),
            scratch.path(file).display()
        )
    };
    for words in [&*format!("PARTUUID={guid}: 2 partitions answer to it: "), &told(&one, "one"), &told(&two, "two")] {
        assert!(message.contains(words), "{words:?} not in {message}");
    }
    let uuid = listed(&two).file_system().unwrap().uuid.clone().unwrap();
    assert_eq!(located(&format!("{guid},UUID={uuid}")), Ok(two.partition(1)));
    pack(&scratch.path("a.squashfs"));
    let set = |value: &str| {
        let value = format!("data_partition={value}");
        scratch.haosfs(&["config", "set", "haos.ini", &value, "system_image=a.squashfs"]).succeeded();
        scratch.haosfs(&["config", "check", "haos.ini"])
    };
    let checked = set(&format!("{{{guid}}}"));
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.starts_with("error: haos.ini:2: data_partition: PARTUUID="), "{checked:?}");
    assert!(checked.stdout.contains(&told(&two, "two")), "{checked:?}");
    set(&format!("{{{guid}}},UUID={uuid},fs=ext4")).succeeded();
    set(&format!("{}", one.partition(1).display())).succeeded();
    let gone = one.partition(1);
    drop(one);
    // A loop device goes with the last who has it open, and other tests look at all of them.
    wait_until("the first disk is gone", || !gone.exists());
    set(&format!("{{{guid}}}")).succeeded();
}

#[test]
fn what_is_no_partition_is_refused() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), "").unwrap();
    let file = scratch.path("file").display().to_string();
    assert!(located(&file).unwrap_err().ends_with("expected a block device or a directory"));
    assert!(located("/absent/data").unwrap_err().contains("No such file"));
    let directory = scratch.path("").display().to_string();
    assert_eq!(located(&directory), Ok(scratch.path("").components().collect()));
    assert!(located(&format!("{directory},noatime")).unwrap_err().contains("expected nothing behind it"));
}

/// An ordinary user is told why nothing is found.
#[test]
fn unreadable_devices_are_named() {
    if !possible("unreadable_devices_are_named", "mkfs.ext4") {
        return;
    }
    let scratch = Scratch::new();
    let guid = fresh_guid();
    let disk = Disk::new(&disk_file(&scratch, "disk", &guid), 1);
    assert!(listed(&disk).file_system().is_none());
    pack(&scratch.path("a.squashfs"));
    fs::write(scratch.path("haos.ini"), format!("[haos]\ndata_partition = {guid}\nsystem_image = a.squashfs\n")).unwrap();
    let checked = scratch.haosfs_as_nobody(&["config", "check", "haos.ini"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.contains("no partition of this machine has it; /dev/"), "{checked:?}");
    assert!(checked.stdout.contains("could not be read: Permission denied"), "{checked:?}");
}

/// As in an initramfs whose init has forgotten it.
#[test]
fn without_sysfs_it_is_asked_for() {
    let test = "without_sysfs_it_is_asked_for";
    if !can_run(test, is_root() && has_tool("unshare"), "needs root and unshare") {
        return;
    }
    let scratch = Scratch::new();
    pack(&scratch.path("a.squashfs"));
    fs::write(scratch.path("haos.ini"), format!("[haos]\ndata_partition = {}\nsystem_image = a.squashfs\n", fresh_guid()))
        .unwrap();
    let script = "umount -l /sys && exec \"$0\" config check haos.ini";
    let checked = scratch.run("unshare", &["--mount", "--propagation", "private", "sh", "-c", script, support::HAOSFS]);
    assert!(checked.stdout.contains("/sys/class/block is missing: `mount -t sysfs sysfs /sys` first"), "{checked:?}");
}
