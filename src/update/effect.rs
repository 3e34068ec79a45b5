//! What is done for an update.

use crate::config::image_source::ImageSource;

/// Something to be done. None of them is harmed by being done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make a generation of the upper for an image that is tried, from the one in use; one that is there stays unless `anew`.
    Prepare {
        /// The image.
        image: ImageSource,
        /// At the first attempt: what is there is left from an earlier trial.
        anew: bool,
    },
    /// Make the generation that was made on this image the one in use.
    Use {
        /// The image.
        image: ImageSource,
    },
    /// The same, before anything is saved: a generation that is older than the one in use is not found by a mount.
    Return {
        /// The image.
        image: ImageSource,
    },
    /// Take the generation away that was made for a trial of this image, unless it is in use.
    Drop {
        /// The image.
        image: ImageSource,
    },
    /// Close the log of the attempt of an image that has failed, with the reason.
    SaveLog {
        /// The image.
        image: ImageSource,
    },
    /// Boot an image with the generation that was made on it.
    Boot {
        /// The image.
        image: ImageSource,
    },
    /// Boot once more.
    Reboot,
    /// Start what needs neither an image of its own nor the data.
    SafeMode {
        /// Why.
        why: String,
    },
}

impl Effect {
    /// True for what is done before the state is saved.
    #[must_use]
    pub const fn comes_first(&self) -> bool {
        matches!(self, Self::Return { .. })
    }
}
