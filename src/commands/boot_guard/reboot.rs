//! Starting the machine anew, politely where that is possible.

use std::process::Command;

use super::system::is_systemd;
use crate::sys::power;
use crate::sys::signals::unblock_in;

/// Asks by a command for the shell, or else systemd or the program reboot(8); where that fails, the kernel.
pub fn reboot(command: Option<&str>) {
    let mut asked = match command {
        Some(command) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", command]);
            shell
        }
        None if is_systemd() => {
            let mut systemctl = Command::new("systemctl");
            systemctl.args(["--no-block", "reboot"]);
            systemctl
        }
        None => Command::new("reboot"),
    };
    match unblock_in(&mut asked).status() {
        Ok(status) if status.success() => return,
        Ok(status) => tracing::error!("{asked:?}: {status}"),
        Err(e) => tracing::error!("{asked:?}: {e}"),
    }
    power::restart();
}
