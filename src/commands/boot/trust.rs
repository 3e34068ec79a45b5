//! Whether an image that is tried is the one that was signed.

use std::fs;
use std::path::Path;

use crate::commands::update::digest_of;
use crate::config::update_rules::UpdateRules;
use crate::error::{Error, Result};
use crate::update::signature::{public_key, show_sha256, signed_manifest};

/// Where haos.ini asks for signatures, checks that of an image and, for that, reads all of it.
///
/// # Errors
/// [`Error::Refused`] where it is not signed, or is not what was signed.
pub fn check(image: &Path, rules: &UpdateRules) -> Result<()> {
    let Some(key) = &rules.public_key else { return Ok(()) };
    let manifest = signed_manifest(image, &public_key(key)?)?;
    let size = fs::metadata(image).map_err(|e| Error::sys("stat", image, e))?.len();
    if size != manifest.size {
        let shown = image.display();
        return Err(Error::Refused(format!("{shown}: it has {size} bytes, its manifest says {}", manifest.size)));
    }
    let digest = digest_of(image)?;
    if digest == manifest.sha256 {
        return Ok(());
    }
    let (shown, wanted) = (image.display(), show_sha256(&manifest.sha256));
    Err(Error::Refused(format!("{shown}: its SHA-256 is {}, its manifest says {wanted}", show_sha256(&digest))))
}
