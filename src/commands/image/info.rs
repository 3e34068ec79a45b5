//! `haosfs image info`.

use std::path::Path;

use super::ls_line::date;
use crate::commands::output::{Output, printable};
use crate::error::Result;
use crate::image::Image;

/// Prints what the superblock says.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(image: &Image, path: &Path, json: bool) -> Result<()> {
    let superblock = image.superblock();
    let compressor = superblock.compressor.to_string();
    let flags: Vec<&str> = superblock.flags.names().collect();
    let mut output = Output::open();
    if json {
        let object = serde_json::json!({
            "format": "squashfs 4.0",
            "compressor": compressor,
            "block_size": superblock.block_size,
            "bytes_used": superblock.bytes_used,
            "inodes": superblock.inodes,
            "fragments": superblock.fragments,
            "ids": superblock.ids,
            "made": superblock.made,
            "flags": flags,
        });
        output.line(&object.to_string())?;
        return output.finish();
    }
    for (name, value) in [
        ("image", printable(path.as_os_str())),
        ("format", "squashfs 4.0".to_owned()),
        ("compressor", compressor),
        ("block size", format!("{} bytes", superblock.block_size)),
        ("bytes used", superblock.bytes_used.to_string()),
        ("inodes", superblock.inodes.to_string()),
        ("fragments", superblock.fragments.to_string()),
        ("ids", superblock.ids.to_string()),
        ("made", format!("{} UTC", date(i64::from(superblock.made)))),
        ("flags", if flags.is_empty() { "none".to_owned() } else { flags.join(" ") }),
    ] {
        output.line(&format!("{name:<11} {value}"))?;
    }
    output.finish()
}
