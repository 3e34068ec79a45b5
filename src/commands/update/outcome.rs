//! Exit codes of `haosfs update`.

use crate::error::Error;

/// It could not be done: a file, a partition or an argument is not as it must be.
const FAILURE: u8 = 1;

/// The image is damaged, is not the one that was meant, is not signed, or has failed before.
pub const REFUSED_IMAGE: u8 = 3;

/// There is no room for the image.
pub const NO_ROOM: u8 = 4;

/// There is no trial that could fail, or no image before.
pub const NOTHING_TO_DO: u8 = 5;

/// Why, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// The cause.
    pub error: Error,
}

impl Failure {
    /// An image that is refused.
    pub const fn image(error: Error) -> Self {
        Self { code: REFUSED_IMAGE, error }
    }

    /// Nothing to do it to.
    pub const fn nothing(why: String) -> Self {
        Self { code: NOTHING_TO_DO, error: Error::Refused(why) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = if error.is_full() { NO_ROOM } else { FAILURE };
        Self { code, error }
    }
}
