//! From `data_partition=` of haos.ini to the one partition or directory that is meant. Nothing is taken from udev: block devices
//! are listed from sysfs, and ids read from partition tables and superblocks, which are believed no further than their checksums.

mod attach;
pub(super) mod ballast;
mod locate;
mod partition;
mod probe;
mod resolve;
mod signature;
mod table;

pub use attach::{Attached, MEMORY, Standing, refuse_unfit};
pub use locate::{DataPlace, locate};
pub use partition::{Content, DeviceNumber, Disk, Partition};
pub use probe::partitions;
pub use resolve::resolve;
pub use signature::FileSystem;
