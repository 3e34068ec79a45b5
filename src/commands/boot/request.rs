//! What a boot is asked for.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::mount_options::{Backend, MountOptions};
use crate::error::Result;
use crate::mount::{self, Ground};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// haos.ini.
    pub ini: PathBuf,
    /// Where the root shall stand.
    pub target: PathBuf,
    /// The first program; by default whatever is in the usual places.
    pub init: Option<PathBuf>,
    /// Mount options.
    pub options: MountOptions,
    /// How long the data partition, and images on devices, may take to appear.
    pub wait: Duration,
    /// Say which backend does the work.
    pub verbose: bool,
    /// Print JSON.
    pub json: bool,
}

impl Request {
    /// A mount on one ground, by a daemon that lives as long as the system. Where the upper is in memory, no option shall be what keeps an
    /// image from being mounted.
    ///
    /// # Errors
    /// Contradictions among the options.
    pub fn mount_request(&self, ground: Ground) -> Result<mount::Request> {
        let mut options = match ground {
            Ground::Memory { .. } => MountOptions { kernel_check: self.options.kernel_check, ..MountOptions::default() },
            _ => self.options.clone(),
        };
        options.rootfs = true;
        options.backend.get_or_insert(Backend::Auto);
        let (ini, target) = (self.ini.clone().into_os_string(), self.target.clone());
        let request = mount::Request::new(ini, target, Vec::new(), None, None, options)?;
        Ok(mount::Request { ground, ..request })
    }
}
