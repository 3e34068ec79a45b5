//! A guest's disk: a system partition with images and haos.ini, and a data partition.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::gpt::{self, Entry};
use super::host::{self, run};

const MIB: u64 = 1 << 20;
/// What every disk writes at once, in bytes.
pub const SECTOR: u64 = 512;
/// Where the partitions begin, and where the last one ends.
const SYSTEM: u64 = MIB;
const DATA: u64 = 321 * MIB;
const END: u64 = 705 * MIB;
const SYSTEM_GUID: &str = "7a5b3c1d-0001-4000-8000-000000000001";
const DATA_GUID: &str = "7a5b3c1d-0002-4000-8000-000000000002";
const SIZE: u64 = END + gpt::BEHIND.next_multiple_of(MIB);
const PARTITIONS: [Entry<'_>; 2] = [
    Entry { start: SYSTEM, end: DATA, guid: SYSTEM_GUID, name: "system" },
    Entry { start: DATA, end: END, guid: DATA_GUID, name: "data" },
];

/// The file system of a system partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// ext4.
    Ext4,
    /// FAT32, as firmware reads it. It is made and read here without a mount.
    Fat,
}

impl System {
    /// Makes one in a file, with what a directory has.
    fn make(self, tree: &Path, part: &Path) {
        match self {
            Self::Ext4 => drop(run(host::command("mke2fs").args(["-qF", "-t", "ext4", "-d"]).arg(tree).arg(part))),
            Self::Fat => {
                run(host::command("mkfs.vfat").args(["-F", "32"]).arg(part));
                let entries = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().path());
                run(host::command("mcopy").args(["-s", "-i"]).arg(part).args(entries).arg("::"));
            }
        }
    }
}

/// The file system of a data partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// ext4.
    Ext4,
    /// btrfs.
    Btrfs,
}

impl Data {
    /// The kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        }
    }

    /// Bytes that it relies on a disk to write at once: btrfs its superblock, of which it looks at no copy when the first one is broken.
    pub const fn needs_at_once(self) -> u64 {
        match self {
            Self::Ext4 => SECTOR,
            Self::Btrfs => 4096,
        }
    }
}

/// A disk in a file, with a directory of its own that goes with it.
pub struct Disk {
    dir: tempfile::TempDir,
    data: Data,
}

/// The name of an image of a version.
pub fn image_name(version: &str) -> String {
    format!("haos-x86_64_{version}.squashfs")
}

impl Disk {
    /// A new one as [`Disk::with_system`] makes it, whose system partition is ext4.
    pub fn new(data: Data, image: &Path, more: &str, update: Option<&Path>) -> Self {
        Self::with_system(System::Ext4, data, image, more, update)
    }

    /// A new one whose haos.ini names version 1.0 of the image. `more` is appended to haos.ini; `update`, where there is one, lies in
    /// `incoming/` as version 2.0.
    pub fn with_system(kind: System, data: Data, image: &Path, more: &str, update: Option<&Path>) -> Self {
        let disk = Self { dir: tempfile::Builder::new().prefix("haosfs-test-").tempdir().unwrap(), data };
        let system = disk.dir().join("system");
        fs::create_dir_all(system.join("images")).unwrap();
        fs::copy(image, system.join("images").join(image_name("1.0"))).unwrap();
        if let Some(update) = update {
            fs::create_dir(system.join("incoming")).unwrap();
            fs::copy(update, system.join("incoming").join(image_name("2.0"))).unwrap();
        }
        let ini =
            format!("[haos]\ndata_partition = {{{DATA_GUID}}},fs={}\nsystem_image = {}\n{more}", data.name(), image_name("1.0"));
        fs::write(system.join("haos.ini"), ini).unwrap();
        let file = File::create_new(disk.file()).unwrap();
        file.set_len(SIZE).unwrap();
        gpt::write(&file, SIZE, &PARTITIONS);
        disk.fill(&file, SYSTEM..DATA, |part| kind.make(&system, part));
        disk.fill(&file, DATA..END, |part| match data {
            Data::Ext4 => drop(run(host::command("mke2fs").args(["-qF", "-t", "ext4"]).arg(part))),
            Data::Btrfs => drop(run(host::command("mkfs.btrfs").arg("-qf").arg(part))),
        });
        fs::remove_dir_all(system).unwrap();
        disk
    }

