//! What is known about mounts of ours: small files named after the superblock's device number. The kernel keeps a union without
//! any process to ask, and of a daemon's the table of mounts tells little. They are gone after a reboot, as the mounts are.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::backend::{Backend, Choice};
use super::data::MEMORY;
use super::mountinfo::{MountEntry, mount_at};
use super::plan::MountPlan;
use crate::error::{Error, Result};
use crate::sys::{namespace, proc};

/// Where those of root are, and nothing of anybody else.
pub const DIRECTORY: &str = "/run/haosfs";

/// A mount as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stood first.
    pub mountpoint: PathBuf,
    /// Its source.
    pub source: OsString,
    /// What its superblock is made of, as the kernel shows it; `None` where an earlier program noted it.
    pub made_of: Option<OsString>,
    /// Who joins the layers.
    pub backend: Backend,
    /// Why.
    pub reason: String,
    /// Its lower layers, topmost first.
    pub lowers: Vec<PathBuf>,
    /// Its upper directory; on the data partition, where there is one.
    pub upper: Option<PathBuf>,
    /// Device and inode number of the upper directory.
    pub upper_inode: Option<(u64, u64)>,
    /// What haos.ini has led to.
    pub generation: Option<GenerationRecord>,
}

/// A generation on a data partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationRecord {
    /// Its number.
    pub number: u64,
    /// The image it was made on.
    pub base: OsString,
    /// The partition's device, or the directory.
    pub data: PathBuf,
    /// The driver of its file system; `None` for a directory.
    pub driver: Option<String>,
    /// Options that the driver was given.
    pub options: Vec<String>,
    /// Whether it is written to.
    pub writable: bool,
}

impl Record {
    /// Whether this is what was noted of a mount that has the same device number. Notes outlive what umount(8) takes away, and such
    /// numbers are used again, for overlays of others too.
    #[must_use]
    pub fn is_of(&self, mount: &MountEntry) -> bool {
        self.source == mount.source && self.made_of.as_ref().is_none_or(|made_of| *made_of == mount.made_of())
    }
}

impl GenerationRecord {
    /// Whether it is gone with its union.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.driver.as_deref() == Some(MEMORY)
    }
}

/// The file that a mount was noted in.
#[derive(Clone, Debug)]
pub struct Note(Option<PathBuf>);

/// Notes what a mount is. What was noted of earlier mounts with its device number goes: such numbers are used again.
///
/// # Errors
/// Where it cannot be written: `haosfs status` and `haosfs umount` will not know it.
pub fn note(mount: &MountEntry, plan: &MountPlan, choice: &Choice) -> Result<Note> {
    let Some(directory) = own_directory() else { return Ok(Note(None)) };
    let failed = |e| Error::sys("note the mount in", &directory, e);
    DirBuilder::new().mode(0o755).recursive(true).create(&directory).map_err(failed)?;
    let earlier = of_device(&directory, &mount.device);
    // Another name each time, so that a daemon that is late removes its own note only.
    let now = proc::since_start();
    let file = directory.join(format!("{}.{}.{:09}", mount.device, now.as_secs(), now.subsec_nanos()));
    let new = directory.join(format!("new.{}", std::process::id()));
    write(&new, &written(&describe(mount, plan, choice))).and_then(|()| fs::rename(new, &file)).map_err(failed)?;
    earlier.iter().try_for_each(|earlier| forget_file(earlier))?;
    Ok(Note(Some(file)))
}

/// Whatever the umask, nobody else may write to it: it is believed.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let _leftover = fs::remove_file(file);
    let mut file = File::options().write(true).create_new(true).mode(0o644).open(file)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bytes)
}

impl Note {
    /// Forgets the mount, which is gone.
    ///
    /// # Errors
    /// When the note is there and cannot be removed.
    pub fn forget(&self) -> Result<()> {
        self.0.as_deref().map_or(Ok(()), forget_file)
    }
}

/// Notes of mounts with this device number.
fn of_device(directory: &Path, device: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| device_of(name) == Some(device)))
        .map(|e| e.path())
        .collect()
}

