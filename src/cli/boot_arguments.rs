//! The arguments of `haosfs boot` as clap reads them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::commands::boot;
use crate::config::mount_options::MountOptions;
use crate::config::option_list::split_unescaped;

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
    /// Seconds in which the data partition, and images on devices, must appear
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    wait: String,
    /// Say which backend does the work, and why
    #[arg(short, long)]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BootArguments {
    /// The same in the words of the layer below. They come from the kernel's command line, where a mistake shall keep nobody from a root:
    /// it is told of and left out.
    pub fn into_request(self) -> boot::Request {
        let Self { ini, target, init, options: lists, wait, verbose, json } = self;
        let mut options = MountOptions::default();
        for item in lists.iter().flat_map(|list| split_unescaped(list.as_bytes(), b',')) {
            if let Err(e) = options.read(OsStr::from_bytes(item)) {
                tracing::error!("{e}; it is left out");
            }
        }
        let seconds = wait.parse().ok().filter(|seconds| *seconds <= MOST_SECONDS).unwrap_or_else(|| {
            tracing::error!("--wait {wait}: expected a number up to {MOST_SECONDS}; it is left out");
            10
        });
        boot::Request { ini, target, init, options, wait: Duration::from_secs(seconds), verbose, json }
    }
}
