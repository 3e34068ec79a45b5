//! Open files: data of a node wherever it is now. The backing is found per request, so after a copy-up no descriptor ever
//! sees the lower's data again.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::copy_up::Content;
use super::lower::{Bytes, Seek, Spare};
use super::node::{LowerAt, Node, NodeId};
use super::open::open_spot;
use super::{Backing, Durability, Union};
use crate::error::{Errno, Error, Result};
use crate::sys::data::{self, OFlags, Space};
use crate::sys::proc::process_of;
use crate::types::{Atime, Caller, Kind};

thread_local! {
    /// Bytes on their way from the upper to the asker; kept so that large reads do not map fresh memory each time.
    static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Who changes a file's data, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Who.
    pub caller: Caller,
    /// The writer lacks `CAP_FSETID`.
    pub kill_set_id: bool,
    /// The file was opened with `O_APPEND`.
    pub append: bool,
    /// Whoever writes does not look how many bytes were written, as the kernel where it writes pages back (fs/fuse/file.c,
    /// `fuse_writepage_end`): all of them, or an error.
    pub whole: bool,
}

impl Writer {
    const fn of(caller: Caller) -> Self {
        Self { caller, kill_set_id: caller.uid != 0, append: false, whole: false }
    }
}

impl Union {
    /// As [`Union::open`] for writing; with `append` only at the file's end.
    ///
    /// # Errors
    /// `EPERM` for what is immutable, or append-only and not to be appended to; and as for [`Union::open`].
    pub fn open_to_write(&self, id: NodeId, append: bool) -> Result<()> {
        self.check_writing(&self.table.get(id)?, append)?;
        self.open(id, true)
    }

    /// Opens a regular file. Nothing is copied up yet, not even for writing: only the first change does that, and a truncation
    /// that follows the opening copies no data.
    ///
    /// # Errors
    /// `EROFS` without an upper, `EISDIR`.
    pub fn open(&self, id: NodeId, write: bool) -> Result<()> {
        let node = self.table.get(id)?;
        if write {
            self.writable()?;
            if node.kind.is_dir() {
                return Err(Errno::EISDIR.into());
            }
        }
        self.open_upper(&node, write)
    }

    fn open_upper(&self, node: &Arc<Node>, write: bool) -> Result<()> {
        // Without privilege the mode decides who may open; a later change of it must not reach those who already have.
        if node.kind == Kind::File && !self.overrules_modes() {
            let _tree = self.tree.read();
            let state = node.state.read();
            if let Backing::Upper(spot) = self.backing(node, &state)? {
                self.data_fd(node, &spot, write).map_err(|e| Error::sys("open", self.name_of(&state), e))?;
            }
        }
        Ok(())
    }

    /// True where the mode of an upper file cannot keep the daemon from opening it.
    pub(super) fn overrules_modes(&self) -> bool {
        self.upper.as_ref().is_none_or(|upper| upper.privilege().dac_override)
    }

    /// True where whoever opens a file and reads it finds that in the access time (`strictatime`).
    #[must_use]
    pub fn stamps_every_reading(&self) -> bool {
        self.upper.as_ref().is_some_and(|upper| upper.atime() == Atime::Strict)
    }

    /// True where something may have a POSIX ACL, or be given one.
    #[must_use]
    pub fn has_acls(&self) -> bool {
        self.upper.is_some() || self.lowers.iter().any(|lower| lower.has_acls())
    }

