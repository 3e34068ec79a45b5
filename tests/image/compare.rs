//! Comparing an image, as our reader sees it, with a tree in a file system.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use haosfs::image::{Image, InodeRef, Seek};
use haosfs::types::Kind;

use super::random::Random;

/// What the other side of a comparison is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Oracle {
    /// The tree that was packed: everything but inode numbers, allocation and the sizes of directories.
    Tree,
    /// The same without xattrs.
    TreeWithoutXattrs,
    /// The same image mounted by the kernel: everything.
    Kernel,
}

/// Compares the whole of `image` with the tree at `root`, and answers how many names there were.
pub fn compare(image: &Image, root: &Path, oracle: Oracle) -> usize {
    let mut comparison = Comparison { image, oracle, links: HashMap::new(), names: 0, random: Random(3) };
    comparison.inode(root, image.root());
    comparison.directory(root, image.root());
    comparison.names
}

struct Comparison<'a> {
    image: &'a Image,
    oracle: Oracle,
    /// Inodes of the tree and where the image has them.
    links: HashMap<u64, InodeRef>,
    names: usize,
    random: Random,
}

impl Comparison<'_> {
    fn directory(&mut self, path: &Path, inode: InodeRef) {
        let mut expected: Vec<OsString> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
        expected.sort();
        let listing = self.image.entries(inode).unwrap();
        let found: Vec<&OsStr> = listing.iter().map(|(name, _)| name).collect();
        assert_eq!(found, expected, "names in {}", path.display());
        for absent in ["", "zz-absent", "entry-", "\u{1}"] {
            assert_eq!(self.image.lookup(inode, OsStr::new(absent)).unwrap(), None, "{absent:?} in {}", path.display());
        }
        for (name, entry) in listing.iter() {
            let path = path.join(name);
            assert_eq!(self.image.lookup(inode, name).unwrap(), Some(entry), "lookup of {}", path.display());
            let attr = self.image.attr(entry.inode).unwrap();
            assert_eq!((attr.kind, attr.ino), (entry.kind, entry.ino), "{}", path.display());
            self.names += 1;
            self.inode(&path, entry.inode);
            if entry.kind.is_dir() {
                self.directory(&path, entry.inode);
            }
        }
    }

    fn inode(&mut self, path: &Path, inode: InodeRef) {
        let name = path.display();
        let expected = fs::symlink_metadata(path).unwrap();
        let attr = self.image.attr(inode).unwrap();
        assert_eq!(attr.mode(), expected.mode(), "mode of {name}");
        assert_eq!(u64::from(attr.nlink), expected.nlink(), "links of {name}");
        assert_eq!((attr.uid, attr.gid), (expected.uid(), expected.gid()), "owner of {name}");
        assert_eq!((attr.mtime.secs, attr.mtime.nanos), (expected.mtime(), 0), "time of {name}");
        assert_eq!(attr.rdev, expected.rdev(), "device of {name}");
        if self.oracle == Oracle::Kernel {
            assert_eq!(attr.ino, expected.ino(), "number of {name}");
            assert_eq!(attr.size, expected.size(), "size of {name}");
            assert_eq!(attr.blocks, expected.blocks(), "blocks of {name}");
            assert_eq!(attr.ctime.secs, expected.ctime(), "ctime of {name}");
        } else if !attr.kind.is_dir() {
            assert_eq!(attr.size, expected.size(), "size of {name}");
        }
        assert_eq!(*self.links.entry(expected.ino()).or_insert(inode), inode, "links to {name}");
        if let Some(found) = self.image.by_number(attr.ino).unwrap() {
            assert_eq!(found, inode, "export of {name}");
        }
        if self.oracle != Oracle::TreeWithoutXattrs {
            self.xattrs(path, inode);
        }
        match attr.kind {
            Kind::Symlink => assert_eq!(self.image.readlink(inode).unwrap(), fs::read_link(path).unwrap(), "target of {name}"),
            Kind::File => self.content(path, inode),
            _ => assert!(self.image.readlink(inode).is_err()),
        }
    }

    fn xattrs(&self, path: &Path, inode: InodeRef) {
        let expected = xattrs_of(path);
        let names = self.image.xattrs(inode).unwrap();
        let value = |name: OsString| {
            let value = self.image.xattr(inode, &name).unwrap().unwrap();
            (name, value)
        };
        let found: BTreeMap<OsString, Vec<u8>> = names.into_iter().map(value).collect();
        assert_eq!(found, expected, "xattrs of {}", path.display());
        assert_eq!(self.image.xattr(inode, OsStr::new("user.absent")).unwrap(), None);
    }

    fn content(&mut self, path: &Path, inode: InodeRef) {
        let expected = fs::read(path).unwrap();
        let read = |offset: usize, len: usize| {
            let found = self.image.read(inode, offset as u64, len).unwrap();
            assert!(self.image.is_intact(&found));
            let rest = expected.get(offset..).unwrap_or_default();
            assert!(*found == rest[..len.min(rest.len())], "{len} bytes at {offset} of {}", path.display());
        };
        read(0, expected.len());
        read(0, expected.len() + 1);
        read(expected.len(), 10);
        read(expected.len() + 5, 10);
        let random_reads = if expected.len() < 64 { 0 } else { 4 };
        for _ in 0..random_reads {
            let offset = self.random.below(expected.len() as u64 + 1) as usize;
            read(offset, self.random.below(200_000) as usize);
        }
        self.holes(inode, &expected);
    }

    /// What seek calls a hole is zeros, and hole and data take turns up to the end.
    fn holes(&self, inode: InodeRef, content: &[u8]) {
        let size = content.len() as u64;
        let mut at = 0;
        while at < size {
            let data = self.image.seek(inode, at, Seek::Data).unwrap_or(size);
            assert!(content[at as usize..data as usize].iter().all(|&b| b == 0));
            if data == size {
                break;
            }
            at = self.image.seek(inode, data, Seek::Hole).unwrap();
            assert!(at > data && at <= size);
        }
        assert!(self.image.seek(inode, size, Seek::Hole).is_err());
    }
}

/// All xattrs that squashfs can hold.
fn xattrs_of(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 8192];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..len].split(|&b| b == 0).filter(|name| !name.is_empty() && !name.starts_with(b"system."));
    names
        .map(|name| {
            let name = OsStr::from_bytes(name);
            let mut value = vec![0; 8192];
            let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            value.truncate(len);
            (name.to_os_string(), value)
        })
        .collect()
}
