//! Pages of the kernel for what was decompressed: a file of a file system of our own that is mounted nowhere, so that nobody else
//! comes to it. Its pages are pushed into the page cache, and are clean: the kernel drops them when it needs room.
//!
//! A child makes it: it answers the kernel until the file is open, breaks the connection, and hands the file over. A page that is not
//! there then fails to be read, at once. Were there somebody to ask for it, a daemon that is killed meanwhile could not end, for the
//! thread that has asked waits for an answer, and keeps the connection open that would have to break. So the child's own thread that asks
//! has no descriptor of the connection.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, INodeNo, OpenFlags, ReplyAttr, ReplyEntry, ReplyOpen, Request, SessionACL,
};

use super::convert::{FOREVER, GENERATION, wire};
use crate::error::{Errno, Error, Result};
use crate::sys::child::{self, Child, Forked};
use crate::sys::private_fuse::{self, Private};
use crate::sys::spot::Spot;
use crate::sys::{daemon, data, descriptors, fuse_mount};
use crate::union::Union;
use crate::union::lower::Pages;

/// What the file system is called in the kernel's lists and in messages.
const SOURCE: &str = "haosfs-pages";
const ROOT: INodeNo = INodeNo(1);
const FILE: INodeNo = INodeNo(2);
const NAME: &str = "pages";
/// Bytes that a file may have: the kernel refuses longer ones (fs/fuse/fuse_i.h, `fuse_valid_size`).
const LONGEST: u64 = i64::MAX as u64;
/// Bytes of the file that each image has for itself.
const SHARE: u64 = 1 << 56;
/// How long what is more urgent goes before, unless something is read.
const LATER: Duration = Duration::from_millis(100);
/// How long the child may take; it needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pages that are being made.
#[derive(Debug)]
pub struct Begun {
    socket: UnixStream,
    child: Child,
}

/// Begins to make what [`give`] gives away. To be called before any thread is started; `None` where that is not possible.
#[must_use]
pub fn begin() -> Option<Begun> {
    let begun = UnixStream::pair().and_then(|(ours, theirs)| match child::fork_alone()? {
        Forked::Parent(child) => Ok(Begun { socket: ours, child }),
        Forked::Child => {
            drop(ours);
            // Whoever has started the daemon may wait for the end of what it says, and does not wait for this.
            let _as_far_as_possible = daemon::give_up_stdio();
            // Until it is let go on, or the parent has ended or has no use for it.
            let asked = (&theirs).read_exact(&mut [0]);
            let sent = asked.and_then(|()| make(&theirs));
            child::exit_now(i32::from(sent.is_err()))
        }
    });
    begun.inspect_err(|e| tracing::debug!("{SOURCE}: {e}")).ok()
}

/// Gives pages to the lowers of a union: with the first read, which `reads` tells, or a moment later, as who has mounted it waits for the
/// first names; or never, when `reads` ends before. Without them what is driven out of the caches is decompressed again.
pub(super) fn give(begun: Begun, union: &Union, reads: &Receiver<()>) {
    let is_time = reads.recv_timeout(LATER) != Err(RecvTimeoutError::Disconnected);
    let (device, file) = match begun.finish(is_time) {
        Ok((device, file)) => (Arc::new(device), Arc::new(file)),
        Err(e) => return tracing::debug!("{e}"),
    };
    let mut shares = (0..LONGEST / SHARE).map(|share| share * SHARE);
    union.give_pages(&mut || {
        let (device, file, base) = (Arc::clone(&device), Arc::clone(&file), shares.next()?);
        Some(Box::new(PageFile { device, file, base, page_size: fuse_mount::page_size() }))
    });
}

impl Begun {
    fn finish(self, is_wanted: bool) -> Result<(OwnedFd, OwnedFd)> {
        let failed = |e| Error::sys("make", SOURCE, e);
        let received = if is_wanted { self.receive() } else { Ok(Vec::new()) };
        self.child.end().map_err(failed)?;
        let mut received = received.map_err(failed)?.into_iter();
        match (received.next(), received.next()) {
            (Some(file), Some(device)) => Ok((device, file)),
            _ => Err(failed(io::ErrorKind::PermissionDenied.into())),
        }
    }

    fn receive(&self) -> io::Result<Vec<OwnedFd>> {
        self.socket.set_read_timeout(Some(PATIENCE))?;
        (&self.socket).write_all(&[0])?;
        let mut received = descriptors::receive(&self.socket)?;
        received.extend(descriptors::receive(&self.socket)?);
        Ok(received)
    }
}

/// Makes the file and sends it, and then the device; for a child that ends then.
fn make(to: &UnixStream) -> io::Result<()> {
    let Private { device, root } = private_fuse::build(SOURCE)?;
    let session = fuser::Session::from_fd(Empty, device.try_clone()?, SessionACL::All, fuser::Config::default())?;
    let sends = to.try_clone()?;
    let asking = std::thread::Builder::new().spawn(move || {
        if ask(&Arc::new(root), &sends).is_err() {
            // Nobody else would break the connection.
            child::exit_now(1);
        }
    })?;
    // Until it is cut off, whichever way that is told.
    let _ended = session.run();
    let _sent = asking.join();
    descriptors::send(to, &[device.as_fd()])
}

/// Opens the file, sends it and breaks the connection.
fn ask(root: &Arc<OwnedFd>, to: &UnixStream) -> io::Result<()> {
    descriptors::keep_alone(&[root.as_fd(), to.as_fd()])?;
    let raw = |e: Errno| io::Error::from_raw_os_error(e.0);
    let file = Spot::at(root, OsStr::new(NAME)).open(data::OFlags::RDONLY).map_err(raw)?;
    data::never_read_ahead(&file).map_err(raw)?;
    descriptors::send(to, &[file.as_fd()])?;
    private_fuse::cut_off(root)
}

/// One image's share of the file.
struct PageFile {
    device: Arc<OwnedFd>,
    file: Arc<OwnedFd>,
    base: u64,
    page_size: usize,
}

impl Pages for PageFile {
    fn room(&self) -> u64 {
        SHARE
    }

    fn read(&self, offset: u64, room: &mut [u8]) -> bool {
        matches!(data::read_at(&self.file, room, self.base.saturating_add(offset)), Ok(len) if len == room.len())
    }

    fn store(&self, offset: u64, bytes: &[u8]) -> bool {
        let rest = bytes.len() % self.page_size;
        let padded = if rest == 0 { Cow::Borrowed(bytes) } else { Cow::Owned([bytes, &vec![0; self.page_size - rest]].concat()) };
        let stored = private_fuse::store(&self.device, FILE.0, self.base.saturating_add(offset), &padded);
        stored.inspect_err(|e| tracing::debug!("{} bytes do not go into {SOURCE}: {e}", bytes.len())).is_ok()
    }
}

/// What the kernel is told: that there is a file.
struct Empty;

/// Readable by all: who built it may be known there by another number.
fn attributes(ino: INodeNo) -> FileAttr {
    let (kind, perm, size) = if ino == ROOT { (FileType::Directory, 0o555, 0) } else { (FileType::RegularFile, 0o444, LONGEST) };
    FileAttr {
        ino,
        size,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl fuser::Filesystem for Empty {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&FOREVER, &attributes(FILE), GENERATION);
        } else {
            reply.error(wire(Errno::ENOENT));
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &attributes(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }
}
