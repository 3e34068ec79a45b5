//! Which kernel runs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Its release, as `uname -r` prints it.
#[must_use]
pub fn release() -> OsString {
    OsString::from_vec(rustix::system::uname().release().to_bytes().to_vec())
}
