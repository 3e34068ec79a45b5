//! `data_partition=` on this machine.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::partition::Partition;
use super::probe::partitions;
use super::resolve::resolve;
use crate::config::data_partition::{DataPartition, Place};
use crate::error::{Error, Result};

/// Where data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlace {
    /// In a directory of a file system that is mounted already.
    Directory(PathBuf),
    /// On this partition.
    Partition(Partition),
}

/// Finds what `data_partition` means; relative paths start at `directory`, which the ini file is in.
///
/// # Errors
/// Where that is not there, is not one thing, or cannot hold data.
pub fn locate(data: &DataPartition, directory: &Path) -> Result<DataPlace> {
    let refused = |why: &str| Err(Error::Refused(format!("data_partition {}: {why}", data.place)));
    let named = match &data.place {
        Place::Partition(_) => None,
        Place::Path(path) => {
            let path: PathBuf = directory.join(path).components().collect();
            let found = fs::metadata(&path).map_err(|e| Error::sys("data_partition", &path, e))?;
            if found.is_dir() {
                if !data.also.is_empty() || data.fs.is_some() || !data.options.is_empty() {
                    return refused("this is a directory of a file system that is mounted already; expected nothing behind it");
                }
                return fs::canonicalize(&path).map(DataPlace::Directory).map_err(|e| Error::sys("data_partition", path, e));
            }
            if !found.file_type().is_block_device() {
                return refused("expected a block device or a directory");
            }
            Some((libc::major(found.rdev()), libc::minor(found.rdev())))
        }
    };
    resolve(data, named, &partitions()?).cloned().map(DataPlace::Partition)
}
