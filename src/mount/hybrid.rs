//! The kernel's overlayfs over lowers that our daemon serves: where the kernel cannot read the images itself.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::backend::Choice;
use super::plan::MountPlan;
use super::presence::{Presence, Reserved};
use super::probe::probe;
use super::record::Note;
use super::serve::{Ending, Writer, conclude_unlocked, forget, prepare_process, show_presence, spawn_termination, tell_mounted};
use super::superblock::{self, Place};
use super::way::{self, Way};
use super::{kernel, layers};
use crate::error::{Error, Result};
use crate::fuse::{self, Session};
use crate::sys::signals::Termination;
use crate::union::Union;

/// Serves the lowers of a plan in this process, as one layer below the kernel's overlayfs, until that is unmounted. `ready` is
/// called when the union answers at the mountpoint.
///
/// # Errors
/// Whatever stands in the way of the mount; nothing is then left mounted.
pub fn serve_lowers(plan: &MountPlan, choice: &Choice, ready: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let mounted = AtomicBool::new(false);
    let ended = serve_below(plan, choice, || {
        mounted.store(true, Ordering::Relaxed);
        ready()
    });
    if ended.is_ok() || !mounted.into_inner() {
        conclude_unlocked(plan);
    }
    ended
}

fn serve_below(plan: &MountPlan, choice: &Choice, ready: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let termination = prepare_process(plan)?;
    let pages = fuse::begin_pages();
    let reserved = Reserved::take().map_err(|e| Error::sys("open", "/", e))?;
    let union = layers::open_lowers(plan)?;
    let facts = probe();
    way::ways(&facts)?;
    // Nobody sees the name; the one that is shown may be longer than fsconfig(2) takes.
    let mut below = MountPlan { upper: None, source: "haosfs".into(), ..plan.clone() };
    below.attributes.read_only = true;
    let superblock = superblock::build(&below, &[Way::Detached], &facts)?;
    let Place::Detached(lower) = superblock.place else {
        return Err(Error::Refused("option backend=hybrid: needs fsopen(2)".to_owned()));
    };
    let served = Arc::clone(&union);
    let session = Session::start(
        union,
        superblock.device,
        &fuse::Options { threads: plan.options.threads, cpu_latency: plan.options.cpu_latency },
    )?;
    std::thread::scope(|scope| {
        // Overlayfs asks the session for its root while it is built, so this cannot wait for the session nor precede it. Where it
        // fails, its only mount goes with `lower`, and the session ends.
        let placing = scope.spawn(move || place(plan, choice, lower, Start { termination, reserved, union: served }, ready));
        let ended = session.with_pages(pages).run();
        tracing::info!(mountpoint = %plan.mountpoint.display(), "unmounted");
        let placed = placing.join().unwrap_or_else(|_| Err(Error::Refused("the thread that mounts has ended".to_owned())));
        placed.map(|(note, presence)| {
            forget(note.as_ref());
            std::mem::forget(presence);
        })?;
        ended
    })
}

/// What the daemon has at hand while it starts.
struct Start {
    termination: Termination,
    reserved: Reserved,
    union: Arc<Union>,
}

/// Returns what has to stay until the process ends.
fn place(
    plan: &MountPlan,
    choice: &Choice,
    lower: std::os::fd::OwnedFd,
    start: Start,
    ready: impl FnOnce() -> Result<()>,
) -> Result<(Option<Note>, Option<Presence>)> {
    let mut stage = None;
    let (mount, note) = kernel::place(plan, &[lower.as_fd()], &mut stage, choice)?;
    // Kept, they would outlast the unmount.
    drop((lower, stage));
    let presence = show_presence(&mount, start.reserved);
    let place = Arc::new(Place::Mounted);
    let ending = Ending {
        place: Arc::clone(&place),
        plan: plan.clone(),
        mount: Some(mount),
        note: note.clone(),
        writer: Writer::Kernel,
        union: start.union,
    };
    let started = spawn_termination(start.termination, ending).and_then(|()| ready());
    if let Err(e) = started {
        if let Err(e) = place.remove(&plan.mountpoint, true) {
            tracing::warn!("{e}");
        }
        return Err(e);
    }
    tell_mounted(plan, choice);
    Ok((note, presence))
}
