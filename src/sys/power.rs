//! The machine's power.

use std::time::Duration;

use rustix::system::{RebootCommand, reboot};

/// How long the disks may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes out what is to be written, waiting no longer than ten seconds for that, and starts the machine anew without a word to
/// anybody (reboot(2)). In a pid namespace it is the first process there that ends. Returns where that is not permitted.
pub fn restart() {
    let (done, waiting) = std::sync::mpsc::channel();
    let syncing = std::thread::Builder::new().spawn(move || {
        rustix::fs::sync();
        // Nobody waits any more where it took too long.
        let _ = done.send(());
    });
    if syncing.is_ok() {
        let _in_time = waiting.recv_timeout(PATIENCE);
    }
    if let Err(e) = reboot(RebootCommand::Restart) {
        tracing::error!("the machine cannot be started anew: {e}");
    }
}
