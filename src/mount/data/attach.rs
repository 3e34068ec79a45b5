//! The data partition, mounted for one union alone: it stands nowhere, so it goes with the union, whoever unmounts that and
//! whatever became of its daemon.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::locate::DataPlace;
use super::partition::{Content, Partition};
use super::probe::partitions;
use crate::config::data_partition::DataPartition;
use crate::config::mount_options::Access;
use crate::error::{Errno, Error, Result};
use crate::mount::kernel_fs::{KernelFs, Refusal};
use crate::mount::stage::Stage;
use crate::sys::btrfs;
use crate::sys::fuse_mount::Attributes;
use crate::sys::{kernel_mount, replace};
use crate::types::Atime;

/// File systems that cannot hold an upper: they have no owners, modes, extended attributes or device nodes.
/// With the numbers by which statfs(2) tells them.
const UNFIT: [(&str, u32); 6] = [
    ("vfat", 0x4d44),
    ("exfat", 0x2011_bab0),
    ("ntfs", 0x5346_544e),
    ("iso9660", 0x9660),
    ("squashfs", 0x7371_7368),
    ("udf", 0x1501_3346),
];

/// The file system in memory.
pub const MEMORY: &str = "tmpfs";

/// A data partition, or directory, that can be reached.
#[derive(Debug)]
pub struct Attached {
    path: PathBuf,
    shown: String,
    /// The partition's root and the driver of its file system; `None` for a directory.
    root: Option<(OwnedFd, String)>,
    options: Vec<String>,
    stage: Mutex<Option<Stage>>,
}

/// Where the partition stands for a moment, in place of its path.
#[derive(Debug)]
pub struct Standing<'a> {
    hidden: &'a Path,
    place: PathBuf,
}

impl Standing<'_> {
    /// The path by which something on the partition can be reached while it stands.
    #[must_use]
    pub fn rebased(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.hidden).map_or_else(|_| path.to_owned(), |below| self.place.join(below))
    }
}

impl Attached {
    /// Mounts what `data_partition` means. `atime` is how reading through the union stamps files.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the partition: where its file system cannot hold uppers, is unknown, or cannot be written though it
    /// is to be, and what the kernel has to say.
    pub fn attach(place: DataPlace, data: &DataPartition, access: Access, atime: Atime) -> Result<Self> {
        match place {
            DataPlace::Directory(path) => {
                let shown = path.display().to_string();
                Ok(Self { path, shown, root: None, options: Vec::new(), stage: Mutex::new(None) })
            }
            DataPlace::Partition(partition) => mount(&partition, data, access, atime),
        }
    }

