//! The life of a daemon: open the layers, build the mount, answer, become visible, serve until unmounted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Choice;
use super::generation::Claim;
use super::given;
use super::layers;
use super::mountinfo::{MountEntry, haosfs_at, mount_at};
use super::plan::MountPlan;
use super::presence::{Presence, Reserved};
use super::probe::probe;
use super::record::{self, Note};
use super::root;
use super::superblock::{self, Place};
use super::way::ways;
use crate::error::{Errno, Error, Result};
use crate::fuse::{self, Session};
use crate::sys::fuse_mount::set_read_ahead;
use crate::sys::signals::{self, Termination};
use crate::sys::{cred, daemon, heap};
use crate::union::Union;

/// How long programs that still use the union after a signal may go on before the daemon ends under them.
const GRACE: Duration = Duration::from_secs(5);
/// How far the kernel reads ahead, in KiB.
const READ_AHEAD: u32 = 512;

/// Serves the plan in this process until it is unmounted. `ready` is called when the union answers at the mountpoint.
///
/// # Errors
/// Whatever stands in the way of the mount, with its remedy where there is one; nothing is then left mounted.
pub fn serve(plan: &MountPlan, choice: &Choice, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut mounted = false;
    let ended = serve_union(plan, choice, || {
        mounted = true;
        ready()
    });
    if !mounted {
        conclude_unlocked(plan);
    }
    ended
}

/// Notes that the upper is as its last user left it. Not for one that could not be made durable.
fn conclude(plan: &MountPlan) {
    if let Some(Err(e)) = plan.claim().map(Claim::end) {
        tracing::error!("{e}");
    }
}

/// The same where the locks of the upper are not held any more.
pub(super) fn conclude_unlocked(plan: &MountPlan) {
    if let Some(Err(e)) = plan.claim().map(Claim::end_unlocked) {
        tracing::error!("{e}");
    }
}

fn serve_union(plan: &MountPlan, choice: &Choice, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    let termination = prepare_process(plan)?;
    let pages = fuse::begin_pages();
    let facts = probe();
    let ways = if given::descriptor(&plan.mountpoint).is_some() { Vec::new() } else { ways(&facts)? };
    let reserved = Reserved::take().map_err(|e| Error::sys("open", "/", e))?;
    let union = layers::open(plan)?;
    let superblock = superblock::build(plan, &ways, &facts)?;
    let options = fuse::Options { threads: plan.options.threads, cpu_latency: plan.options.cpu_latency };
    let served = Arc::clone(&union);
    // With its upper it holds the locks to the very end.
    let _held = Arc::clone(&union);
    let session =
        Session::start(union, superblock.device, &options).inspect_err(|_| withdraw(&superblock.place, &plan.mountpoint))?;
    let place = Arc::new(superblock.place.attach(&plan.mountpoint)?);
    let mount = haosfs_at(&plan.mountpoint).inspect_err(|_| withdraw(&place, &plan.mountpoint))?;
    mount.iter().for_each(read_far_ahead);
    let presence = mount.as_ref().and_then(|mount| show_presence(mount, reserved));
    let note = mount.as_ref().and_then(|mount| note(mount, plan, choice));
    let ending = Ending {
        place: Arc::clone(&place),
        plan: plan.clone(),
        mount,
        note: note.clone(),
        writer: Writer::Daemon,
        union: served,
    };
    spawn_termination(termination, ending).and_then(|()| ready()).inspect_err(|_| withdraw(&place, &plan.mountpoint))?;
    tell_mounted(plan, choice);
    let ended = session.with_pages(pages).run();
    tracing::info!(mountpoint = %plan.mountpoint.display(), "unmounted");
    if ended.is_ok() {
        conclude(plan);
    }
    forget(note.as_ref());
    // Left to the kernel to close: so whoever watches knows that this process has ended, not merely that it is about to.
    std::mem::forget(presence);
    ended
}

/// The kernel reads 128 KiB ahead of FUSE's askers, one block of most images; with more, several are decompressed at a time.
fn read_far_ahead(mount: &MountEntry) {
    if let Err(e) = set_read_ahead(&mount.device, READ_AHEAD) {
        tracing::debug!("the kernel reads ahead as far as it does by itself: {e}");
    }
}

/// One line for whoever reads the log.
pub(super) fn tell_mounted(plan: &MountPlan, choice: &Choice) {
    let (source, mountpoint) = (plan.source.display(), plan.mountpoint.display());
    tracing::info!(%source, %mountpoint, backend = choice.backend.name(), reason = %choice.reason, "mounted");
}

pub(super) fn note(mount: &MountEntry, plan: &MountPlan, choice: &Choice) -> Option<Note> {
    record::note(mount, plan, choice).inspect_err(|e| tracing::warn!("{e}")).ok()
}

