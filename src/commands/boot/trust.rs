//! Whether an image that is tried is the one that was signed.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::commands::update::digest_of_start;
use crate::config::update_rules::UpdateRules;
use crate::error::{Error, Result};
use crate::update::signature::{public_key, show_sha256, signed_manifest, signed_manifest_of_device};

/// Where haos.ini, which stands in `home`, asks for signatures, checks that of an image and, for that, reads all of it.
///
/// # Errors
/// [`Error::Refused`] where it is not signed, or is not what was signed.
pub fn check(image: &Path, home: &Path, rules: &UpdateRules) -> Result<()> {
    let Some(key) = &rules.public_key else { return Ok(()) };
    let key = public_key(key)?;
    let found = fs::metadata(image).map_err(|e| Error::sys("stat", image, e))?;
    let is_device = found.file_type().is_block_device();
    let manifest = if is_device { signed_manifest_of_device(image, home, &key) } else { signed_manifest(image, &key) }?;
    let shown = image.display();
    if !is_device && found.len() != manifest.size {
        let (size, wanted) = (found.len(), manifest.size);
        return Err(Error::Refused(format!("{shown}: it has {size} bytes, its manifest says {wanted}")));
    }
    // A device may be larger than what was written to it; one that is smaller has another digest.
    let digest = digest_of_start(image, manifest.size)?;
    if digest == manifest.sha256 {
        return Ok(());
    }
    let wanted = show_sha256(&manifest.sha256);
    Err(Error::Refused(format!("{shown}: its SHA-256 is {}, its manifest says {wanted}", show_sha256(&digest))))
}
