//! `haosfs mount`.

use crate::error::{Errno, Error, Result};
use crate::mount::{self, MountPlan, Request};
use crate::sys::daemon::{self, Readiness, Side, Started};

/// In which process the union is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In a daemon; the command returns when the union answers.
    Background,
    /// In this process, until unmounted.
    Foreground,
    /// Nowhere: only the checks.
    DryRun,
}

/// Mounts as requested.
///
/// # Errors
/// Whatever stands in the way, also where it was the daemon that met it.
pub fn run(request: Request, manner: Manner) -> Result<()> {
    let plan = MountPlan::check(request)?;
    match manner {
        Manner::DryRun => mount::choose(&mount::probe()).map(|_| ()),
        Manner::Foreground => mount::serve(&plan, || Ok(())),
        Manner::Background => match daemon::detach().map_err(|e| Error::sys("start", "the daemon", e))? {
            Side::Starter(starting) => match starting.wait().map_err(|e| Error::sys("wait for", "the daemon", e))? {
                Started::Ready => Ok(()),
                Started::Failed(reason) => Err(Error::Refused(reason)),
                Started::Interrupted => Err(Error::sys("wait for", "the daemon", Errno::EINTR)),
                Started::Died => Err(Error::Refused("the daemon ended while starting; its log may say why".to_owned())),
            },
            Side::Daemon(readiness) => run_daemon(&plan, readiness),
        },
    }
}

/// The daemon's whole life. Once it has said that it is ready, an error has nowhere to go but the log.
fn run_daemon(plan: &MountPlan, readiness: Readiness) -> Result<()> {
    let mut readiness = Some(readiness);
    let served = mount::serve(plan, || match readiness.take() {
        Some(readiness) => readiness.succeed().map_err(|e| Error::sys("leave", "the terminal", e)),
        None => Ok(()),
    });
    match (served, readiness) {
        (Ok(()), _) => Ok(()),
        (Err(e), Some(readiness)) => {
            readiness.fail(&e.to_string());
            std::process::exit(1)
        }
        (Err(e), None) => {
            tracing::error!("{e}");
            Err(e)
        }
    }
}
