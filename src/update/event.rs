//! What happens to an update.

use crate::config::image_source::ImageSource;

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An image was put in its place, to be tried so many times at most (at least once).
    Stage {
        /// The image.
        image: ImageSource,
        /// Attempts.
        tries: u32,
    },
    /// A boot begins; no image has been touched yet.
    BootBegins,
    /// An image, or the upper that belongs to it, could not be mounted.
    MountFailed {
        /// The image.
        image: ImageSource,
        /// Why.
        why: String,
    },
    /// The data partition is not there, or cannot be mounted. That is no image's fault.
    DataMissing {
        /// Why.
        why: String,
    },
    /// A boot of an image did not come far enough in time.
    DeadlinePassed {
        /// The image.
        image: ImageSource,
    },
    /// A check failed under an image.
    CheckRed {
        /// The image.
        image: ImageSource,
        /// Which, and why.
        why: String,
    },
    /// Somebody says that the image that is tried, or after a failure the good one, works.
    Confirm,
    /// Somebody says that the image that is tried, or waits, does not work.
    Fail {
        /// Why.
        why: String,
    },
    /// Somebody wants the image before back.
    Rollback,
    /// Somebody says that an image, whichever it is, does not work: RAUC of one that it is going to write over, too.
    Condemn {
        /// The image.
        image: ImageSource,
        /// Why.
        why: String,
    },
    /// Somebody says that an image that has failed works.
    Absolve {
        /// The image.
        image: ImageSource,
    },
}
