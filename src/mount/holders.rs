//! Who keeps a mount busy, by the names that /proc shows: nothing of the mount itself is touched, whose daemon may hang.

use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Holders that a message names at most.
const NAMED: usize = 5;

/// Something that is in use below a mountpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process has it open, mapped, or as its working or root directory.
    Process {
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
        /// What it uses; the mountpoint itself or something below.
        path: PathBuf,
    },
    /// Another mount stands on it.
    Mount(PathBuf),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name, path } => write!(f, "{name} (pid {pid}) uses {}", path.display()),
            Self::Mount(path) => write!(f, "another mount stands on {}", path.display()),
        }
    }
}

/// Who uses what is below this canonical path: mounts first, then one entry for each process that we may look at.
#[must_use]
pub fn holders(mountpoint: &Path, mounts: &[PathBuf]) -> Vec<Holder> {
    let below = mounts.iter().filter(|mount| mount.starts_with(mountpoint) && *mount != mountpoint);
    let mut found: Vec<Holder> = below.cloned().map(Holder::Mount).collect();
    let own = std::process::id();
    let listed = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    found.extend(listed.filter(|&pid: &u32| pid != own).filter_map(|pid| process(pid, mountpoint)));
    found
}

/// The first few of them in words; empty where nobody is found.
#[must_use]
pub fn told(holders: &[Holder]) -> String {
    let mut words: Vec<String> = holders.iter().take(NAMED).map(Holder::to_string).collect();
    if let Some(more @ 1..) = holders.len().checked_sub(NAMED) {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

fn process(pid: u32, mountpoint: &Path) -> Option<Holder> {
    let directory = Path::new("/proc").join(pid.to_string());
    let descriptors = fs::read_dir(directory.join("fd")).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let links = ["cwd", "root", "exe"].map(|name| directory.join(name)).into_iter().chain(descriptors);
    let path = links
        .filter_map(|link| fs::read_link(link).ok())
        .find(|path| path.starts_with(mountpoint))
        .or_else(|| mapped(&fs::read(directory.join("maps")).ok()?, mountpoint))?;
    let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
    Some(Holder::Process { pid, name: name.trim_end().escape_debug().to_string(), path })
}

/// `address perms offset dev inode    path` (proc_pid_maps(5)).
fn mapped(maps: &[u8], mountpoint: &Path) -> Option<PathBuf> {
    maps.split(|&b| b == b'\n').find_map(|line| {
        let at = line.iter().position(|&b| b == b'/')?;
        let path = Path::new(std::ffi::OsStr::from_bytes(line.get(at..)?));
        path.starts_with(mountpoint).then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_a_directory_are_found() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = fs::canonicalize(scratch.path()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").current_dir(&directory).spawn().unwrap();
        // It gets its name a moment after its parent goes on.
        let name = format!("/proc/{}/comm", child.id());
        let named = || fs::read(&name).unwrap() == b"sleep\n";
        assert!((0..1000).any(|_| named() || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            false
        }));
        let found = holders(&directory, &[directory.join("m"), directory.clone(), "/".into()]);
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = [
            Holder::Mount(directory.join("m")),
            Holder::Process { pid: child.id(), name: "sleep".to_owned(), path: directory.clone() },
        ];
        assert_eq!(found, expected);
        assert!(told(&found).contains(&format!("sleep (pid {}) uses ", child.id())), "{}", told(&found));
        assert_eq!(holders(&directory.join("none"), &[]), []);
    }

    #[test]
    fn mapped_files_are_found() {
        let maps = b"7f00-7f01 r--p 00000000 00:35 12  /mnt/a b\n7f02-7f03 rw-p 00000000 00:00 0 [stack]\n";
        assert_eq!(mapped(maps, Path::new("/mnt")), Some("/mnt/a b".into()));
        assert_eq!(mapped(maps, Path::new("/mn")), None);
    }

    #[test]
    fn a_crowd_is_cut_short() {
        let crowd: Vec<Holder> = (0..7).map(|n| Holder::Mount(format!("/{n}").into())).collect();
        assert!(told(&crowd).ends_with("on /4, 2 more"), "{}", told(&crowd));
        assert_eq!(told(&[]), "");
    }
}
