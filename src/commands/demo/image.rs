//! The demo's image, packed by backhand.

use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;

use backhand::compression::{CompressionOptions, Compressor, Lz4};
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader};

use crate::error::{Error, Result};

/// Regular files of the image: path and content.
pub const FILES: [(&str, &str); 6] = [
    ("etc/hostname", "factory\n"),
    ("etc/motd", "Fresh from the factory.\n"),
    ("usr/bin/hello", "#!/bin/sh\necho hello from the image\n"),
    ("usr/share/doc/manual.txt", MANUAL),
    ("var/cache/one.tmp", "1\n"),
    ("var/cache/two.tmp", "2\n"),
];

/// Long enough to be compressed.
const MANUAL: &str = "Read me, I am compressed. Read me, I am compressed. Read me, I am compressed. Read me, I am compressed.\n\
    Read me, I am compressed. Read me, I am compressed. Read me, I am compressed. Read me, I am compressed.\n";

/// A symbolic link of the image: path and target.
pub const LINK: (&str, &str) = ("etc/manual", "../usr/share/doc/manual.txt");

/// Packs the image; everything in it belongs to this process' user, so that the user may change it through the union.
///
/// # Errors
/// When the file cannot be written.
pub fn pack(path: &Path) -> Result<()> {
    let file = File::create_new(path).map_err(|e| Error::sys("create", path, e))?;
    let mut file = BufWriter::new(file);
    write(&mut file).map_err(|e| Error::Refused(format!("pack {}: {e}", path.display())))?;
    file.flush().map_err(|e| Error::sys("write", path, e))
}

fn write(file: &mut BufWriter<File>) -> Result<(), BackhandError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let header = |permissions| NodeHeader { permissions, uid, gid, mtime: 1_700_000_000 };
    let mut writer = FilesystemWriter::default();
    // A format's version of its own; there is but one.
    let options = CompressionOptions::Lz4(Lz4 { version: 1, flags: 0 });
    writer.set_compressor(FilesystemCompressor::new(Compressor::Lz4, Some(options))?);
    writer.set_time(1_700_000_000);
    writer.set_root_mode(0o755);
    writer.set_root_uid(uid);
    writer.set_root_gid(gid);
    for (path, content) in FILES {
        if let Some(parent) = Path::new(path).parent() {
            writer.push_dir_all(parent, header(0o755))?;
        }
        let permissions = if path.contains("/bin/") { 0o755 } else { 0o644 };
        writer.push_file(Cursor::new(content.as_bytes()), path, header(permissions))?;
    }
    writer.push_symlink(LINK.1, LINK.0, header(0o777))?;
    writer.write(file).map(|_| ())
}
