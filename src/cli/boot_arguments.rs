//! The arguments of `haosfs boot` as clap reads them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::commands::boot;
use crate::config::mount_options::MountOptions;
use crate::error::Result;

/// More seconds than these would be a mistake: a day.
pub const MOST_SECONDS: u64 = 24 * 3600;

#[derive(Debug, Args)]
pub struct BootArguments {
    /// haos.ini
    #[arg(long, value_name = "FILE")]
    ini: PathBuf,
    /// An existing directory, which becomes the root
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// The first program; without it, whatever is in the usual places
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Mount options, as in fstab; rootfs is implied
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// Seconds in which the data partition must appear
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=MOST_SECONDS))]
    wait: u64,
    /// Say which backend does the work, and why
    #[arg(short, long)]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BootArguments {
    /// The same in the words of the layer below.
    ///
    /// # Errors
    /// As for [`MountOptions::read`].
    pub fn into_request(self) -> Result<boot::Request> {
        let Self { ini, target, init, options: lists, wait, verbose, json } = self;
        let mut options = MountOptions::default();
        lists.iter().try_for_each(|list| options.read(list))?;
        Ok(boot::Request { ini, target, init, options, wait: Duration::from_secs(wait), verbose, json })
    }
}
