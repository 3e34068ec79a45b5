//! The drivers, and how each is mounted.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::corpus::run;
use crate::footprint::Footprint;

/// The ordinary user.
pub const USER: u32 = 65_534;

/// Where stands are made, each in a directory of its own.
const STANDS: &str = "stands";
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Removes what earlier measurements left.
pub fn clear(base: &Path) {
    let _gone = fs::remove_dir_all(base.join(STANDS));
}

/// A way to have the union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// squashfs and overlayfs of the kernel.
    Kernel,
    /// squashfuse_ll below fuse-overlayfs.
    TwoDaemons,
    /// haosfs as root.
    Haosfs,
    /// haosfs as an ordinary user, by fusermount3.
    Rootless,
}

/// In the order of the table.
pub const ALL: [Contender; 4] = [Contender::Kernel, Contender::TwoDaemons, Contender::Haosfs, Contender::Rootless];

/// Where the mounts of one row stand.
#[derive(Debug)]
pub struct Stand {
    dir: PathBuf,
    /// The union.
    pub union: PathBuf,
}

/// A union that is mounted; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    /// Where.
    pub stand: Stand,
    contender: Contender,
    /// The daemons' memory.
    pub footprint: Footprint,
}

impl Contender {
    /// For the command line and the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::TwoDaemons => "two-daemons",
            Self::Haosfs => "haosfs",
            Self::Rootless => "rootless",
        }
    }

    /// Whether this machine has it.
    pub fn is_there(self) -> Result<(), String> {
        let needed: &[&str] = match self {
            Self::Kernel => &["mount"],
            Self::TwoDaemons => &["squashfuse_ll", "fuse-overlayfs"],
            Self::Haosfs => &[],
            Self::Rootless => &["fusermount3", "setpriv"],
        };
        for program in needed {
            let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status().unwrap();
            if !found.success() {
                return Err(format!("{program} is not installed"));
            }
        }
        if self == Self::Rootless && !self.by(Path::new("test")).args(["-w", "/dev/fuse"]).status().unwrap().success() {
            return Err("/dev/fuse is not for everybody: chmod 0666 /dev/fuse".into());
        }
        let systems = fs::read_to_string("/proc/filesystems").unwrap();
        if self == Self::Kernel && !(systems.contains("\tsquashfs") && systems.contains("\toverlay")) {
            return Err("this kernel lacks squashfs or overlayfs".into());
        }
        Ok(())
    }

    /// Who does the work on the union.
    pub fn by(self, program: &Path) -> Command {
        if self != Self::Rootless {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        let id = USER.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
        command
    }

    /// Makes an empty upper and mounts the image below it; the time is that of the mount commands alone.
    pub fn mount(self, base: &Path, image: &Path, options: &str) -> (Mounted, Duration) {
        let stand = Stand::make(base, self);
        let began = Instant::now();
        match self {
            Self::Kernel => self.mount_kernel(&stand, image),
            Self::TwoDaemons => self.mount_two(&stand, image),
            Self::Haosfs | Self::Rootless => self.mount_haosfs(&stand, image, options),
        }
        let took = began.elapsed();
        let footprint = Footprint::watch(daemons(self, &stand));
        (Mounted { stand, contender: self, footprint }, took)
    }

    fn mount_kernel(self, stand: &Stand, image: &Path) {
        run(Command::new("mount").args(["-t", "squashfs", "-o", "ro,loop"]).arg(image).arg(stand.lower()));
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o"]).arg(stand.layers()).arg(&stand.union));
    }

    fn mount_two(self, stand: &Stand, image: &Path) {
        run(Command::new("squashfuse_ll").args(["-o", "allow_other"]).arg(image).arg(stand.lower()));
        run(Command::new("fuse-overlayfs").arg("-o").arg(stand.layers()).arg(&stand.union));
    }

    fn mount_haosfs(self, stand: &Stand, image: &Path, options: &str) {
        let mut command = self.by(Path::new(&stand.program()));
        command.arg("mount").arg(image).arg(&stand.union).args(["--backend", "fuse"]);
        command.arg("--upper").arg(stand.upper()).arg("--work").arg(stand.work());
        if self == Self::Rootless {
            command.args(["-o", &format!("uid={USER},gid={USER}")]);
        }
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        run(&mut command);
    }
}

/// The processes that serve a union.
fn daemons(contender: Contender, stand: &Stand) -> Vec<u32> {
    let said: Option<&Path> = match contender {
        Contender::Kernel => return Vec::new(),
        Contender::TwoDaemons => None,
        Contender::Haosfs | Contender::Rootless => Some(&stand.union),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|&b| b == 0).collect();
        let mine = |path: &Path| words.contains(&path.as_os_str().as_encoded_bytes());
        let served = match said {
            Some(union) => mine(union),
            None => mine(&stand.union) || mine(&stand.lower()),
        };
        if served {
            found.push(pid);
        }
    }
    found
}

impl Stand {
    fn make(base: &Path, contender: Contender) -> Self {
        // None is removed before the end: ext4 passes over inodes that were deleted lately, one by one, when it makes new ones.
        let dir = base.join(format!("{STANDS}/{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let stand = Self { union: dir.join("union"), dir };
        for made in [stand.dir.clone(), stand.lower(), stand.upper(), stand.work(), stand.union.clone()] {
            fs::create_dir_all(&made).unwrap();
            if contender == Contender::Rootless {
                chown(&made, Some(USER), Some(USER)).unwrap();
            }
        }
        // What an earlier row left must not be written while this one is measured.
        rustix::fs::sync();
        stand
    }

    fn lower(&self) -> PathBuf {
        self.dir.join("lower")
    }

    fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// haosfs, where the ordinary user finds it, too.
    fn program(&self) -> PathBuf {
        let copy = self.dir.ancestors().nth(2).unwrap().join("haosfs");
        let newest = Path::new(env!("CARGO_BIN_EXE_haosfs"));
        let time = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
        if time(&copy) < time(newest) {
            let fresh = copy.with_extension("new");
            fs::copy(newest, &fresh).unwrap();
            fs::rename(&fresh, &copy).unwrap();
        }
        copy
    }

    fn layers(&self) -> String {
        let [lower, upper, work] = [self.lower(), self.upper(), self.work()].map(|path| path.display().to_string());
        format!("lowerdir={lower},upperdir={upper},workdir={work}")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.stand.union);
        if matches!(self.contender, Contender::Kernel | Contender::TwoDaemons) {
            unmount(&self.stand.lower());
        }
        self.footprint.wait_for_end();
    }
}

/// A mount may be busy for a moment after its last user.
fn unmount(at: &Path) {
    for _ in 0..50 {
        let quiet = || Stdio::null();
        if Command::new("umount").arg(at).stderr(quiet()).status().unwrap().success() {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    let _detached = Command::new("umount").arg("-l").arg(at).status();
    println!("{}: stayed busy, detached", at.display());
}
