//! Unions of lowers and one upper, by whichever driver: the same tests run on all of them.

use std::ffi::OsString;
use std::fs::{self, create_dir};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::mount::{Mount, run};
use super::scratch::open_temp_dir;
use super::squashfs;
use super::user::NOBODY;

/// Who merges the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kernel's overlayfs, over the kernel's squashfs.
    Kernel,
    /// haosfs, started by root.
    Haosfs,
    /// haosfs, started by an ordinary user through fusermount3.
    HaosfsUser,
}

impl Driver {
    /// A short name for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "overlay",
            Self::Haosfs => "haosfs",
            Self::HaosfsUser => "haosfs-user",
        }
    }
}

/// A read-only layer.
#[derive(Clone, Debug)]
pub enum Lower {
    /// A squashfs image.
    Image(PathBuf),
    /// A plain directory.
    Dir(PathBuf),
}

impl Lower {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Image(path) | Self::Dir(path) => path,
        }
    }
}

/// What keeps a union alive, in the order in which it must go.
struct Live {
    top: Top,
    _images: Vec<Mount>,
}

enum Top {
    Kernel(Mount),
    Haosfs(PathBuf),
}

/// The writable side.
struct Home {
    upper: PathBuf,
    work: PathBuf,
}

impl Home {
    /// In a directory; both are made when they are not there.
    fn new(driver: Driver, home: &Path) -> Self {
        let (upper, work) = (home.join("upper"), home.join("work"));
        for made in [&upper, &work].into_iter().filter(|dir| !dir.exists()) {
            create_dir(made).unwrap();
            if driver == Driver::HaosfsUser {
                chown(made, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        Self { upper, work }
    }
}

/// A mounted union. Its upper and work directories live where the caller says and stay when it goes.
pub struct Union {
    live: Option<Live>,
    driver: Driver,
    lowers: Vec<Lower>,
    home: Option<Home>,
    mountpoint: PathBuf,
    options: Vec<String>,
    /// `HAOSFS_FAULT` of the daemon.
    fault: Option<String>,
    dir: TempDir,
}

impl Union {
    /// Mounts `lowers` (topmost first) under `home/upper` with `home/work`; both are made when they are not there.
    pub fn new(driver: Driver, lowers: &[Lower], home: &Path) -> Self {
        Self::with_options(driver, lowers, home, &[])
    }

    /// As [`Union::new`], with more `-o` options.
    pub fn with_options(driver: Driver, lowers: &[Lower], home: &Path, options: &[&str]) -> Self {
        Self::start(driver, lowers, Some(Home::new(driver, home)), options, None)
    }

    /// With a fault to order (src/sys/fault.rs).
    pub fn with_fault(driver: Driver, lowers: &[Lower], home: &Path, options: &[&str], fault: String) -> Self {
        Self::start(driver, lowers, Some(Home::new(driver, home)), options, Some(fault))
    }

    /// Mounts `lowers` read-only. The kernel's overlayfs wants two of them then.
    pub fn without_upper(driver: Driver, lowers: &[Lower], options: &[&str]) -> Self {
        Self::start(driver, lowers, None, options, None)
    }

    /// What the kernel's overlayfs shows of an upper over `lowers`, changing nothing in it.
    pub fn as_the_kernel_shows(upper: &Path, lowers: &[Lower], options: &[&str]) -> Self {
        let layers = [&[Lower::Dir(upper.to_path_buf())], lowers].concat();
        Self::start(Driver::Kernel, &layers, None, options, None)
    }

    fn start(driver: Driver, lowers: &[Lower], home: Option<Home>, options: &[&str], fault: Option<String>) -> Self {
        let dir = open_temp_dir();
        let mountpoint = dir.path().join("union");
        create_dir(&mountpoint).unwrap();
        if driver == Driver::HaosfsUser {
            chown(&mountpoint, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut union = Self { live: None, driver, lowers: lowers.to_vec(), home, mountpoint, options, fault, dir };
        union.mount();
        union
    }

    /// The root of the merged tree.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// The upper directory.
    pub fn upper(&self) -> &Path {
        &self.home.as_ref().unwrap().upper
    }

    /// Who drives it.
    pub const fn driver(&self) -> Driver {
        self.driver
    }

    /// Unmounts and mounts again.
    pub fn remount(&mut self) {
        self.live = None;
        self.mount();
    }

    /// Unmounts, and mounts the same layers by another driver.
    pub fn remount_by(&mut self, driver: Driver) {
        self.live = None;
        self.driver = driver;
        self.mount();
    }

    /// Unmounts; the upper may then be looked at.
    pub fn unmount(&mut self) {
        self.live = None;
    }

    /// Unmounts haosfs without waiting for its daemon, which may be dead.
    pub fn abandon(&mut self) {
        std::mem::forget(self.live.take());
        drop(Mount::adopt(&self.mountpoint));
    }

    /// Takes over a mount of haosfs that somebody else made at its place.
    pub fn adopt(&mut self) {
        self.live = Some(Live { top: Top::Haosfs(self.mountpoint.clone()), _images: Vec::new() });
    }

    /// Mounts again after [`Union::unmount`].
    pub fn mount(&mut self) {
        self.live = Some(match self.driver {
            Driver::Kernel => self.mount_kernel(),
            Driver::Haosfs => self.mount_haosfs(Command::new(env!("CARGO_BIN_EXE_haosfs"))),
            // A test that already acts as the user needs no change of credentials, and could not make one.
            Driver::HaosfsUser if !rustix::process::geteuid().is_root() => {
                self.mount_haosfs(Command::new(env!("CARGO_BIN_EXE_haosfs")))
            }
            Driver::HaosfsUser => {
                let id = NOBODY.to_string();
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(env!("CARGO_BIN_EXE_haosfs"));
                self.mount_haosfs(command)
            }
        });
    }

    fn mount_kernel(&self) -> Live {
        let mut images = Vec::new();
        let mut lowerdir = OsString::from("lowerdir=");
        for (i, lower) in self.lowers.iter().enumerate() {
            if i > 0 {
                lowerdir.push(":");
            }
            match lower {
                Lower::Dir(path) => lowerdir.push(path),
                Lower::Image(image) => {
                    let at = self.dir.path().join(format!("lower{i}"));
                    fs::create_dir_all(&at).unwrap();
                    lowerdir.push(&at);
                    images.push(squashfs::mount(image, &at));
                }
            }
        }
        let mut options = lowerdir;
        if let Some(home) = &self.home {
            options.push(",upperdir=");
            options.push(&home.upper);
            options.push(",workdir=");
            options.push(&home.work);
        }
        for option in &self.options {
            options.push(",");
            options.push(option);
        }
        let args = ["-t".into(), "overlay".into(), "-o".into(), options];
        Live { top: Top::Kernel(Mount::patiently(&args, Path::new("union"), &self.mountpoint)), _images: images }
    }

    fn mount_haosfs(&self, mut command: Command) -> Live {
        let (first, more) = self.lowers.split_first().unwrap();
        command.envs(self.fault.iter().map(|fault| ("HAOSFS_FAULT", fault)));
        command.arg("mount").arg(first.path()).arg(&self.mountpoint);
        if let Some(home) = &self.home {
            command.arg("--upper").arg(&home.upper).arg("--work").arg(&home.work);
        }
        for lower in more {
            command.arg("--lower").arg(lower.path());
        }
        for option in &self.options {
            command.args(["-o", option]);
        }
        patiently(&mut command);
        let same_device = fs::metadata(&self.mountpoint).map(|inside| {
            use std::os::unix::fs::MetadataExt;
            inside.dev() == fs::metadata(self.dir.path()).unwrap().dev()
        });
        assert!(!same_device.unwrap_or(false), "{command:?} answered success, yet nothing is mounted");
        Live { top: Top::Haosfs(self.mountpoint.clone()), _images: Vec::new() }
    }
}

/// Mounts an upper that the kernel's overlayfs may have had: a mount namespace that somebody else has made meanwhile keeps that alive
/// until it ends, as [`Mount::patiently`] knows.
fn patiently(mount: &mut Command) {
    for _ in 0..100 {
        let output = mount.output().unwrap();
        if output.status.success() {
            return;
        }
        if !String::from_utf8_lossy(&output.stderr).contains("mounted out of sight") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    run(mount);
}

impl Drop for Top {
    /// `haosfs umount` is tried first; the mount never stays, whatever it answers.
    fn drop(&mut self) {
        match self {
            Self::Kernel(_) => {}
            Self::Haosfs(at) => {
                // A child that another test is just starting has our descriptors until its exec: busy for an instant.
                let mut first = None;
                for _ in 0..50 {
                    let output = Command::new(env!("CARGO_BIN_EXE_haosfs")).arg("umount").arg(&*at).output().unwrap();
                    if output.status.success() {
                        return;
                    }
                    first = first.or(Some(output));
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                eprintln!("haosfs umount {}: {first:?} at first", at.display());
                drop(Mount::adopt(at));
            }
        }
    }
}