    /// Has a file system made in a file of its own, and copies what is not zero into a place of the disk.
    fn fill(&self, disk: &File, place: std::ops::Range<u64>, make: impl FnOnce(&Path)) {
        let part = self.dir().join("part");
        File::create_new(&part).unwrap().set_len(place.end - place.start).unwrap();
        make(&part);
        let bytes = fs::read(&part).unwrap();
        let size = usize::try_from(MIB / 16).unwrap();
        for (number, piece) in bytes.chunks(size).enumerate().filter(|(_, piece)| piece.iter().any(|byte| *byte != 0)) {
            disk.write_all_at(piece, place.start + (number * size) as u64).unwrap();
        }
        fs::remove_file(part).unwrap();
    }

    /// The directory for what belongs to a test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The disk.
    pub fn file(&self) -> PathBuf {
        self.dir().join("disk")
    }

    /// Standard output of a shell script that root runs where a copy of the data partition is mounted. Not while a guest runs.
    pub fn on_data(&self, script: &str) -> String {
        let (part, at) = (self.dir().join("data"), self.dir().join("mnt"));
        copy_range(&File::open(self.file()).unwrap(), DATA..END, &File::create(&part).unwrap());
        fs::create_dir_all(&at).unwrap();
        let mut command = host::command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
        // The journal is replayed, in the copy.
        command.arg(format!("mount -t {} -o loop $0 $1; cd $1; {script}", self.data.name())).arg(&part).arg(&at);
        let told = run(&mut command);
        fs::remove_file(part).unwrap();
        told
    }

    /// The files of a system partition on FAT whose paths have this form. Not while a guest runs.
    pub fn on_fat(&self, path: &str) -> String {
        read_fat(&self.file(), path)
    }

    /// Asserts that a system partition on FAT is in order, as [`check_fat`] does. Not while a guest runs.
    #[track_caller]
    pub fn check_fat(&self, was_unmounted: bool) {
        check_fat(&self.file(), was_unmounted);
    }

    /// Another disk that has the same system partition, and no data partition. Not while a guest runs.
    pub fn without_data(&self) -> PathBuf {
        let path = self.dir().join("without");
        let other = File::create(&path).unwrap();
        copy_range(&File::open(self.file()).unwrap(), 0..DATA, &other);
        other.set_len(SIZE).unwrap();
        gpt::write(&other, SIZE, &PARTITIONS[..1]);
        path
    }
}

/// The files of the system partition of a disk, on FAT, whose paths have this form.
pub fn read_fat(disk: &Path, path: &str) -> String {
    let partition = format!("{}@@{SYSTEM}", disk.display());
    run(host::command("mtype").args(["-i", &partition, &format!("::{path}")]))
}

/// Asserts that the system partition of a disk, on FAT, is in order: no two files have the same clusters. After a power cut or a
/// panic it is marked as not unmounted, and may have clusters that no file has.
#[track_caller]
pub fn check_fat(disk: &Path, was_unmounted: bool) {
    let part = disk.with_extension("fat");
    copy_range(&File::open(disk).unwrap(), SYSTEM..DATA, &File::create(&part).unwrap());
    let output = host::command("fsck.fat").arg("-nv").arg(&part).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("Checking we can access the last sector"), "{report}");
    assert!(!was_unmounted || output.status.success(), "{report}");
    assert!(!report.contains("share clusters") && !report.contains("File size is"), "{report}");
    fs::remove_file(part).unwrap();
}

/// Leaves holes where there is nothing.
fn copy_range(from: &File, range: std::ops::Range<u64>, to: &File) {
    let mut piece = vec![0; usize::try_from(MIB / 16).unwrap()];
    for at in range.clone().step_by(piece.len()) {
        from.read_exact_at(&mut piece, at).unwrap();
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(&piece, at - range.start).unwrap();
        }
    }
    to.set_len(range.end - range.start).unwrap();
}
