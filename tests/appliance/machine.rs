//! A machine with one disk: a system partition that holds haos.ini and images, and a data partition.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::{Disk, fresh_guid, gpt, make, run};
use crate::support::{Finished, Scratch};
use crate::tree::snapshot::Snapshot;

/// Bytes of the disk and of its first partition; XFS wants 300 MiB.
const SIZE: u64 = 400 << 20;
const START: u64 = 1 << 20;
const SYSTEM: u64 = 32 << 20;

/// Options that make each file system quickly.
pub const FILE_SYSTEMS: [(&str, &[&str]); 3] = [("ext4", &["-q"]), ("btrfs", &["-q"]), ("xfs", &["-q"])];

pub struct Machine {
    pub scratch: Scratch,
    pub guid: String,
    pub disk: Disk,
}

/// The architecture, as images are named.
pub fn architecture() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

impl Machine {
    /// With the older image chosen, the system partition mounted at `system`, and an empty `mnt`.
    pub fn with(fs: &str) -> Self {
        let options = FILE_SYSTEMS.iter().find(|(name, _)| *name == fs).map_or(&[][..], |(_, options)| options);
        let (scratch, guid) = (Scratch::new(), fresh_guid());
        let path = scratch.path("disk");
        let file = File::create(&path).unwrap();
        file.set_len(SIZE).unwrap();
        let middle = START + SYSTEM;
        let system = gpt::Entry { start: START, end: middle, guid: &fresh_guid(), name: "system" };
        let data = gpt::Entry { start: middle, end: SIZE - gpt::BEHIND, guid: &guid, name: "data" };
        gpt::write(&file, SIZE, &[system, data]);
        let disk = Disk::new(&path, 2);
        make("mkfs.ext4", &["-q"], &disk.partition(1));
        make(&format!("mkfs.{fs}"), options, &disk.partition(2));
        ["system", "mnt"].into_iter().for_each(|name| scratch.mkdir(name));
        run(Command::new("mount").arg(disk.partition(1)).arg(scratch.path("system")));
        let machine = Self { scratch, guid, disk };
        ["7.1.0.0", "7.1.1.0"].into_iter().for_each(|version| machine.pack(version));
        machine.configure(&format!("{{{}}},fs={fs}", machine.guid), "7.1.0.0");
        machine
    }

    pub fn image(&self, version: &str) -> PathBuf {
        self.scratch.path("system").join(format!("haos-{}_{version}.squashfs", architecture()))
    }

    /// Packs an image that knows its version.
    pub fn pack(&self, version: &str) {
        let tree = self.scratch.path("tree");
        fs::create_dir_all(tree.join("usr/lib/deep/er")).unwrap();
        fs::create_dir_all(tree.join("etc/conf.d")).unwrap();
        fs::write(tree.join("etc/version"), version).unwrap();
        for n in 0..20 {
            fs::write(tree.join(format!("etc/conf.d/{n}")), format!("{n} of {version}\n")).unwrap();
            fs::write(tree.join(format!("usr/lib/deep/er/{n}")), vec![b'x'; n * 1500]).unwrap();
        }
        fs::hard_link(tree.join("etc/version"), tree.join("usr/version")).unwrap();
        symlink("../etc/version", tree.join("usr/link")).unwrap();
        fs::set_permissions(tree.join("usr/lib"), PermissionsExt::from_mode(0o2750)).unwrap();
        let quietly = ["-noappend", "-quiet", "-no-progress"];
        run(Command::new("mksquashfs").arg(&tree).arg(self.image(version)).args(quietly));
        fs::remove_dir_all(tree).unwrap();
    }

    pub fn ini(&self) -> PathBuf {
        self.scratch.path("system/haos.ini")
    }

    pub fn configure(&self, data: &str, version: &str) {
        let image = self.image(version);
        let image = image.file_name().unwrap().to_str().unwrap();
        fs::write(self.ini(), format!("[haos]\ndata_partition = {data}\nsystem_image = {image}\n")).unwrap();
    }

    pub fn mount(&self, options: &str) -> Finished {
        let [ini, mnt] = [self.ini(), self.scratch.path("mnt")].map(|path| path.into_os_string().into_string().unwrap());
        self.scratch.haosfs(&["mount", &ini, &mnt, "-o", options])
    }

    pub fn umount(&self) {
        self.scratch.umount("mnt");
        self.assert_nothing_is_left();
    }

    /// Everything that the union shows.
    pub fn seen(&self) -> Snapshot {
        Snapshot::read(&self.scratch.path("mnt")).unwrap()
    }

    /// What `meta.ini` of the generation in use says of `key`. The data partition must be free.
    pub fn meta(&self, key: &str) -> String {
        let text = self.on_data(|data| fs::read_to_string(data.join("haosfs/uppers/current/meta.ini")).unwrap());
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {key} in {text}"))
    }

    /// Does something with the data partition mounted.
    pub fn on_data<T>(&self, act: impl FnOnce(&Path) -> T) -> T {
        self.scratch.mkdir("data");
        let data = self.scratch.path("data");
        run(Command::new("mount").arg(self.disk.partition(2)).arg(&data));
        let done = act(&data);
        // A child that another test is just starting has our descriptors until its exec: busy for an instant.
        crate::support::wait_until("the data partition is unmounted", || {
            Command::new("umount").arg(&data).status().unwrap().success()
        });
        done
    }

    /// No mount, no loop device, no process, and nobody who holds the data partition.
    pub fn assert_nothing_is_left(&self) {
        assert_eq!(self.scratch.mountinfo("mnt"), None);
        for version in ["7.1.0.0", "7.1.1.0"] {
            // The kernel frees a loop device a moment after its last user.
            let loops = || run(Command::new("losetup").arg("--associated").arg(self.image(version)));
            crate::support::wait_until("the image's loop device goes", || loops().is_empty());
        }
        assert_eq!(self.scratch.daemons(), [0; 0]);
        let partition = self.disk.partition(2);
        let alone = || OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&partition).is_ok();
        crate::support::wait_until("the data partition is free", alone);
        let stages = fs::read_dir("/run/haosfs").into_iter().flatten().flatten();
        let own = stages.filter(|entry| entry.file_name().to_string_lossy().starts_with("stage.") && is_dead(&entry.path()));
        assert_eq!(own.count(), 0, "a stage is left in /run/haosfs");
    }
}

/// A stage whose process is gone.
fn is_dead(stage: &Path) -> bool {
    let name = stage.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let pid = name.split('.').nth(1).unwrap_or_default();
    !Path::new("/proc").join(pid).exists() && fs::metadata(stage).is_ok_and(|found| found.nlink() > 0)
}
