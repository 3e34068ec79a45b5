//! The arguments of `haosfs install` as clap reads them.

use std::path::PathBuf;

use clap::Args;

use crate::commands::install::Destination;

#[derive(Debug, Args)]
pub struct InstallArguments {
    /// Install into the system whose root this directory is
    #[arg(long, value_name = "DIR", default_value = "/")]
    destdir: PathBuf,
    /// Where programs and manuals stand within it; links for mount(8) always stand in /sbin
    #[arg(long, value_name = "DIR", default_value = "/usr")]
    prefix: PathBuf,
    /// Take away what an earlier call with the same directories installed
    #[arg(long)]
    pub remove: bool,
}

impl InstallArguments {
    /// The same in the words of the layer below.
    pub fn into_destination(self) -> Destination {
        Destination { root: self.destdir, prefix: self.prefix }
    }
}
