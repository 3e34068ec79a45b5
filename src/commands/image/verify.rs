//! `haosfs image verify`.

use crate::commands::output::Output;
use crate::error::Result;
use crate::image::Image;

/// Reads everything; says how much it was.
///
/// # Errors
/// The first damage.
pub fn run(image: &Image) -> Result<()> {
    let totals = image.verify(|_| {})?;
    let mut output = Output::open();
    output.line(&format!(
        "sound: {} directories, {} files, {} symbolic links, {} others, {} bytes, {} extended attributes",
        totals.directories, totals.files, totals.symlinks, totals.special, totals.bytes, totals.xattrs
    ))?;
    output.finish()
}
