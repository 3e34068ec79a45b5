//! A machine with its disk, which stays from one start to the next.

use std::path::{Path, PathBuf};

use super::disk::{Data, Disk};
use super::guest::{Guest, Setup};
use super::initramfs::{self, Joins};
use super::kernel::Kernel;

/// A machine.
pub struct Machine {
    /// What it starts.
    pub kernel: &'static Kernel,
    /// Its disk.
    pub disk: Disk,
    initramfs: PathBuf,
}

impl Machine {
    /// One whose system is this image.
    pub fn new(kernel: &'static Kernel, joins: Joins, data: Data, image: &Path) -> Self {
        Self::with_disk(kernel, joins, Disk::new(data, image, "", None))
    }

    /// One with a disk that was made before.
    pub fn with_disk(kernel: &'static Kernel, joins: Joins, disk: Disk) -> Self {
        let initramfs = initramfs::write(kernel, joins, initramfs::BY_INI, disk.dir());
        Self { kernel, disk, initramfs }
    }

    /// One with an initramfs that was made before.
    pub fn with_initramfs(kernel: &'static Kernel, disk: Disk, initramfs: PathBuf) -> Self {
        Self { kernel, disk, initramfs }
    }

    /// Switches it on.
    pub fn start(&self) -> Guest {
        self.start_with("", &[])
    }

    /// Switches it on, with more for the kernel's command line and for QEMU.
    pub fn start_with(&self, append: &str, more: &[&str]) -> Guest {
        self.start_from(&self.disk.file(), None, append, more)
    }

    /// Switches it on with another disk; what is written to that is logged where this is asked for.
    pub fn start_from(&self, disk: &Path, log: Option<&Path>, append: &str, more: &[&str]) -> Guest {
        Guest::start(&Setup { kernel: self.kernel, initramfs: &self.initramfs, disk, log, append, more })
    }

    /// Switches it on, and waits until it takes scripts.
    #[track_caller]
    pub fn boot(&self) -> Guest {
        let mut guest = self.start();
        guest.until_ready();
        guest
    }
}
