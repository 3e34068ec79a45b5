//! Starting the machine anew, politely where that is possible.

use std::path::Path;
use std::process::Command;

use crate::sys::power;

/// There where systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Asks by a command for the shell, or else systemd or the program reboot(8); where that fails, the kernel.
pub fn reboot(command: Option<&str>) {
    let mut asked = match command {
        Some(command) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", command]);
            shell
        }
        None if Path::new(SYSTEMD).is_dir() => {
            let mut systemctl = Command::new("systemctl");
            systemctl.args(["--no-block", "reboot"]);
            systemctl
        }
        None => Command::new("reboot"),
    };
    match asked.status() {
        Ok(status) if status.success() => return,
        Ok(status) => tracing::error!("{asked:?}: {status}"),
        Err(e) => tracing::error!("{asked:?}: {e}"),
    }
    power::restart();
}