    /// Reads up to `len` bytes from `offset` and hands them to `reply`; fewer only at the end of the file. What is given back is for
    /// [`Union::keep`].
    ///
    /// # Errors
    /// `EISDIR`, `EIO` from a damaged lower, and the upper's answers; `reply` is then not called.
    pub fn read<T>(&self, id: NodeId, offset: u64, len: usize, reply: impl FnOnce(&[u8]) -> T) -> Result<(T, Option<Spare>)> {
        let node = self.table.get(id)?;
        let upper = {
            let tree = self.tree.read();
            let state = node.state.read();
            match self.content(&node, &state)? {
                Backing::Upper(spot) => {
                    self.data_fd(&node, &spot, false).map_err(|e| Error::sys("open", self.name_of(&state), e))?
                }
                Backing::Lower(at) => {
                    // Whoever waits to move a directory must not wait for a slow disk, and have everybody else wait for him.
                    drop(tree);
                    let lower = self.lower(at)?;
                    let bytes = lower.read(at.id, offset, len)?;
                    if !lower.is_intact(&bytes) {
                        return Err(Errno::EIO.into());
                    }
                    // The reply may wait for pages that other readers have locked.
                    drop(state);
                    let replied = reply(&bytes);
                    let spare = if let Bytes::Part(spare, _) = bytes { Some(spare) } else { None };
                    return Ok((replied, spare));
                }
            }
        };
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            let room = buffer.get_mut(..len).unwrap_or_default();
            let got = data::read_at_telling(&upper, room, offset, || self.before_wait.tell())?;
            Ok((reply(room.get(..got).unwrap_or_default()), None))
        })
    }

    /// Has the lowers decode a piece each of what will be read next. False where there is nothing to be done at present.
    #[must_use]
    pub fn decode_ahead(&self) -> bool {
        // Each of them is asked: whoever was never asked does not watch what is read.
        self.lowers.iter().fold(false, |is_done, lower| lower.decode_ahead() | is_done)
    }

    /// Has a lower keep what it has decompressed for a read from `offset` on, as the next one will want another part of it.
    pub fn keep(&self, id: NodeId, offset: u64, spare: &Spare) {
        let Ok(node) = self.table.get(id) else { return };
        if node.kind != Kind::File {
            return;
        }
        // A file has lowers as long as its content is there.
        let at = node.state.read().lowers.last().copied();
        if let Some(at) = at
            && let Ok(lower) = self.lower(at)
        {
            lower.keep(at.id, offset, spare);
        }
    }

    /// The upper descriptor of a node that is to be changed, which is copied up first.
    fn fd_for_writing(&self, node: &Arc<Node>, writer: Writer) -> Result<Arc<OwnedFd>> {
        if node.kind != Kind::File {
            return Err(if node.kind.is_dir() { Errno::EISDIR } else { Errno::EINVAL }.into());
        }
        self.check_writing(node, writer.append)?;
        self.copy_up(node, Content::Kept)?;
        let _tree = self.tree.read();
        let state = node.state.read();
        let spot = open_spot(node, self.upper_spot(node, &state)?);
        if writer.kill_set_id || self.is_shown_as_anothers(&spot)? {
            self.kill_set_id(node, &spot, writer.caller)?;
        }
        self.data_fd(node, &spot, true).map_err(|e| Error::sys("open for writing", self.name_of(&state), e))
    }

    /// Writes at an offset; returns the bytes written.
    ///
    /// # Errors
    /// `EPERM` for what is immutable, or append-only and not appended to; `ENOSPC`, `EFBIG`, `EROFS` and the upper's other answers.
    pub fn write(&self, id: NodeId, offset: u64, bytes: &[u8], writer: Writer) -> Result<usize> {
        let node = self.table.get(id)?;
        let fd = self.fd_for_writing(&node, writer)?;
        self.check_place(&node, &fd, offset)?;
        let written = self.write_by(&node, &fd, || self.write_at(&fd, offset, bytes, writer.whole))?;
        self.write_out(&node, &fd, offset, written);
        Ok(written)
    }

    fn write_at(&self, fd: &OwnedFd, offset: u64, bytes: &[u8], whole: bool) -> Result<usize> {
        let mut written = self.removals.outlast(|| Ok(data::write_at(fd, bytes, offset)?))?;
        while let Some(rest) = bytes.get(written..).filter(|rest| whole && !rest.is_empty()) {
            let at = offset.checked_add(written as u64).ok_or(Errno::EFBIG)?;
            match self.removals.outlast(|| Ok(data::write_at(fd, rest, at)?))? {
                0 => return Err(Errno::EIO.into()),
                more => written += more,
            }
        }
        Ok(written)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for modes the upper's file system lacks.
    pub fn allocate(&self, id: NodeId, mode: u32, offset: u64, len: u64, caller: Caller) -> Result<()> {
        // Room may be had of what only grows (fs/open.c, `vfs_fallocate`).
        let append = mode & !libc::FALLOC_FL_KEEP_SIZE.cast_unsigned() == 0;
        let node = self.table.get(id)?;
        let fd = self.fd_for_writing(&node, Writer { append, ..Writer::of(caller) })?;
        node.open_file().into_iter().for_each(|mut file| file.run().written_over());
        self.write_by(&node, &fd, || self.removals.outlast(|| Ok(data::allocate(&fd, mode, offset, len)?)))
    }

    /// `SEEK_DATA` and `SEEK_HOLE`.
    ///
    /// # Errors
    /// `ENXIO` past the end, or where no data follows.
    pub fn seek(&self, id: NodeId, offset: u64, whence: Seek) -> Result<u64> {
        let node = self.table.get(id)?;
        let _tree = self.tree.read();
        let state = node.state.read();
        match self.content(&node, &state)? {
            Backing::Lower(at) => self.lower(at)?.seek(at.id, offset, whence),
            Backing::Upper(spot) => {
                let fd = self.data_fd(&node, &spot, false)?;
                Ok(match whence {
                    Seek::Data => data::seek_data(fd, offset)?,
                    Seek::Hole => data::seek_hole(fd, offset)?,
                })
            }
        }
    }

    /// copy_file_range(2); returns the bytes copied. Between upper files the kernel copies, with a clone where it can.
    ///
    /// # Errors
    /// `EIO` from a damaged lower, and the upper's answers.
    pub fn copy_range(&self, from: (NodeId, u64), to: (NodeId, u64), len: usize, caller: Caller) -> Result<usize> {
        let (source, written) = (self.table.get(from.0)?, self.table.get(to.0)?);
        let target = self.fd_for_writing(&written, Writer::of(caller))?;
        self.check_place(&written, &target, to.1)?;
        written.open_file().into_iter().for_each(|mut file| file.run().written_over());
        let fd = {
            let _tree = self.tree.read();
            let state = source.state.read();
            match self.content(&source, &state)? {
                Backing::Upper(spot) => Ok(self.data_fd(&source, &spot, false)?),
                Backing::Lower(at) => Err(at),
            }
        };
        self.write_by(&written, &target, || match fd {
            Ok(fd) => self.removals.outlast(|| Ok(data::copy_range(&fd, from.1, &target, to.1, len)?)),
            Err(at) => self.copy_out(at, from.1, len.min(1 << 20), &|bytes| {
                self.removals.outlast(|| Ok(data::write_at(&target, bytes, to.1)?))
            }),
        })
    }

    /// Writes bytes of a lower, none where they are not what it holds. An image that is cut off while they are written would have
    /// zeros in their place, and nobody could tell afterwards: so mapped ones are copied, and asked after, before.
    fn copy_out(&self, at: LowerAt, offset: u64, len: usize, write: &dyn Fn(&[u8]) -> Result<usize>) -> Result<usize> {
        let lower = self.lower(at)?;
        let bytes = lower.read(at.id, offset, len)?;
        let Bytes::Mapped(mapped) = &bytes else { return write(&bytes) };
        BUFFER.with_borrow_mut(|copy| {
            copy.clear();
            copy.extend_from_slice(mapped);
            if lower.is_intact(&bytes) { write(copy) } else { Err(Errno::EIO.into()) }
        })
    }

    /// fsync(2) and fdatasync(2), of files and of directories. What only a lower holds is durable already.
    ///
    /// What a copy-up has put in place must be durable with what was written after it, but a file system counts a new name among what
    /// fdatasync(2) may leave out (fs/ext4/fsync.c, `i_datasync_tid`): so the first one that a file's node sees is fsync(2).
    ///
    /// # Errors
    /// `EIO`, `ENOSPC` and whatever else the disk answers where earlier writes could not reach it, once for each process; `asker` is a
    /// thread of it.
    pub fn fsync(&self, id: NodeId, data_only: bool, asker: u32) -> Result<()> {
        if self.options.fsync == Durability::Volatile {
            return Ok(());
        }
        let node = self.table.get(id)?;
        let fd = {
            let _tree = self.tree.read();
            let state = node.state.read();
            match (self.backing(&node, &state)?, node.kind) {
                (Backing::Lower(_), _) => return Ok(()),
                (Backing::Upper(spot), Kind::File) => match self.data_fd(&node, &spot, false) {
                    // Whoever may only write wants it durable, too.
                    Err(Errno::EACCES) => self.data_fd(&node, &spot, true)?,
                    opened => opened?,
                },
                (Backing::Upper(spot), Kind::Dir) => Arc::new(spot.open(OFlags::RDONLY | OFlags::DIRECTORY)?),
                (Backing::Upper(_), _) => return Ok(()),
            }
        };
        if node.kind.is_dir() {
            return self.sync_dir(&node, &fd, data_only);
        }
        let told = self.lost.answer(&node, self.sync_file(&node, &fd, data_only), || process_of(asker));
        told.map_err(|e| Error::sys("synchronise", self.name_of(&node.state.read()), e))
    }

    fn sync_file(&self, node: &Node, fd: &OwnedFd, data_only: bool) -> Result<(), Errno> {
        let unheard = node.open_file().and_then(|mut file| file.synchronise());
        sync_data(node, fd, data_only)?;
        match (unheard, &self.upper) {
            (Some(unheard), Some(upper)) => upper.syncs().outcome(&unheard),
            _ => Ok(()),
        }
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn readlink(&self, id: NodeId) -> Result<std::ffi::OsString> {
        let node = self.table.get(id)?;
        let _tree = self.tree.read();
        let state = node.state.read();
        match self.backing(&node, &state)? {
            Backing::Upper(spot) => Ok(spot.readlink()?),
            Backing::Lower(at) => self.lower(at)?.readlink(at.id),
        }
    }

    /// statvfs(3): the upper's space, or the lowers' sizes with nothing free.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn space(&self) -> Result<Space> {
        if let Some(upper) = &self.upper {
            return Ok(data::space(upper.root())?);
        }
        let unit = 4096;
        let blocks = self.lowers.iter().map(|lower| lower.space().bytes.div_ceil(unit)).fold(0, u64::saturating_add);
        let files = self.lowers.iter().map(|lower| lower.space().inodes).fold(0, u64::saturating_add);
        Ok(Space { bsize: unit, frsize: unit, blocks, files, namemax: 255, ..Space::default() })
    }
}

fn sync_data(node: &Node, fd: &OwnedFd, data_only: bool) -> Result<(), Errno> {
    if node.synced.load(Ordering::Acquire) {
        return data::sync(fd, data_only);
    }
    // Its data may just be coming.
    let _no_copy_up = node.copy_up.lock();
    data::sync(fd, false)?;
    node.synced.store(true, Ordering::Release);
    Ok(())
}
