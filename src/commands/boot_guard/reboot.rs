//! Starting the machine anew, politely where that is possible.

use std::process::Command;

use super::system::is_systemd;
use crate::sys::power;
use crate::sys::signals::unblock_in;

/// Asks by a command for the shell, or else systemd or the program reboot(8); where that fails, the kernel.
pub fn reboot(command: Option<&str>) {
    if !ways(command).iter_mut().any(is_heard) {
        power::restart();
    }
}

fn ways(command: Option<&str>) -> Vec<Command> {
    if let Some(command) = command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]);
        return vec![shell];
    }
    let mut ways = Vec::new();
    // Up to systemd 256, that of an initramfs leaves what it is known by to whatever init it goes over to.
    if is_systemd() {
        let mut systemctl = Command::new("systemctl");
        systemctl.args(["--no-block", "reboot"]);
        ways.push(systemctl);
    }
    ways.push(Command::new("reboot"));
    ways
}

fn is_heard(way: &mut Command) -> bool {
    match unblock_in(way).status() {
        Ok(status) if status.success() => return true,
        Ok(status) => tracing::error!("{way:?}: {status}"),
        Err(e) => tracing::error!("{way:?}: {e}"),
    }
    false
}
