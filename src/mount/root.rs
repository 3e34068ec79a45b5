//! `-o rootfs`: the daemon of a root file system must outlive everything that needs it.

use std::io;

use crate::sys::{proc, steadfast};

type Step = fn() -> io::Result<()>;

/// Hardens this process; what is not permitted is left out, with a warning. Call it before threads are started.
pub fn harden() {
    let steps: [(&str, Step); 4] = [
        ("knows extended attributes only as long as /proc is not moved", proc::take),
        ("may be chosen when memory runs out", steadfast::spare_when_memory_runs_out),
        ("may be paged out", steadfast::lock_memory),
        ("may wait for its own file system when it needs memory", steadfast::never_wait_for_file_systems),
    ];
    for (consequence, step) in steps {
        if let Err(e) = step() {
            tracing::warn!("option rootfs: the daemon {consequence}: {e}");
        }
    }
    if !steadfast::is_marked() {
        tracing::warn!("option rootfs: the daemon's name does not begin with @, so it is ended early at shutdown");
    }
}
