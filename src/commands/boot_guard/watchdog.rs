//! The hardware's watchdog (Documentation/watchdog/watchdog-api.rst): from when it is opened, the machine is reset unless something is
//! written to it now and then.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Errno;

/// The number of the device that stands for the first watchdog, as it was before there were several (devices.txt: 10, 130).
const FIRST: (u32, u32) = (10, 130);

/// What the kernel knows of that.
const FIRST_KNOWN: &str = "/sys/class/watchdog/watchdog0";

/// Written before it is closed, this stops it.
const MAGIC: &[u8] = b"V";

/// How often something is written; a watchdog has seconds, mostly sixty.
const PERIOD: Duration = Duration::from_secs(1);

/// One that was taken. Without [`Watchdog::release`] it goes on when this ends, and resets the machine.
pub struct Watchdog {
    device: File,
    fed: Option<Instant>,
}

impl Watchdog {
    /// Takes it, where there is one that nobody has and that can be stopped again.
    pub fn take(path: &Path) -> Option<Self> {
        if !can_be_stopped(path) {
            return None;
        }
        match File::options().write(true).open(path) {
            Ok(device) => Some(Self { device, fed: None }),
            Err(e) => {
                match Errno::from(e) {
                    Errno::ENOENT => {}
                    Errno::EBUSY => tracing::info!("somebody has the watchdog {} already", path.display()),
                    e => tracing::warn!("the watchdog {} cannot be used: {e}", path.display()),
                }
                None
            }
        }
    }

    /// Keeps it quiet for a while more.
    pub fn feed(&mut self) {
        if self.fed.is_none_or(|fed| fed.elapsed() >= PERIOD) {
            // Where that fails, the machine is reset, which is what it is for.
            let _ = self.device.write(&[0]);
            self.fed = Some(Instant::now());
        }
    }

    /// Stops it, so that systemd or whoever takes it next starts it anew.
    pub fn release(mut self) {
        if let Err(e) = self.device.write_all(MAGIC) {
            tracing::warn!("the watchdog cannot be stopped: {e}");
        }
    }
}

/// What is no device resets nothing. One of which nobody knows is left alone: once it is opened, it is too late.
fn can_be_stopped(path: &Path) -> bool {
    let Ok(found) = fs::metadata(path) else { return true };
    if !found.file_type().is_char_device() {
        return true;
    }
    let number = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    match fs::read_to_string(known(number).join("nowayout")).as_deref().map(str::trim) {
        Ok("0") => return true,
        Ok(_) => tracing::info!("the watchdog {} cannot be stopped again (nowayout): it is left to others", path.display()),
        Err(e) => {
            tracing::info!("whether the watchdog {} can be stopped again is not known ({e}): it is left alone", path.display())
        }
    }
    false
}

/// Where the kernel says what it knows of a watchdog.
fn known(number: (u32, u32)) -> PathBuf {
    if number == FIRST { FIRST_KNOWN.into() } else { format!("/sys/dev/char/{}:{}", number.0, number.1).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_nobody_knows_is_left_alone() {
        assert!(!can_be_stopped(Path::new("/dev/null")));
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("watchdog");
        assert!(Watchdog::take(&path).is_none());
        fs::write(&path, "").unwrap();
        let mut watchdog = Watchdog::take(&path).unwrap();
        watchdog.feed();
        watchdog.feed();
        watchdog.release();
        assert_eq!(fs::read(&path).unwrap(), b"\0V");
        assert_eq!(known(FIRST), Path::new(FIRST_KNOWN));
        assert_eq!(known((250, 1)), Path::new("/sys/dev/char/250:1"));
    }
}
