//! Scratch file systems on sparse loop images, one per test.

use std::fs::{File, Permissions, create_dir, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use super::mount::{Mount, run};
use super::requirement::tool;

/// A kind of file system that uppers live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    /// ext4 with the defaults of mke2fs.
    Ext4,
    /// XFS with the defaults of mkfs.xfs.
    Xfs,
    /// btrfs with the defaults of mkfs.btrfs.
    Btrfs,
    /// tmpfs.
    Tmpfs,
}

impl Fs {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Tmpfs];

    /// The kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Tmpfs => "tmpfs",
        }
    }

    const fn mkfs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ext4 => Some(("mkfs.ext4", "-qF")),
            Self::Xfs => Some(("mkfs.xfs", "-qf")),
            Self::Btrfs => Some(("mkfs.btrfs", "-qf")),
            Self::Tmpfs => None,
        }
    }
}

/// Bytes of a scratch file system; the image is sparse.
const SIZE: u64 = 640 << 20;

/// A mounted, empty file system.
pub struct Scratch {
    mount: Mount,
    fs: Fs,
    dir: TempDir,
}

impl Scratch {
    /// Makes and mounts one with room for every test.
    pub fn new(fs: Fs) -> Self {
        Self::with_size(fs, SIZE)
    }

    /// Makes and mounts one of that many bytes. XFS wants 300 MiB, btrfs 110.
    pub fn with_size(fs: Fs, size: u64) -> Self {
        let dir = open_temp_dir();
        let at = dir.path().join("mnt");
        create_dir(&at).unwrap();
        let mount = match fs.mkfs() {
            None => Mount::new(&["-t", "tmpfs", "-o", &format!("size={size}")], Path::new("scratch"), &at),
            Some((program, quiet)) => {
                let image = dir.path().join("image");
                File::create(&image).unwrap().set_len(size).unwrap();
                // mkfs.btrfs looks at every mount, and root may not look at those of ordinary users: so it sees none of them, and
                // holds none of the unions of other tests.
                let script = "umount -a -l -t fuse.haosfs,overlay; exec \"$0\" \"$@\"";
                let private = ["--mount", "--propagation", "private", "sh", "-c", script];
                run(Command::new("unshare").args(private).arg(tool(program).unwrap()).arg(quiet).arg(&image));
                Mount::new(&["-t", fs.name(), "-o", "loop"], &image, &at)
            }
        };
        set_permissions(&at, Permissions::from_mode(0o755)).unwrap();
        Self { mount, fs, dir }
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Copies what a power cut would leave of it now.
    pub fn copy(&self, to: &Path) {
        run(Command::new("cp").arg("--sparse=always").arg(self.dir.path().join("image")).arg(to));
    }

    /// Unmounts it and has it checked, changing nothing (e2fsck(8)); for ext4.
    pub fn check(self) {
        let Self { mount, dir, .. } = self;
        drop(mount);
        // A daemon that was killed may still be on its way out, with its own clone of the mount: until then it is not written out.
        let image = dir.path().join("image");
        for _ in 0..200 {
            if run(Command::new("losetup").arg("-j").arg(&image)).is_empty() {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        run(Command::new(tool("e2fsck").unwrap()).arg("-fn").arg(image));
    }

    /// Its kind.
    pub const fn fs(&self) -> Fs {
        self.fs
    }

    /// Makes a directory in it that anyone may enter.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.path().join(name);
        create_dir(&dir).unwrap();
        set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        dir
    }
}

/// A temporary directory that other users may enter.
pub fn open_temp_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("haosfs-test-").tempdir().unwrap();
    set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}