    /// A data partition in memory, which goes with its last user.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn memory(atime: Atime) -> Result<Self> {
        let mut stage = None;
        let (options, attributes) = (vec!["mode=0755".to_owned()], Attributes { atime, ..Attributes::default() });
        let mounted = KernelFs { driver: MEMORY, source: MEMORY.as_ref(), options: &options, attributes }.mount(&mut stage)?;
        let root = mounted.map_err(|refusal| Error::Refused(format!("{MEMORY} cannot be mounted: {refusal}")))?;
        let (path, root) = (path_of(&root), Some((root, MEMORY.to_owned())));
        Ok(Self { path, shown: MEMORY.to_owned(), root, options, stage: Mutex::new(stage) })
    }

    /// Its root, for this process and those that it forks.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name, for people.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Options that its driver was given.
    #[must_use]
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// The driver of its file system; `None` for a directory.
    #[must_use]
    pub fn driver(&self) -> Option<&str> {
        self.root.as_ref().map(|(_, driver)| driver.as_str())
    }

    /// A path below it as it is on the partition itself; for a directory the whole path.
    #[must_use]
    pub fn within<'a>(&self, path: &'a Path) -> &'a Path {
        match &self.root {
            Some(_) => path.strip_prefix(&self.path).unwrap_or(path),
            None => path,
        }
    }

    /// Mounts one once more whose union has gone.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn again(data: &Path, driver: Option<&str>, options: &[String]) -> Result<Self> {
        let shown = data.display().to_string();
        let Some(driver) = driver else {
            return Ok(Self { path: data.to_owned(), shown, root: None, options: Vec::new(), stage: Mutex::new(None) });
        };
        let mut stage = None;
        let mounted =
            KernelFs { driver, source: data.as_os_str(), options, attributes: Attributes::default() }.mount(&mut stage)?;
        let root = mounted.map_err(|refusal| Error::Refused(format!("{shown} cannot be mounted: {refusal}")))?;
        Ok(Self {
            path: path_of(&root),
            shown,
            root: Some((root, driver.to_owned())),
            options: options.to_vec(),
            stage: Mutex::new(stage),
        })
    }

    /// Names the partition in a message, in place of a path that says nothing.
    #[must_use]
    pub fn told(&self, e: Error) -> Error {
        let shown = |text: String| text.replace(&format!("{}/", self.path.display()), &format!("{}:/", self.shown));
        match (&self.root, e) {
            (None, e) => e,
            (Some(_), Error::Sys { doing, name, errno }) => Error::sys(doing, shown(name.display().to_string()), errno),
            (Some(_), Error::Full(text)) => Error::Full(shown(text)),
            (Some(_), e) => Error::Refused(shown(e.to_string())),
        }
    }

    /// Gives the partition a place on a stage; `None` for a directory, which has one.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn stand(&self, stage: &Stage) -> Result<Option<Standing<'_>>> {
        let Some((root, _)) = &self.root else { return Ok(None) };
        if self.stage.lock().is_some() {
            let place = fs::read_link(&self.path).map_err(|e| Error::sys("find the place of", &self.shown, e))?;
            return Ok(Some(Standing { hidden: &self.path, place }));
        }
        let place = stage.place()?;
        kernel_mount::place(root, &place).map_err(|e| Error::sys("mount on", &place, e))?;
        Ok(Some(Standing { hidden: &self.path, place }))
    }

    /// Mounts the partition once more, on a stage, for a look by a path that this process sees; `None` for a directory, and for what is
    /// in memory, of which there is no second mount.
    ///
    /// # Errors
    /// What the kernel answers: `EBUSY` where nobody writes to it.
    pub fn stand_again(&self, stage: &Stage) -> Result<Option<PathBuf>> {
        let Some((_, driver)) = self.root.as_ref().filter(|(_, driver)| driver != MEMORY) else { return Ok(None) };
        let (place, options) = (stage.place()?, OsString::from(self.options.join(",")));
        // One that is there already has the options of its first mount.
        kernel_mount::mount(driver, self.shown.as_ref(), &place, Attributes::default(), &options)
            .map_err(|e| Error::sys("mount once more", &self.shown, e))?;
        Ok(Some(place))
    }

    /// Takes it out of sight, where the kernel could mount it in sight only. It stays until this value goes.
    pub fn hide(&self) {
        self.stage.lock().take();
    }
}

/// Checks the file system that a directory is on.
///
/// # Errors
/// [`Error::Refused`] where that cannot hold uppers, and where it cannot be opened.
pub fn refuse_unfit(directory: &Path) -> Result<()> {
    let opened = replace::open_dir(directory).map_err(|e| Error::sys("open", directory, e))?;
    let found = rustix::fs::fstatfs(opened).map_or(0, |found| found.f_type as u32);
    match UNFIT.iter().find(|(_, number)| *number == found) {
        Some((driver, _)) => Err(Error::Refused(format!("{}: {}", directory.display(), unfit(driver)))),
        None => Ok(()),
    }
}

fn unfit(driver: &str) -> String {
    format!("{driver} cannot hold an upper (it has no extended attributes); use ext4, btrfs or xfs")
}