/// `DEVICE.SECONDS.NANOSECONDS`.
fn device_of(name: &str) -> Option<&str> {
    name.split_once('.').map(|(device, _)| device).filter(|device| device.contains(':'))
}

fn describe(mount: &MountEntry, plan: &MountPlan, choice: &Choice) -> Record {
    let claim = plan.claim().or_else(|| plan.shown.as_ref().map(|shown| &shown.claim));
    Record {
        mountpoint: mount.mountpoint.clone(),
        source: mount.source.clone(),
        made_of: Some(mount.made_of()),
        backend: choice.backend,
        reason: choice.reason.clone(),
        lowers: plan
            .lowers
            .iter()
            .map(|lower| claim.map_or(&*lower.path, |claim| claim.data().within(&lower.path)).to_owned())
            .collect(),
        upper: plan.upper.as_ref().map(|upper| match claim {
            Some(claim) => claim.data().within(&upper.upper).to_owned(),
            None => upper.upper.clone(),
        }),
        upper_inode: upper_of(plan).and_then(|upper| fs::metadata(upper).ok()).map(|found| (found.dev(), found.ino())),
        generation: claim.map(|claim| GenerationRecord {
            number: claim.generation().number,
            base: claim.generation().meta.base.name.clone(),
            data: claim.data().shown().into(),
            driver: claim.data().driver().map(str::to_owned),
            options: claim.data().options().to_vec(),
            writable: plan.upper.is_some(),
        }),
    }
}

/// The directory that is the union's upper, written to or not.
fn upper_of(plan: &MountPlan) -> Option<&Path> {
    let shown = plan.shown.as_ref().and_then(|_| plan.lowers.first());
    plan.upper.as_ref().map(|upper| upper.upper.as_path()).or_else(|| shown.map(|layer| layer.path.as_path()))
}

/// What was noted of a mount; `None` where nothing was, or of another mount that had its number before.
#[must_use]
pub fn of(mount: &MountEntry) -> Option<(Record, Note)> {
    let directories = [Some(PathBuf::from(DIRECTORY)), own_directory()].into_iter().flatten();
    let files = directories.flat_map(|at| of_device(&at, &mount.device));
    files.filter_map(|file| Some((read(&file)?, Note(Some(file))))).find(|(record, _)| record.is_of(mount))
}

/// All notes of root's, with the device numbers of their superblocks; those of mounts that are gone among them.
#[must_use]
pub fn all() -> Vec<(String, Record)> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((device_of(entry.file_name().to_str()?)?.to_owned(), read(&entry.path())?))).collect()
}

/// The mount of the kernel's at a canonical path, where it is one of ours.
///
/// # Errors
/// When /proc/self/mountinfo cannot be read.
pub fn kept_by_kernel(mountpoint: &Path) -> Result<Option<(MountEntry, Record, Note)>> {
    let Some(mount) = mount_at(mountpoint)?.filter(|mount| mount.fs_type == "overlay") else { return Ok(None) };
    Ok(of(&mount).map(|(record, note)| (mount, record, note)))
}

fn forget_file(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::sys("remove", file, e)),
        _ => Ok(()),
    }
}

fn own_directory() -> Option<PathBuf> {
    // Root of a user namespace has no more rights in /run than the user behind it.
    if rustix::process::geteuid().is_root() && namespace::in_initial_user_namespace() {
        return Some(DIRECTORY.into());
    }
    env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()).map(|path| path.join("haosfs"))
}

