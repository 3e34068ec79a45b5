//! A tree written down: everything that a program can see of it.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest, Sha256};

/// A path below the root of the tree, as bytes; the root itself is empty.
pub type Name = Vec<u8>;

/// What one name shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The whole `st_mode`.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Bytes of files and symbolic links, 0 for the rest.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Link count.
    pub nlink: u64,
    /// Device number of devices, else 0.
    pub rdev: u64,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// Digest of a file's content.
    pub content: Option<u64>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name, in order of bytes, of the same inode.
    pub first_name: Name,
}

/// A whole tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By name, the root among them.
    pub names: BTreeMap<Name, Seen>,
}

impl Snapshot {
    /// Reads everything below `root`.
    ///
    /// # Errors
    /// Whatever the file system answers, with the path.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut snapshot = Self::default();
        let mut inodes = BTreeMap::new();
        snapshot.visit(root, Vec::new(), &mut inodes)?;
        Ok(snapshot)
    }

    /// The same without the root, which in a union is the upper's.
    pub fn without_root(mut self) -> Self {
        self.names.remove(&Vec::new());
        self
    }

    fn visit(&mut self, path: &Path, name: Name, inodes: &mut BTreeMap<(u64, u64), Name>) -> io::Result<()> {
        let in_context = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let meta = fs::symlink_metadata(path).map_err(in_context)?;
        let mut seen = look(path, &meta).map_err(in_context)?;
        seen.first_name = inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone()).clone();
        self.names.insert(name.clone(), seen);
        if meta.is_dir() {
            let mut entries: Vec<_> = fs::read_dir(path).map_err(in_context)?.collect::<io::Result<_>>().map_err(in_context)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let mut child = name.clone();
                if !child.is_empty() {
                    child.push(b'/');
                }
                child.extend(entry.file_name().as_bytes());
                self.visit(&entry.path(), child, inodes)?;
            }
        }
        Ok(())
    }
}

fn look(path: &Path, meta: &Metadata) -> io::Result<Seen> {
    let kind = meta.file_type();
    let is_device = matches!(meta.mode() & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
    Ok(Seen {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        size: if kind.is_file() || kind.is_symlink() { meta.len() } else { 0 },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        nlink: meta.nlink(),
        rdev: if is_device { meta.rdev() } else { 0 },
        target: kind
            .is_symlink()
            .then(|| fs::read_link(path).map(|target| target.as_os_str().as_bytes().to_vec()))
            .transpose()?,
        content: kind.is_file().then(|| digest(path)).transpose()?,
        xattrs: xattrs(path)?,
        first_name: Vec::new(),
    })
}

/// By a hash that is optimised in the tests' own build, too, where the standard library's takes half of a test's time.
fn digest(path: &Path) -> io::Result<u64> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 17]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hasher.finalize().into();
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = vec![0; 65536];
    let len = match llistxattr(path, list.as_mut_slice()) {
        // The kernel's squashfs answers so when the image has no table of attributes.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        answer => answer?,
    };
    list.truncate(len);
    let mut found = BTreeMap::new();
    for name in list.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let len = lgetxattr(path, name, value.as_mut_slice())?;
        value.truncate(len);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}
