//! What tells one image from another: a digest of all that describes it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::image::Image;
use super::superblock::SUPERBLOCK_SIZE;
use crate::error::{Error, Result};

/// Bytes that are hashed at a time.
const CHUNK: u64 = 1 << 20;

impl Image {
    /// SHA-256 of the superblock and of everything from the inode table to the end of the image: names, attributes, and where all
    /// data lie. Two images that differ in nothing but the bytes of files with the same compressed sizes, and were packed in the
    /// same second, have the same.
    ///
    /// # Errors
    /// `Damage` where the bytes cannot be read.
    pub fn digest(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        self.map.with("superblock", 0, SUPERBLOCK_SIZE, |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        let (mut at, end) = (self.superblock.inode_table, self.superblock.bytes_used);
        while at < end {
            let len = CHUNK.min(end - at);
            self.map.with("tables", at, usize::try_from(len).unwrap_or(0), |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            at += len;
        }
        Ok(hash.finalize().into())
    }
}

/// Bytes of an image of another format that tell it from others: superblocks are among them.
const START: u64 = 4 << 20;

/// SHA-256 of the first 4 MiB of a file or block device, for images in a format that only the kernel reads.
///
/// # Errors
/// What reading it answers.
pub fn digest_of_start(path: &Path) -> Result<[u8; 32]> {
    let failed = |e| Error::sys("read", path, e);
    let mut start = Vec::new();
    File::open(path).map_err(failed)?.take(START).read_to_end(&mut start).map_err(failed)?;
    Ok(Sha256::digest(&start).into())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use backhand::{FilesystemWriter, NodeHeader};

    use crate::image::{Image, Options};

    fn pack(path: &Path, name: &str, content: &str, padding: u32) {
        let mut writer = FilesystemWriter::default();
        writer.set_kib_padding(padding);
        writer.set_time(1_700_000_000);
        writer.push_file(Cursor::new(content.to_owned()), name, NodeHeader::default()).unwrap();
        writer.write(&mut std::fs::File::create(path).unwrap()).unwrap();
    }

    #[test]
    fn images_differ_in_names_and_data_but_not_in_padding() {
        let scratch = tempfile::tempdir().unwrap();
        let digest = |name: &str, content: &str, padding: u32| {
            let path = scratch.path().join("image");
            pack(&path, name, content, padding);
            Image::open(&path, &Options::default()).unwrap().digest().unwrap()
        };
        let one = digest("a", "content", 4);
        assert_eq!(one, digest("a", "content", 64));
        assert_ne!(one, digest("b", "content", 4));
        assert_ne!(one, digest("a", "content and more", 4));
    }
}