/// Only what root or we ourselves have written is believed.
fn read(file: &Path) -> Option<Record> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = File::options().read(true).custom_flags(flags).open(file).ok()?;
    let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let is_believed = found.uid() == 0 || found.uid() == rustix::process::geteuid().as_raw();
    if !is_believed || found.mode() & 0o022 != 0 {
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

/// Behind the last entry: a file that is torn has none.
const END: &[u8] = b"end=\0";

/// `key=value`, each ended by a zero byte, which no path holds.
fn written(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |key: &str, value: &OsStr| {
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(b'=');
        bytes.extend(value.as_bytes().iter().filter(|&&b| b != 0));
        bytes.push(0);
    };
    put("mountpoint", record.mountpoint.as_os_str());
    put("source", &record.source);
    if let Some(made_of) = &record.made_of {
        put("made_of", made_of);
    }
    put("backend", OsStr::new(record.backend.name()));
    put("reason", OsStr::new(&record.reason));
    record.lowers.iter().for_each(|lower| put("lower", lower.as_os_str()));
    if let Some(upper) = &record.upper {
        put("upper", upper.as_os_str());
    }
    if let Some((dev, ino)) = record.upper_inode {
        put("upper_inode", OsStr::new(&format!("{dev}:{ino}")));
    }
    if let Some(generation) = &record.generation {
        put("generation", OsStr::new(&generation.number.to_string()));
        put("base", &generation.base);
        put("data", generation.data.as_os_str());
        put("writable", OsStr::new(if generation.writable { "yes" } else { "no" }));
        generation.options.iter().for_each(|option| put("option", OsStr::new(option)));
        if let Some(driver) = &generation.driver {
            put("driver", OsStr::new(driver));
        }
    }
    bytes.extend_from_slice(END);
    bytes
}

fn parse(bytes: &[u8]) -> Option<Record> {
    let entries: Vec<(&[u8], OsString)> = bytes
        .strip_suffix(END)?
        .split(|&b| b == 0)
        .filter_map(|entry| {
            let at = entry.iter().position(|&b| b == b'=')?;
            let (key, value) = entry.split_at_checked(at)?;
            Some((key, OsString::from_vec(value.get(1..)?.to_vec())))
        })
        .collect();
    let all = |key: &'static str| entries.iter().filter(move |(k, _)| *k == key.as_bytes()).map(|(_, value)| value.clone());
    let one = |key| all(key).next();
    let text = |key| one(key)?.into_string().ok();
    let generation = text("generation").and_then(|number| {
        Some(GenerationRecord {
            number: number.parse().ok()?,
            base: one("base")?,
            data: one("data")?.into(),
            driver: text("driver"),
            options: all("option").filter_map(|option| option.into_string().ok()).collect(),
            writable: one("writable")? == "yes",
        })
    });
    Some(Record {
        mountpoint: one("mountpoint")?.into(),
        source: one("source")?,
        made_of: one("made_of"),
        backend: Backend::named(&text("backend")?)?,
        reason: text("reason")?,
        lowers: all("lower").map(PathBuf::from).collect(),
        upper: one("upper").map(PathBuf::from),
        upper_inode: text("upper_inode").and_then(|text| {
            let (dev, ino) = text.split_once(':')?;
            Some((dev.parse().ok()?, ino.parse().ok()?))
        }),
        generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let generation = GenerationRecord {
            number: 3,
            base: OsString::from_vec(vec![b'a', 0xff, b'=']),
            data: "/dev/sda8".into(),
            driver: Some("ext4".to_owned()),
            options: vec!["discard".to_owned(), "commit=5".to_owned()],
            writable: true,
        };
        let mut record = Record {
            mountpoint: "/mnt/a\nb".into(),
            source: "x=y".into(),
            made_of: Some("lowerdir+=/,upperdir=/u\\054".into()),
            backend: Backend::Hybrid,
            reason: "the kernel has overlayfs, but no squashfs".to_owned(),
            lowers: vec!["/a".into(), "/b".into()],
            upper: Some("/haosfs/uppers/3/upper".into()),
            upper_inode: Some((7, u64::MAX)),
            generation: Some(generation),
        };
        assert_eq!(parse(&written(&record)), Some(record.clone()));
        (record.made_of, record.upper, record.upper_inode, record.generation) = (None, None, None, None);
        assert_eq!(parse(&written(&record)), Some(record.clone()));
        let bytes = written(&record);
        let torn = bytes.get(..bytes.len() / 2).unwrap();
        assert_eq!(parse(torn), None, "{}", torn.escape_ascii());
    }
}
