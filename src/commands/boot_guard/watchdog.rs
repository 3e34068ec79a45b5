//! The hardware's watchdog (Documentation/watchdog/watchdog-api.rst): from when it is opened, the machine is reset unless something is
//! written to it now and then.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Errno;

/// Where the kernel says whether one that was opened can be stopped again.
const NO_WAY_OUT: &str = "/sys/class/watchdog/watchdog0/nowayout";

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
        if fs::read_to_string(NO_WAY_OUT).is_ok_and(|told| told.trim() == "1") {
            tracing::info!("the watchdog cannot be stopped again (nowayout): it is left to others");
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
