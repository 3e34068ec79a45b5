//! mksquashfs.

use std::path::Path;
use std::process::{Command, Stdio};

pub const COMPRESSORS: [&str; 5] = ["gzip", "lzo", "xz", "lz4", "zstd"];

/// True when mksquashfs can be run.
pub fn available() -> bool {
    Command::new("mksquashfs").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Packs `tree` into `image` with these options of mksquashfs.
pub fn pack(tree: &Path, image: &Path, options: &[&str]) {
    let mut command = Command::new("mksquashfs");
    command.arg(tree).arg(image).args(["-noappend", "-no-progress", "-quiet", "-processors", "2"]).args(options);
    // Fast levels: what is tested is the format, not the search for the best match.
    if let Some(at) = options.iter().position(|&o| o == "-comp") {
        match options[at + 1] {
            "zstd" => command.args(["-Xcompression-level", "3"]),
            "lzo" => command.args(["-Xalgorithm", "lzo1x_1"]),
            _ => &mut command,
        };
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