fn mount(partition: &Partition, data: &DataPartition, access: Access, atime: Atime) -> Result<Attached> {
    let refused = |why: String| Error::Refused(format!("data_partition {}: {partition}: {why}", data.place));
    let driver = match (&data.fs, &partition.content) {
        (Some(fs), _) => fs.as_str(),
        (None, Content::FileSystem(found)) => found.kind,
        (None, _) => return Err(refused("its file system is not known; name it with fs=".to_owned())),
    };
    if UNFIT.iter().any(|(unfit, _)| *unfit == driver) || driver.starts_with("fuse") {
        return Err(refused(unfit(driver)));
    }
    let (attributes, options) = split(&data.options, atime).map_err(|option| {
        refused(format!(
            "option {option}: uppers are written to; mount the union itself with -o ro where nothing shall be written"
        ))
    })?;
    let mut stage = None;
    let source = partition.device.as_os_str();
    let read_only = access == Access::ReadOnly;
    let attributes = Attributes { read_only, ..attributes };
    let wanted = KernelFs { driver, source, options: &options, attributes };
    let mut root = wanted.mount_shared(&mut stage)?;
    if root.is_err() && driver == "btrfs" {
        tell_of_devices(partition);
        root = wanted.mount_shared(&mut stage)?;
    }
    let root = root.map_err(|refusal| refused(why_not(driver, &refusal)))?;
    if !read_only && is_read_only(&root).map_err(|e| refused(e.to_string()))? {
        return Err(refused("it can only be read; repair or replace it, or mount with -o ro".to_owned()));
    }
    let shown = partition.device.display().to_string();
    Ok(Attached { path: path_of(&root), shown, root: Some((root, driver.to_owned())), options, stage: Mutex::new(stage) })
}

/// The driver knows what it was told of, which udev does where that runs: the devices that have the same file system.
fn tell_of_devices(partition: &Partition) {
    let all = partitions().unwrap_or_default();
    for other in all.iter().filter(|other| other.content == partition.content) {
        if let Err(errno) = btrfs::scan(&other.device) {
            tracing::debug!("{}: {errno}", other.device.display());
        }
    }
}

/// It stands nowhere, but its descriptor leads to it.
fn path_of(root: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", root.as_raw_fd()).into()
}

fn why_not(driver: &str, refusal: &Refusal) -> String {
    match refusal.errno {
        Errno::ENODEV => format!("the kernel has no {driver}"),
        Errno::EROFS | Errno::EACCES => format!("{driver} cannot be mounted for writing, as it is without -o ro: {refusal}"),
        Errno::EBUSY => format!("{driver}: {refusal}; it is mounted in another way, or part of something else"),
        _ => format!("the kernel's {driver} does not mount it: {refusal}"),
    }
}

fn is_read_only(root: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatvfs(root)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// What concerns the mount, and what the driver has to know.
fn split(options: &[String], atime: Atime) -> std::result::Result<(Attributes, Vec<String>), &str> {
    let mut attributes = Attributes { atime, ..Attributes::default() };
    let mut rest = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => return Err(option),
            // The union has flags of its own.
            "nosuid" | "suid" | "nodev" | "dev" | "exec" | "rw" | "defaults" | "relatime" | "noexec" => {}
            "noatime" => attributes.atime = Atime::Never,
            "strictatime" => attributes.atime = Atime::Strict,
            _ => rest.push(option.clone()),
        }
    }
    Ok((attributes, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_mount_and_of_the_driver_are_told_apart() {
        let given = |list: &str| list.split(',').map(str::to_owned).collect::<Vec<_>>();
        let (attributes, rest) =
            split(&given("noatime,compress=zstd,discard,nodev"), Atime::Relative).map_err(str::to_owned).unwrap();
        assert_eq!((attributes.atime, attributes.nodev), (Atime::Never, false));
        assert_eq!(rest, ["compress=zstd", "discard"]);
        assert_eq!(split(&given("discard,ro"), Atime::Relative), Err("ro"));
    }
}
