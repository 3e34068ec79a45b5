//! The inodes of a directory lower that were looked up, each by the way from the layer's root that leads to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::lower::LowerId;
use crate::sys::spot::Stat;

/// What tells one inode of a layer from all others.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// The only way to it. Device and number would not do: the kernel's overlayfs, itself a lower, may give a directory another
    /// number after it was forgotten (overlayfs.rst, "inode properties").
    Way(Arc<Path>),
    /// Device and number, which hard links share.
    Linked(u64, u64),
}

/// The ways that are known. They never change, as nothing in a lower does.
#[derive(Debug, Default)]
pub(super) struct Ways {
    ids: DashMap<Identity, LowerId>,
    ways: DashMap<LowerId, Arc<Path>>,
    next: AtomicU64,
}

impl Ways {
    /// The id of the inode that a way leads to. Of hard links the first way stays.
    pub(super) fn intern(&self, way: PathBuf, stat: &Stat) -> LowerId {
        let way: Arc<Path> = way.into();
        let identity = if stat.attr.kind.is_dir() || stat.attr.nlink < 2 {
            Identity::Way(Arc::clone(&way))
        } else {
            Identity::Linked(stat.dev, stat.attr.ino)
        };
        *self.ids.entry(identity).or_insert_with(|| {
            let id = LowerId(self.next.fetch_add(1, Ordering::Relaxed));
            self.ways.insert(id, way);
            id
        })
    }

    /// The way to an inode, `None` where nobody looked it up.
    pub(super) fn get(&self, id: LowerId) -> Option<Arc<Path>> {
        self.ways.get(&id).map(|way| Arc::clone(&way))
    }
}

/// Numbers of the inodes of one layer, which may be on several devices: subvolumes of btrfs, and whatever is no directory in an
/// overlayfs over several file systems, have an `st_dev` of their own.
#[derive(Debug)]
pub(super) struct Numbers {
    home: u64,
    devices: DashMap<u64, u64>,
    next: AtomicU64,
}

/// Where the number of a device goes that is not that of the layer's root, below the bits that [`super::ino`] uses.
const DEVICE: u64 = 48;
/// Devices told apart; inodes of more may share numbers, which the node table sorts out for as long as both are in use.
const DEVICES: u64 = 255;

impl Numbers {
    /// For a layer whose root is on this device.
    pub(super) fn of_home(home: u64) -> Self {
        Self { home, devices: DashMap::new(), next: AtomicU64::new(0) }
    }

    /// The number within the layer: that of the device where it is the root's own.
    pub(super) fn of(&self, dev: u64, ino: u64) -> u64 {
        if dev == self.home {
            return ino;
        }
        let device = *self.devices.entry(dev).or_insert_with(|| self.next.fetch_add(1, Ordering::Relaxed) % DEVICES + 1);
        (device << DEVICE) | (ino & ((1 << DEVICE) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_do_not_share_numbers() {
        let numbers = Numbers::of_home(7);
        assert_eq!(numbers.of(7, 256), 256);
        let (a, b) = (numbers.of(8, 256), numbers.of(9, 256));
        assert!(a != b && a != 256 && b != 256, "{a:x} {b:x}");
        assert_eq!((numbers.of(8, 256), numbers.of(9, 256)), (a, b));
    }
}
