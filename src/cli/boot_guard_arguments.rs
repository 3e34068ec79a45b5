//! The arguments of `haosfs boot-guard` as clap reads them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::boot_arguments::MOST_SECONDS;
use crate::commands::boot_guard;
use crate::mount::boot_record::usual_ini;

#[derive(Debug, Args)]
pub struct BootGuardArguments {
    /// haos.ini, by default the one that was booted from, or else /haos/haos.ini
    #[arg(long, value_name = "FILE")]
    ini: Option<PathBuf>,
    /// Directory of checks that must be green; repeat it for more
    #[arg(long, value_name = "DIR",
          default_values = ["/usr/lib/haosfs/check/required.d", "/etc/haosfs/check/required.d"])]
    required: Vec<PathBuf>,
    /// Directory of checks that should be; repeat it for more
    #[arg(long, value_name = "DIR",
          default_values = ["/usr/lib/haosfs/check/wanted.d", "/etc/haosfs/check/wanted.d"])]
    wanted: Vec<PathBuf>,
    /// Seconds from the beginning of the boot, where that is less than haos.ini has
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=MOST_SECONDS))]
    deadline: Option<u64>,
    /// Wait until the application says that it works, by haosfs update confirm
    #[arg(long)]
    application: bool,
    /// How to start the machine anew, for the shell
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_reboot")]
    reboot_command: Option<String>,
    /// Do not start the machine anew
    #[arg(long)]
    no_reboot: bool,
    /// The hardware's watchdog
    #[arg(long, value_name = "FILE", default_value = "/dev/watchdog", conflicts_with = "no_watchdog")]
    watchdog: PathBuf,
    /// Leave the watchdog alone
    #[arg(long)]
    no_watchdog: bool,
}

impl BootGuardArguments {
    /// The same in the words of the layer below.
    pub fn into_request(self) -> boot_guard::Request {
        boot_guard::Request {
            ini: self.ini.unwrap_or_else(usual_ini),
            required: self.required,
            wanted: self.wanted,
            deadline: self.deadline.map(Duration::from_secs),
            application: self.application,
            reboot: self.reboot_command,
            stay: self.no_reboot,
            watchdog: (!self.no_watchdog).then_some(self.watchdog),
        }
    }
}
