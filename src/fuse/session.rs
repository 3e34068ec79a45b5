//! A FUSE session on a device that is already (or about to be) mounted.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use fuser::{Config, INodeNo, SessionACL};

use super::awake::Awake;
use super::beside::Known;
use super::burst::{Bursts, Watch};
use super::filesystem::Filesystem;
use super::guard;
use super::page_store::{self, Begun};
use super::refused_pages::RefusedPages;
use super::turns::Turns;
use crate::error::{Error, Result};
use crate::sys::fuse_mount;
use crate::types::Latency;
use crate::union::Union;

/// How requests are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Threads that answer requests; by default one per CPU, at least 4, so that one slow copy-up does not stop the rest.
    pub threads: Option<usize>,
    /// How long a processor may take to wake while requests come in a burst.
    pub cpu_latency: Latency,
}

/// Most threads that help: requests of one mount meet in one kernel queue.
const MOST_THREADS: usize = 16;

impl Options {
    fn threads(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(|| cpus().clamp(4, MOST_THREADS)).max(1)
    }
}

/// A union that answers the kernel.
pub struct Session {
    inner: fuser::Session<Filesystem>,
    union: Arc<Union>,
    watch: Watch,
    /// Tells the first read, and the end of the session.
    reads: Receiver<()>,
    pages: Option<Begun>,
}

impl Session {
    /// Answers the kernel's first request on `device`, after which the mount works. Does not mount and does not unmount.
    ///
    /// # Errors
    /// [`Error::Sys`] where the kernel's FUSE is too old or hangs up.
    pub fn start(union: Arc<Union>, device: OwnedFd, options: &Options) -> Result<Self> {
        let mut config = Config::default();
        config.n_threads = Some(options.threads());
        // Each worker's is opened by the name, which a sandbox may not have.
        config.clone_fd = fuse_mount::open_device().is_ok();
        config.acl = SessionACL::All;
        let listens = device.try_clone().map_err(|e| Error::sys("clone", "/dev/fuse", e))?;
        let known = Arc::<Known>::default();
        let ahead = Arc::downgrade(&union);
        let work = move || {
            let Some(union) = ahead.upgrade() else { return Ok(false) };
            let is_done = guard::guarded(|| Ok(union.decode_ahead()));
            // Whoever else had it is gone, and its descriptors are not this thread's to close.
            if Arc::strong_count(&union) == 1 {
                std::mem::forget(union);
            }
            is_done
        };
        let awake = Arc::new(Awake::new(options.cpu_latency, Box::new(work)));
        let turns = Arc::new(Turns::new(listens, options.threads(), Arc::clone(&awake), Arc::clone(&known)));
        let bursts = Bursts::new(awake, Arc::clone(&turns), known);
        let watch = bursts.watch()?;
        let (first_read, reads) = channel();
        let refused = Arc::<RefusedPages>::default();
        let filesystem = Filesystem::new(Arc::clone(&union), bursts, Arc::clone(&turns), first_read, Arc::clone(&refused));
        let inner = fuser::Session::from_fd(filesystem, device, SessionACL::All, config)
            .map_err(|e| Error::sys("start the FUSE session on", "/dev/fuse", e))?;
        // Only now: should this fail, nobody is left who holds the device.
        union.announce(|| {
            let turns = Arc::clone(&turns);
            Box::new(move || turns.hand_on_if_asked())
        });
        let notifier = inner.notifier();
        union.tell_changes(Box::new(move |node| {
            // Attributes alone: a negative offset leaves the pages (`fuse_reverse_inval_inode` of fs/fuse/inode.c).
            if let Err(e) = notifier.inval_inode(INodeNo(node.0), -1, 0) {
                tracing::error!("the kernel keeps old attributes of node {}: {e}", node.0);
            }
        }));
        let notifier = inner.notifier();
        refused.drop_by(Box::new(move |node, offset, len| {
            if let Err(e) = notifier.inval_inode(INodeNo(node.0), offset, len) {
                tracing::error!("the kernel keeps pages of node {} that must not be written: {e}", node.0);
            }
        }));
        Ok(Self { inner, union, watch, reads, pages: None })
    }

    /// Keeps what is decompressed in `pages`, too, as soon as they are there.
    #[must_use]
    pub fn with_pages(self, pages: Option<Begun>) -> Self {
        Self { pages, ..self }
    }

    /// Serves until the union is unmounted, then makes the upper durable.
    ///
    /// # Errors
    /// [`Error::Sys`] where the device fails, or the upper cannot be made durable.
    pub fn run(self) -> Result<()> {
        guard::watch();
        let reads = self.reads;
        let giving = self.pages.and_then(|pages| {
            let union = Arc::clone(&self.union);
            let thread = std::thread::Builder::new().name("pages".to_owned());
            let started = thread.spawn(move || page_store::give(pages, &union, &reads));
            started.inspect_err(|e| tracing::debug!("nothing is kept in pages of the kernel: no thread: {e}")).ok()
        });
        let served = match self.inner.run() {
            // The last request was taken from the queue while the kernel took the connection down (fs/fuse/dev.c,
            // `fuse_dev_do_read`): an end as good as ENODEV, which it answers otherwise.
            Err(e) if e.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
            served => served.map_err(|e| Error::sys("serve", "/dev/fuse", e)),
        };
        drop(self.watch);
        // It cannot panic, and has nothing to tell.
        let _given = giving.map(std::thread::JoinHandle::join);
        let closed = self.union.close();
        served.and(closed)
    }
}