pub(super) fn forget(note: Option<&Note>) {
    if let Some(Err(e)) = note.map(Note::forget) {
        tracing::warn!("{e}");
    }
}

/// What a process needs that will answer for others. Before any thread starts.
pub(super) fn prepare_process(plan: &MountPlan) -> Result<Termination> {
    heap::share_one_arena();
    if plan.options.rootfs {
        root::harden();
    }
    let termination = Termination::block().map_err(|e| Error::sys("block", "signals", e))?;
    if let Err(e) = daemon::raise_limits().and_then(|()| signals::ignore_file_size()) {
        tracing::warn!("the limits of open files and of their size stay as they are: {e}");
    }
    daemon::clear_umask();
    // All threads create files in their callers' names.
    if cred::privilege().impersonate
        && let Err(e) = cred::keep_capabilities()
    {
        tracing::warn!("files are created in the daemon's name first: {e}");
    }
    Ok(termination)
}

/// Removes what a failed start left at the mountpoint.
fn withdraw(place: &Place, mountpoint: &Path) {
    if let Err(e) = place.remove(mountpoint, true) {
        tracing::warn!("{e}");
    }
}

pub(super) fn show_presence(mount: &MountEntry, reserved: Reserved) -> Option<Presence> {
    Presence::show(&mount.device, reserved).inspect_err(|e| tracing::warn!("umount will not wait for this daemon: {e}")).ok()
}

/// Who writes to the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// This process, so with its end it is over.
    Daemon,
    /// The kernel's overlayfs.
    Kernel,
}

/// What a daemon that is asked to end must know.
pub(super) struct Ending {
    pub place: Arc<Place>,
    pub plan: MountPlan,
    pub mount: Option<MountEntry>,
    pub note: Option<Note>,
    pub writer: Writer,
    pub union: Arc<Union>,
}

/// A thread that unmounts when the daemon is asked to end; the session then ends by itself, or when asked once more.
pub(super) fn spawn_termination(termination: Termination, ending: Ending) -> Result<()> {
    std::thread::Builder::new()
        .name("termination".to_owned())
        .spawn(move || match termination.wait() {
            Ok(signal) if ending.plan.options.rootfs => ending.outlive(signal, &termination),
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
    /// An init that ends every process before it unmounts has not got to the end without its root: it gets what it wants by that,
    /// which is data on the disk.
    fn outlive(&self, mut signal: &'static str, termination: &Termination) {
        loop {
            tracing::info!("{signal}: {} is a root file system, and is only synchronised", self.plan.mountpoint.display());
            if let Err(e) = self.union.synchronise() {
                tracing::error!("{e}");
            }
            match termination.wait() {
                Ok(next) => signal = next,
                Err(e) => return wait_failed(&e),
            }
        }
    }

    fn end(&self, signal: &str, termination: &Termination) {
        tracing::info!("{signal}: unmounting {}", self.plan.mountpoint.display());
        match self.unmount() {
            // The session ends by itself with the last mount of its superblock, which may stand elsewhere, too (`mount --bind`,
            // other namespaces).
            Ok(()) => match termination.wait() {
                Ok(signal) => tracing::warn!("{signal}: ending, though the union is still mounted somewhere"),
                Err(e) => return wait_failed(&e),
            },
            Err(e) if e.errno() == Errno::EBUSY => {
                tracing::warn!("{} is in use; it ends in {} s at the latest", self.plan.mountpoint.display(), GRACE.as_secs());
                if let Err(e) = self.place.remove(&self.plan.mountpoint, true) {
                    tracing::warn!("{e}");
                }
                std::thread::sleep(GRACE);
            }
            Err(e) => {
                tracing::warn!("{e}");
                std::thread::sleep(GRACE);
            }
        }
        self.give_up();
        std::process::exit(0);
    }

    /// The union is used on, to the end of this process or longer: what has come so far is made durable, and the upper keeps the marks of
    /// one whose last user did not end in order.
    fn give_up(&self) {
        if let Err(e) = self.union.synchronise() {
            tracing::error!("{e}");
        }
        if self.writer == Writer::Daemon {
            forget(self.note.as_ref());
        }
    }

    /// Only our own mount: somebody may have mounted over it, or moved it away.
    fn unmount(&self) -> Result<()> {
        let same = |a: &MountEntry, b: &MountEntry| (&a.device, &a.fs_type, &a.source) == (&b.device, &b.fs_type, &b.source);
        let found = mount_at(&self.plan.mountpoint)?;
        if !matches!((&found, &self.mount), (Some(a), Some(b)) if same(a, b)) {
            return Err(Error::Refused(format!("{} shows another mount", self.plan.mountpoint.display())));
        }
        self.place.remove(&self.plan.mountpoint, false)
    }
}
