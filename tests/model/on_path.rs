//! The target that is a mounted directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use haosfs::error::Errno;
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags};

use super::target::{Answer, Item, Replace, SLOTS, Target, View};
use crate::mounted::union::{Driver, Union};

/// A directory, and the union that it is the root of, where it is one.
pub struct OnPath {
    root: PathBuf,
    // Before the union: open files would keep it from being unmounted.
    slots: [Option<File>; SLOTS],
    union: Option<Union>,
    alternates: bool,
}

impl OnPath {
    /// A plain directory; remounting only closes files.
    pub fn bare(root: &Path) -> Self {
        Self { root: root.to_path_buf(), union: None, slots: Default::default(), alternates: false }
    }

    /// A mounted union.
    pub fn union(union: Union) -> Self {
        Self { root: union.path().to_path_buf(), union: Some(union), slots: Default::default(), alternates: false }
    }

    /// A mounted union that the kernel and haosfs drive in turn: every remount changes the driver.
    pub fn alternating(union: Union) -> Self {
        Self { alternates: true, ..Self::union(union) }
    }

    fn look(&self, at: &Path, view: &mut View) -> std::io::Result<()> {
        for entry in fs::read_dir(self.root.join(at))? {
            let path = at.join(entry?.file_name());
            let full = self.root.join(&path);
            let meta = fs::symlink_metadata(&full)?;
            let content = match meta.mode() & libc::S_IFMT {
                libc::S_IFREG => fs::read(&full)?,
                libc::S_IFLNK => fs::read_link(&full)?.as_os_str().as_bytes().to_vec(),
                _ => Vec::new(),
            };
            let xattrs = if meta.is_symlink() { BTreeMap::new() } else { user_xattrs(&full)? };
            let mtime = Some((meta.mtime(), meta.mtime_nsec() as u32));
            let nlink = if meta.is_dir() { 0 } else { meta.nlink() };
            view.insert(path.clone(), Item { ino: meta.ino(), mode: meta.mode(), content, nlink, xattrs, mtime });
            if meta.is_dir() {
                self.look(&path, view)?;
            }
        }
        Ok(())
    }
}

fn user_xattrs(path: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut list = vec![0; 4096];
    let len = rustix::fs::llistxattr(path, list.as_mut_slice())?;
    let mut found = BTreeMap::new();
    for name in list[..len].split(|&b| b == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        value.truncate(len);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    Ok(found)
}

fn std<T>(answer: std::io::Result<T>) -> Answer<T> {
    answer.map_err(Errno::from)
}

fn rustix<T>(answer: rustix::io::Result<T>) -> Answer<T> {
    answer.map_err(|e| Errno(e.raw_os_error()))
}

impl Target for OnPath {
    fn create(&mut self, path: &Path) -> Answer<()> {
        std(OpenOptions::new().write(true).create_new(true).mode(0o644).open(self.root.join(path)).map(drop))
    }

    fn write(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> Answer<()> {
        let file = std(OpenOptions::new().write(true).open(self.root.join(path)))?;
        std(file.write_all_at(bytes, offset))
    }

    fn truncate(&mut self, path: &Path, len: u64) -> Answer<()> {
        let file = std(OpenOptions::new().write(true).open(self.root.join(path)))?;
        std(file.set_len(len))
    }

    fn mkdir(&mut self, path: &Path) -> Answer<()> {
        rustix(rustix::fs::mkdir(self.root.join(path), Mode::from_raw_mode(0o755)))
    }

    fn rmdir(&mut self, path: &Path) -> Answer<()> {
        std(fs::remove_dir(self.root.join(path)))
    }

    fn unlink(&mut self, path: &Path) -> Answer<()> {
        std(fs::remove_file(self.root.join(path)))
    }

    fn rename(&mut self, from: &Path, to: &Path, replace: Replace) -> Answer<()> {
        let flags = match replace {
            Replace::Yes => RenameFlags::empty(),
            Replace::No => RenameFlags::NOREPLACE,
            Replace::Exchange => RenameFlags::EXCHANGE,
        };
        let answer = rustix(rustix::fs::renameat_with(CWD, self.root.join(from), CWD, self.root.join(to), flags));
        // rename(2) allows both errors for a directory that is not empty, and XFS takes the other one.
        answer.map_err(|errno| if (replace, errno) == (Replace::Yes, Errno::EEXIST) { Errno::ENOTEMPTY } else { errno })
    }

    fn link(&mut self, from: &Path, to: &Path) -> Answer<()> {
        std(fs::hard_link(self.root.join(from), self.root.join(to)))
    }

    fn symlink(&mut self, target: &str, path: &Path) -> Answer<()> {
        std(symlink(target, self.root.join(path)))
    }

    fn chmod(&mut self, path: &Path, mode: u32) -> Answer<()> {
        rustix(rustix::fs::chmod(self.root.join(path), Mode::from_raw_mode(mode)))
    }

    fn set_mtime(&mut self, path: &Path, time: (i64, u32)) -> Answer<()> {
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let last_modification = Timespec { tv_sec: time.0, tv_nsec: i64::from(time.1) };
        let times = Timestamps { last_access, last_modification };
        rustix(rustix::fs::utimensat(CWD, self.root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW))
    }

    fn set_xattr(&mut self, path: &Path, name: &str, value: &[u8]) -> Answer<()> {
        rustix(rustix::fs::setxattr(self.root.join(path), name, value, XattrFlags::empty()))
    }

    fn remove_xattr(&mut self, path: &Path, name: &str) -> Answer<()> {
        rustix(rustix::fs::removexattr(self.root.join(path), name))
    }

    fn open(&mut self, slot: usize, path: &Path) -> Answer<()> {
        let path = self.root.join(path);
        let file = std(File::open(&path))?;
        if std(file.metadata())?.is_dir() {
            return Err(Errno::EISDIR);
        }
        self.slots[slot] = Some(file);
        Ok(())
    }

    fn read_open(&mut self, slot: usize) -> Answer<Vec<u8>> {
        let mut file = self.slots[slot].as_ref().ok_or(Errno::EBADF)?;
        let mut bytes = Vec::new();
        std(std::io::Seek::rewind(&mut file))?;
        std(file.read_to_end(&mut bytes))?;
        Ok(bytes)
    }

    fn remount(&mut self) {
        self.slots = Default::default();
        if let Some(union) = &mut self.union {
            match (self.alternates, union.driver()) {
                (false, _) => union.remount(),
                (true, Driver::Kernel) => union.remount_by(Driver::Haosfs),
                (true, Driver::Haosfs | Driver::HaosfsUser) => union.remount_by(Driver::Kernel),
            }
        }
    }

    fn view(&mut self) -> Answer<View> {
        let mut view = View::new();
        std(self.look(Path::new(""), &mut view))?;
        Ok(view)
    }
}
