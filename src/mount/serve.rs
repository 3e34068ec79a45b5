//! The life of a daemon: open the layers, build the mount, answer, become visible, serve until unmounted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::choose::choose;
use super::given;
use super::layers;
use super::mountinfo::{MountEntry, haosfs_at};
use super::plan::MountPlan;
use super::presence::{Presence, Reserved};
use super::probe::probe;
use super::root;
use super::superblock::{self, Place};
use crate::error::{Errno, Error, Result};
use crate::fuse::{self, Session};
use crate::sys::signals::{self, Termination};
use crate::sys::{cred, daemon, heap};
use crate::union::Union;

/// How long programs that still use the union after a signal may go on before the daemon ends under them.
const GRACE: Duration = Duration::from_secs(5);

/// Serves the plan in this process until it is unmounted. `ready` is called when the union answers at the mountpoint.
///
/// # Errors
/// Whatever stands in the way of the mount, with its remedy where there is one; nothing is then left mounted.
pub fn serve(plan: &MountPlan, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    heap::share_one_arena();
    if plan.options.rootfs {
        root::harden();
    }
    let termination = Termination::block().map_err(|e| Error::sys("block", "signals", e))?;
    if let Err(e) = daemon::raise_limits().and_then(|()| signals::ignore_file_size()) {
        tracing::warn!("the limits of open files and of their size stay as they are: {e}");
    }
    daemon::clear_umask();
    // Before any thread starts: all of them create files in their callers' names.
    if cred::privilege().impersonate
        && let Err(e) = cred::keep_capabilities()
    {
        tracing::warn!("files are created in the daemon's name first: {e}");
    }
    let facts = probe();
    let ways = if given::descriptor(&plan.mountpoint).is_some() { Vec::new() } else { choose(&facts)? };
    let reserved = Reserved::take().map_err(|e| Error::sys("open", "/", e))?;
    let union = layers::open(plan)?;
    let superblock = superblock::build(plan, &ways, &facts)?;
    let options = fuse::Options { threads: plan.options.threads };
    let served = Arc::clone(&union);
    let session =
        Session::start(union, superblock.device, &options).inspect_err(|_| withdraw(&superblock.place, &plan.mountpoint))?;
    let place = Arc::new(superblock.place.attach(&plan.mountpoint)?);
    let mount = haosfs_at(&plan.mountpoint).inspect_err(|_| withdraw(&place, &plan.mountpoint))?;
    let presence = mount.as_ref().and_then(|mount| show_presence(mount, reserved));
    let ending = Ending { place: Arc::clone(&place), mountpoint: plan.mountpoint.clone(), mount, union: served };
    spawn_termination(termination, ending).and_then(|()| ready()).inspect_err(|_| withdraw(&place, &plan.mountpoint))?;
    tracing::info!(source = %plan.source.display(), mountpoint = %plan.mountpoint.display(), "mounted");
    let ended = session.run();
    tracing::info!(mountpoint = %plan.mountpoint.display(), "unmounted");
    // Left to the kernel to close: so whoever watches knows that this process has ended, not merely that it is about to.
    std::mem::forget(presence);
    ended
}

/// Removes what a failed start left at the mountpoint.
fn withdraw(place: &Place, mountpoint: &Path) {
    if let Err(e) = place.remove(mountpoint, true) {
        tracing::warn!("{e}");
    }
}

fn show_presence(mount: &MountEntry, reserved: Reserved) -> Option<Presence> {
    Presence::show(&mount.device, reserved).inspect_err(|e| tracing::debug!("umount will not wait for this daemon: {e}")).ok()
}

/// What a daemon that is asked to end must know.
struct Ending {
    place: Arc<Place>,
    mountpoint: PathBuf,
    mount: Option<MountEntry>,
    union: Arc<Union>,
}

/// A thread that unmounts when the daemon is asked to end; the session then ends by itself, or when asked once more.
fn spawn_termination(termination: Termination, ending: Ending) -> Result<()> {
    std::thread::Builder::new()
        .name("termination".to_owned())
        .spawn(move || match termination.wait() {
            Ok(signal) => ending.end(signal, &termination),
            Err(e) => wait_failed(&e),
        })
        .map(|_| ())
        .map_err(|e| Error::sys("start", "the termination thread", e))
}

fn wait_failed(e: &io::Error) {
    tracing::error!("signals cannot be waited for: {e}");
}

impl Ending {
    fn end(&self, signal: &str, termination: &Termination) {
        tracing::info!("{signal}: unmounting {}", self.mountpoint.display());
        match self.unmount() {
            // The session ends by itself with the last mount of its superblock, which may stand elsewhere, too (`mount --bind`,
            // other namespaces).
            Ok(()) => match termination.wait() {
                Ok(signal) => tracing::warn!("{signal}: ending, though the union is still mounted somewhere"),
                Err(e) => return wait_failed(&e),
            },
            Err(e) if e.errno() == Errno::EBUSY => {
                tracing::warn!("{} is in use; it ends in {} s at the latest", self.mountpoint.display(), GRACE.as_secs());
                if let Err(e) = self.place.remove(&self.mountpoint, true) {
                    tracing::warn!("{e}");
                }
                std::thread::sleep(GRACE);
            }
            Err(e) => {
                tracing::warn!("{e}");
                std::thread::sleep(GRACE);
            }
        }
        if let Err(e) = self.union.close() {
            tracing::error!("{e}");
        }
        std::process::exit(0);
    }

    /// Only our own mount: somebody may have mounted over it, or moved it away.
    fn unmount(&self) -> Result<()> {
        if haosfs_at(&self.mountpoint)? != self.mount {
            return Err(Error::Refused(format!("{} shows another mount", self.mountpoint.display())));
        }
        self.place.remove(&self.mountpoint, false)
    }
}
