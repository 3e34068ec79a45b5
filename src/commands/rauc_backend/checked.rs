//! An image that was read as a whole: that takes long, and a trial may be confirmed meanwhile.

use std::fs::File;
use std::path::PathBuf;

use crate::commands::boot::trust;
use crate::commands::update::is_open;
use crate::config::image_source::ImageSource;
use crate::config::update_rules::UpdateRules;
use crate::error::{Error, Result};
use crate::mount::image_choice;
use crate::update::store::{Standing, Store};

/// What was checked, and by which rules.
pub struct Checked {
    image: ImageSource,
    rules: UpdateRules,
    path: PathBuf,
    /// As long as it is open, no other has its inode number.
    file: File,
}

impl Checked {
    /// Checks an image: it can be opened, and is signed where haos.ini asks for that.
    ///
    /// # Errors
    /// Why it is not to be tried.
    pub fn check(store: &Store, standing: &Standing, image: ImageSource) -> Result<Self> {
        let (home, rules) = (store.directory(), standing.rules.clone());
        let path = image_choice::find_sound(&image, &home)?;
        let file = File::open(&path).map_err(|e| Error::sys("open", &path, e))?;
        trust::check(&path, &home, &rules)?;
        Ok(Self { image, rules, path, file })
    }

    /// Whether that is what `image` means now, and the rules are the same.
    #[must_use]
    pub fn is(&self, store: &Store, standing: &Standing, image: &ImageSource) -> bool {
        let is_there = image_choice::find(image, &store.directory()).is_ok_and(|path| path == self.path);
        *image == self.image && standing.rules == self.rules && is_there && is_open(&self.file, &self.path)
    }
}
