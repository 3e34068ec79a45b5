//! The operations, in the protocol's order. Nothing is decided here.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, FopenFlags, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner,
    OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::asked::Asked;
use super::burst::Bursts;
use super::control::Question;
use super::convert::{self, FOREVER, GENERATION, caller, errno, node, set_time, wire};
use super::flags;
use super::foreseen::Foreseen;
use super::page::Page;
use super::refused_pages::RefusedPages;
use super::reply::{attributes, empty, entry, named, sized, written};
use super::requests::{Operation, Requests};
use super::turns::Turns;
use crate::error::{Errno, Error, Result};
use crate::types::Kind;
use crate::union::create::New;
use crate::union::file::Writer;
use crate::union::lower::Seek;
use crate::union::{SetAttr, Union};

/// Largest write request, in bytes.
const MAX_WRITE: u32 = 1 << 20;
/// Requests that the kernel may have waiting in the background (read-ahead, writeback).
const MAX_BACKGROUND: u16 = 64;
/// The handle of every open file: requests name the node, and the node knows its data.
const NO_HANDLE: FileHandle = FileHandle(0);

/// What we want of the kernel where it has it. Not `FUSE_ATOMIC_O_TRUNC`: with it the open itself truncates, before the kernel
/// has found that the file is a running program (fs/namei.c, `do_open`). Not `FUSE_ASYNC_DIO`: a buffered read beside such a
/// write may keep the old page. File handles are refused rather than stale once the kernel has forgotten an inode. With
/// `FUSE_POSIX_ACL` whoever is not the owner has each inode asked for its ACL (fs/namei.c, `check_acl`).
const WANTED: [InitFlags; 8] = [
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_NO_EXPORT_SUPPORT,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// A union behind the FUSE protocol.
pub(super) struct Filesystem {
    union: Arc<Union>,
    requests: Requests,
    bursts: Arc<Bursts>,
    turns: Arc<Turns>,
    first_read: Sender<()>,
    was_read: AtomicBool,
    handles: Handles,
    foreseen: Foreseen,
    refused: Arc<RefusedPages>,
}

/// What the kernel asks to be opened. What it need not ask for costs no request.
#[derive(Clone, Copy, Debug)]
struct Handles {
    files: bool,
    dirs: bool,
}

impl Filesystem {
    pub(super) fn new(
        union: Arc<Union>,
        bursts: Arc<Bursts>,
        turns: Arc<Turns>,
        first_read: Sender<()>,
        refused: Arc<RefusedPages>,
    ) -> Self {
        let (requests, handles) = (Requests::default(), Handles { files: true, dirs: true });
        let (foreseen, was_read) = (Foreseen::default(), AtomicBool::new(false));
        Self { union, requests, bursts, turns, first_read, was_read, handles, foreseen, refused }
    }

    /// A request has come, and is answered before what this returns is dropped.
    fn begin(&self, req: &Request, operation: Operation) -> Asked<'_> {
        self.begin_of(req, operation, 0)
    }

    /// As `begin`, of so many bytes of data.
    fn begin_of(&self, req: &Request, operation: Operation, bytes: usize) -> Asked<'_> {
        self.bursts.notice(bytes);
        self.begin_noticed(req, operation)
    }

    fn begin_noticed(&self, req: &Request, operation: Operation) -> Asked<'_> {
        self.requests.count(operation);
        self.foreseen.notice(operation);
        Asked::new(&self.union, self.turns.begin(req.pid()))
    }

    /// Who has looked for an absent name may be about to give it. Where he has to wait for the processor, he should have it now.
    fn anticipate(&self, asked: &Asked<'_>, parent: INodeNo, name: &OsStr) {
        if !self.turns.are_beside() {
            let made_here = asked.ask(|union| Ok(union.made_here(node(parent)))).ok().flatten();
            asked.while_idle(made_here, |union, dir| union.anticipate(&dir, name));
        }
    }

    /// Replies to who has changed a directory, if he has, and takes its attributes, for he is about to ask for them.
    fn answer_change<T>(&self, asked: &Asked<'_>, dir: INodeNo, answer: Result<T>, reply: impl FnOnce(Result<T>)) {
        let changed = answer.is_ok().then_some(node(dir));
        if let Err(e) = &answer {
            self.union.notice_failure(e);
        }
        reply(answer);
        let before = self.foreseen.before();
        asked.while_idle(changed, |union, dir| {
            if let Ok(attr) = union.getattr(dir) {
                self.foreseen.keep(before, dir, attr);
            }
        });
    }

    /// What is read from pages that the kernel has kept is not asked for, and would get no stamp.
    fn open_flags(&self) -> FopenFlags {
        if self.union.stamps_every_reading() { FopenFlags::empty() } else { FopenFlags::FOPEN_KEEP_CACHE }
    }

    fn notice_read(&self) {
        if !self.was_read.load(Ordering::Relaxed) && !self.was_read.swap(true, Ordering::Relaxed) {
            // Nobody may wait for it any more.
            let _told = self.first_read.send(());
        }
    }
}

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let acls = self.union.has_acls();
        for flag in WANTED.into_iter().filter(|flag| acls || *flag != InitFlags::FUSE_POSIX_ACL) {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!("this kernel's FUSE lacks {flag:?}");
            }
        }
        let offered = config.capabilities();
        // A file that was opened without asking keeps its pages, so that reading it again leaves no stamp; and it can be opened to
        // write though it must not be written.
        let unasked = offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.handles.files = !unasked || self.union.stamps_every_reading() || self.union.asks_before_opening();
        self.handles.dirs = !offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        // The nearest possible value is what a refusal leaves in force.
        let _write = config.set_max_write(MAX_WRITE);
        let _background = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let asked = self.begin(req, Operation::Lookup);
        match asked.ask(|union| union.lookup(node(parent), name)) {
            // An entry without a node: the kernel remembers that the name is absent.
            Err(Error::Expected(Errno::ENOENT)) => {
                reply.entry(&FOREVER, &convert::absent(), GENERATION);
                self.anticipate(&asked, parent, name);
            }
            answer => entry("lookup", answer, reply),
        }
    }

    /// Also each of those that the kernel sends at a time, which may be thousands.
    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.requests.count(Operation::Forget);
        self.foreseen.notice_change(node(ino));
        Asked::new(&self.union, self.turns.begin_part()).tell(|union| union.forget(node(ino), nlookup));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let asked = self.begin(req, Operation::Getattr);
        let answer = self.foreseen.of(node(ino)).map_or_else(|| asked.ask(|union| union.getattr(node(ino))), Ok);
        attributes("getattr", answer, reply);
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let perm = mode.map(|mode| mode & 0o7777);
        let set = SetAttr { perm, uid, gid, size, atime: set_time(atime), mtime: set_time(mtime) };
        let asked = self.begin(req, Operation::Setattr);
        self.foreseen.notice_change(node(ino));
        attributes("setattr", asked.ask(|union| union.setattr(node(ino), &set, caller(req))), reply);
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.begin(req, Operation::Readlink).ask(|union| union.readlink(node(ino))) {
            Ok(target) => reply.data(target.as_encoded_bytes()),
            Err(e) => reply.error(errno("readlink", &e)),
        }
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let Some(kind) = Kind::from_mode(mode) else { return reply.error(wire(Errno::EINVAL)) };
        let new = New { rdev: convert::decode_dev(rdev), ..New::of(name, kind, mode & 0o7777, umask) };
        // Where files are opened without asking, this is how those to be written are made.
        let open = kind == Kind::File && !self.handles.files;
        let asked = self.begin(req, Operation::Mknod);
        let answer = asked.ask(|union| union.create(node(parent), &new, caller(req), open));
        self.answer_change(&asked, parent, answer, |answer| entry("mknod", answer, reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let new = New::of(name, Kind::Dir, mode & 0o7777, umask);
        let asked = self.begin(req, Operation::Mkdir);
        let answer = asked.ask(|union| union.create(node(parent), &new, caller(req), false));
        self.answer_change(&asked, parent, answer, |answer| entry("mkdir", answer, reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let asked = self.begin(req, Operation::Unlink);
        let answer = asked.ask(|union| union.unlink(node(parent), name));
        self.answer_change(&asked, parent, answer, |answer| empty("unlink", answer, reply));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let asked = self.begin(req, Operation::Rmdir);
        let answer = asked.ask(|union| union.rmdir(node(parent), name));
        self.answer_change(&asked, parent, answer, |answer| empty("rmdir", answer, reply));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let new = New { target: target.as_os_str(), ..New::of(name, Kind::Symlink, 0o777, 0) };
        let asked = self.begin(req, Operation::Symlink);
        let answer = asked.ask(|union| union.create(node(parent), &new, caller(req), false));
        self.answer_change(&asked, parent, answer, |answer| entry("symlink", answer, reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(how) = convert::rename(flags) else { return reply.error(wire(Errno::EINVAL)) };
        let renamed = self.begin(req, Operation::Rename).ask(|union| {
            let renamed = union.rename((node(parent), name), (node(newparent), newname), how);
            renamed.inspect_err(|e| union.notice_failure(e))
        });
        empty("rename", renamed, reply);
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let linked = self
            .begin(req, Operation::Link)
            .ask(|union| union.link(node(ino), node(newparent), newname).inspect_err(|e| union.notice_failure(e)));
        entry("link", linked, reply);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if !self.handles.files {
            self.requests.count(Operation::Open);
            return reply.error(wire(Errno::ENOSYS));
        }
        let append = flags.0 & libc::O_APPEND != 0;
        let asked = self.begin(req, Operation::Open);
        let answer = asked.ask(|union| match flags.acc_mode() {
            OpenAccMode::O_RDONLY => union.open(node(ino), false),
            _ => union.open_to_write(node(ino), append),
        });
        match answer {
            Ok(()) => reply.opened(NO_HANDLE, self.open_flags()),
            Err(e) => reply.error(errno("open", &e)),
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.notice_read();
        let mut reply = Some(reply);
        self.bursts.notice_read(size as usize);
        let asked = self.begin_noticed(req, Operation::Read);
        let answer = asked.ask(|union| {
            union.read(node(ino), offset, size as usize, |bytes| {
                if let Some(reply) = reply.take() {
                    reply.data(bytes);
                }
            })
        });
        match (answer, reply) {
            (Err(e), Some(reply)) => reply.error(errno("read", &e)),
            // The asker has his answer and does not wait.
            (Ok(((), Some(spare))), _) => asked.afterwards(|union| union.keep(node(ino), offset, &spare)),
            _ => {}
        }
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill_set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let whole = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        // Where openings are asked for, those that may not write were refused. A page of a mapping adds nothing at the end, whatever the
        // file was opened for.
        let append = !whole && (self.handles.files || flags.0 & libc::O_APPEND != 0);
        let writer = Writer { caller: caller(req), kill_set_id, append, whole };
        let asked = self.begin_of(req, Operation::Write, data.len());
        let answer = asked.ask(|union| union.write(node(ino), offset, data, writer));
        let is_refused_page = whole && answer.as_ref().is_err_and(|e| e.errno() == Errno::EPERM);
        written("write", answer, reply);
        // Before the answer the kernel would wait for the page, and so for this worker.
        if is_refused_page {
            self.refused.note(node(ino), offset..offset.saturating_add(data.len() as u64));
        }
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.requests.count(Operation::Release);
        reply.ok();
    }

    /// Nothing waits to be written; after this answer the kernel does not ask again.
    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        self.requests.count(Operation::Flush);
        reply.error(wire(Errno::ENOSYS));
    }

    fn fsync(&self, req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        empty(
            "fsync",
            self.begin(req, Operation::Fsync).ask_for_long(|union| union.fsync(node(ino), datasync, req.pid())),
            reply,
        );
    }

    /// Positions in listings need no handle, and what the kernel keeps of a listing it drops itself when the directory changes.
    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.requests.count(Operation::Opendir);
        if self.handles.dirs {
            reply.opened(NO_HANDLE, FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
        } else {
            reply.error(wire(Errno::ENOSYS));
        }
    }

    fn readdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let asked = self.begin(req, Operation::Readdir);
        let answer = asked.ask(|union| {
            union.read_dir(node(ino), offset, |_, entry, next| {
                !reply.add(INodeNo(entry.ino), next, convert::kind(entry.kind), &entry.name)
            })
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno("readdir", &e)),
        }
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let asked = self.begin(req, Operation::Readdirplus);
        let mut page = Page::new(reply);
        let answer = asked.ask(|union| union.read_dir(node(ino), offset, |dir, entry, next| page.add(union, dir, entry, next)));
        let dirs = page.end(answer);
        // Who walks a tree comes to the first of its directories next.
        asked.while_idle(dirs, |union, dir| union.prepare_listing(&dir));
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.requests.count(Operation::Releasedir);
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        empty(
            "fsyncdir",
            self.begin(req, Operation::Fsyncdir).ask_for_long(|union| union.fsync(node(ino), datasync, req.pid())),
            reply,
        );
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        match self.begin(req, Operation::Statfs).ask(|union| union.space()) {
            Ok(s) => {
                reply.statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, small(s.bsize), small(s.namemax), small(s.frsize));
            }
            Err(e) => reply.error(errno("statfs", &e)),
        }
    }

    fn setxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, _position: u32, reply: ReplyEmpty) {
        let flags = flags.cast_unsigned();
        empty(
            "setxattr",
            self.begin(req, Operation::Setxattr).ask(|union| union.set_xattr(node(ino), name, value, flags, caller(req))),
            reply,
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        sized("getxattr", self.begin(req, Operation::Getxattr).ask(|union| union.xattr(node(ino), name)), size, reply);
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let asked = self.begin(req, Operation::Listxattr);
        let names = asked.ask(|union| union.xattr_names(node(ino), caller(req))).map(|names| convert::name_list(&names));
        sized("listxattr", names, size, reply);
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(
            "removexattr",
            self.begin(req, Operation::Removexattr).ask(|union| union.remove_xattr(node(ino), name, caller(req))),
            reply,
        );
    }

    /// What is made and opened at one time is closed by a request, too. Where the kernel is told to make it first, by MKNOD, it opens
    /// it without asking, and closes it likewise (fs/fuse/dir.c, `fuse_atomic_open`).
    fn create(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _flags: i32, reply: ReplyCreate) {
        if !self.handles.files {
            self.requests.count(Operation::Create);
            return reply.error(wire(Errno::ENOSYS));
        }
        let new = New::of(name, Kind::File, mode & 0o7777, umask);
        let asked = self.begin(req, Operation::Create);
        let answer = asked.ask(|union| union.create(node(parent), &new, caller(req), true));
        self.answer_change(&asked, parent, answer, |answer| match answer {
            Ok((node, found)) => {
                reply.created(&FOREVER, &named(&node, &found), GENERATION, NO_HANDLE, self.open_flags());
            }
            Err(e) => reply.error(errno("create", &e)),
        });
    }

    fn fallocate(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, length: u64, mode: i32, reply: ReplyEmpty) {
        let mode = mode.cast_unsigned();
        empty(
            "fallocate",
            self.begin(req, Operation::Fallocate)
                .ask_for_long(|union| union.allocate(node(ino), mode, offset, length, caller(req))),
            reply,
        );
    }

    fn lseek(&self, req: &Request, ino: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let seek = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(wire(Errno::EINVAL)),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(wire(Errno::ENXIO)) };
        match self.begin(req, Operation::Lseek).ask(|union| union.seek(node(ino), offset, seek)) {
            Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Err(e) => reply.error(errno("lseek", &e)),
        }
    }

    /// lsattr(1) and chattr(1): the flags that the union keeps, others of the upper are no business of the union's users. And what
    /// haosfs itself asks.
    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        let asked = self.begin(req, Operation::Ioctl);
        let answer = match Question::read(cmd) {
            Some(question) => asked.ask_for_long(|union| question.answer(union, &self.requests, req.uid())),
            None => flags::Request::read(cmd, in_data).map_err(Error::from).and_then(|request| {
                asked.ask(|union| match request {
                    flags::Request::Tell(form) => Ok(form.encode(union.protection(node(ino))?)),
                    flags::Request::Set(_) if !flags::may_set(req.uid()) => Err(Errno::EPERM.into()),
                    flags::Request::Set(protection) => union.protect(node(ino), protection).map(|()| Vec::new()),
                })
            }),
        };
        match answer {
            Ok(bytes) if bytes.len() <= out_size as usize => reply.ioctl(0, &bytes),
            Ok(_) => reply.error(wire(Errno::EINVAL)),
            Err(e) => reply.error(errno("ioctl", &e)),
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(i32::MAX as usize & !0xfff);
        let (from, to) = ((node(ino_in), offset_in), (node(ino_out), offset_out));
        written(
            "copy_file_range",
            self.begin(req, Operation::CopyFileRange).ask_for_long(|union| union.copy_range(from, to, len, caller(req))),
            reply,
        );
    }
}
