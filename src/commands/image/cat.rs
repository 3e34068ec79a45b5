//! `haosfs image cat`.

use std::path::Path;

use crate::commands::output::Output;
use crate::error::{Errno, Error, Result};
use crate::mount::image_path::{LastLink, resolve};
use crate::types::Kind;
use crate::union::lower::Lower;

/// Bytes asked for at once.
const STEP: usize = 1 << 20;

/// Writes the regular file at `path` to standard output.
///
/// # Errors
/// `EISDIR` and the like for anything else; damage of the image; when standard output cannot be written.
pub fn run(lower: &dyn Lower, path: &Path) -> Result<()> {
    let id = resolve(lower, path, LastLink::Follow)?;
    match lower.attr(id)?.kind {
        Kind::File => {}
        Kind::Dir => return Err(Error::sys("read", path, Errno::EISDIR)),
        _ => return Err(Error::Refused(format!("{} is not a regular file", path.display()))),
    }
    let mut output = Output::open();
    let mut offset = 0;
    loop {
        let bytes = lower.read(id, offset, STEP)?;
        if bytes.is_empty() {
            return output.finish();
        }
        output.bytes(&bytes)?;
        if !lower.is_intact(&bytes) {
            return Err(Error::sys("read", path, Errno::EIO));
        }
        offset += bytes.len() as u64;
    }
}
