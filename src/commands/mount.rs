//! `haosfs mount`.

use crate::error::{Errno, Error, Result};
use crate::mount::{self, Backend, Choice, Lowers, MountPlan, Request};
use crate::sys::daemon::{self, Readiness, Started};
use crate::sys::signals::Termination;

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

/// Who is back from a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who asked for it: the union stands.
    Asker,
    /// Who has served it: the union is gone, and there is nothing more to do.
    Server,
}

/// Mounts as requested; `verbose` says which backend does the work, and why.
///
/// # Errors
/// Whatever stands in the way, also where it was the daemon that met it.
pub fn run(request: Request, manner: Manner, verbose: bool) -> Result<Side> {
    let plan = MountPlan::check(request)?;
    let (can, lowers) = mount::try_out(&plan)?;
    let choice = mount::choose(plan.backend, &plan.options, manner == Manner::Foreground, &can)?;
    tracing::debug!(backend = choice.backend.name(), reason = %choice.reason, "chosen");
    if verbose {
        println!("haosfs: backend {}: {}", choice.backend.name(), choice.reason);
    }
    match (manner, choice.backend) {
        (Manner::DryRun, backend) => mount::look(&plan, backend).map(|()| Side::Asker),
        (_, Backend::Kernel) => mount_by_kernel(&plan, lowers, &choice).map(|()| Side::Asker),
        (Manner::Foreground, _) => serve(&plan, &choice, || Ok(())).map(|()| Side::Server),
        (Manner::Background, _) => {
            // Nothing that stands where it can be seen may be shared with the daemon, or outlive both.
            drop(lowers);
            plan.hide();
            match daemon::detach().map_err(|e| Error::sys("start", "the daemon", e))? {
                daemon::Side::Starter(starting) => match starting.wait().map_err(|e| Error::sys("wait for", "the daemon", e))? {
                    Started::Ready => Ok(Side::Asker),
                    Started::Failed { reason, errno: Errno::ENOSPC | Errno::EDQUOT } => Err(Error::Full(reason)),
                    Started::Failed { reason, .. } => Err(Error::Refused(reason)),
                    Started::Interrupted => Err(Error::sys("wait for", "the daemon", Errno::EINTR)),
                    Started::Died => Err(Error::Refused("the daemon ended while starting; its log may say why".to_owned())),
                },
                daemon::Side::Daemon(readiness) => {
                    run_daemon(&plan, &choice, readiness);
                    Ok(Side::Server)
                }
            }
        }
    }
}

/// A signal to end waits until the kernel has all of it, which then goes again.
fn mount_by_kernel(plan: &MountPlan, lowers: Lowers, choice: &Choice) -> Result<()> {
    let failed = |e| Error::sys("block", "signals", e);
    let termination = Termination::block().map_err(failed)?;
    let mounted = mount::mount(plan, lowers, choice, || termination.is_pending());
    // Taken as before, the signal would end this process instead of giving it an exit code.
    if !matches!(&mounted, Err(e) if e.errno() == Errno::EINTR) {
        termination.lift().map_err(failed)?;
    }
    mounted
}

fn serve(plan: &MountPlan, choice: &Choice, ready: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    match choice.backend {
        Backend::Hybrid => mount::serve_lowers(plan, choice, ready),
        Backend::Fuse | Backend::Kernel => mount::serve(plan, choice, ready),
    }
}

/// The daemon's whole life. Once it has said that it is ready, an error has nowhere to go but the log: whoever was to mount has gone on
/// long ago, and this process shall not do so, too.
fn run_daemon(plan: &MountPlan, choice: &Choice, readiness: Readiness) {
    let mut readiness = Some(readiness);
    let served = serve(plan, choice, || match readiness.take() {
        Some(readiness) => readiness.succeed().map_err(|e| Error::sys("leave", "the terminal", e)),
        None => Ok(()),
    });
    let Err(e) = served else { return };
    match readiness {
        Some(readiness) => readiness.fail(&e.to_string(), e.errno()),
        None => tracing::error!("{e}"),
    }
    std::process::exit(1)
}
