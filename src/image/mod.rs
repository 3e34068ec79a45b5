//! squashfs images: inodes, entries and bytes, decoded on demand from a memory map. Knows nothing of unions or FUSE.
//!
//! ```text
//! image        open, attributes, reads: what the rest of the crate calls
//! verify       everything read once                               identity
//! directory    lookups, listings, the index of huge directories    xattr
//! listing      decoded entries                                     block_list
//! ahead        what reads in order will want next                  scattered   what reads here and there will
//! reserve      what was decompressed, in pages of the kernel
//! inode        basic and extended inodes                           span   the pure plan of a read
//! table        ids, fragments, exports                             data   blocks and fragments
//! metadata     8 KiB blocks and cursors over them                  block  decompressed data, buffers
//! compressor   compressor_options   cache   superblock   map
//! ```
//!
//! All that is parsed is untrusted: an image may lie about every number, and its file may shrink while it is in use.

mod ahead;
mod block;
mod block_list;
mod cache;
mod compressor;
mod compressor_options;
mod data;
mod directory;
mod identity;
#[allow(clippy::module_inception)]
mod image;
mod inode;
mod listing;
mod map;
mod mapped;
mod metadata;
mod reserve;
mod scattered;
mod span;
mod superblock;
mod table;
mod verify;
mod xattr;

pub use compressor::Compressor;
pub use compressor_options::CompressorOptions;
pub use data::{Bytes, Spare};
pub use identity::digest_of_start;
pub use image::{Blocks, Cached, Image, Options, Seek};
pub use inode::InodeRef;
pub use listing::{Entry, Listing};
pub use reserve::Pages;
pub use superblock::{Flags, Superblock};
pub use verify::Totals;
