//! Faults in registered file mappings become poisoned pages instead of a dead process.
//!
//! Reading a page of a mapped file that the file no longer has, or that its disk refuses, raises SIGBUS in the reading thread
//! (mmap(2)). The handler here puts a page of zeros over the faulting one, notes it in the mapping's bitmap and returns, so
//! that the read goes on with zeros; whoever read then asks [`Registration::is_poisoned`] and discards what it got.
//!
//! A page stays poisoned until its mapping goes: bytes that were once refused are never believed again.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

use crate::error::{Error, Result};

/// How many mappings can be registered at once.
const SLOTS: usize = 1024;
/// One past the highest slot ever used, so that the handler scans no more than needed.
static HIGH_WATER: AtomicUsize = AtomicUsize::new(0);
static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
/// Bytes of a page, kept for the handler.
static PAGE: AtomicUsize = AtomicUsize::new(0);
/// What stood before us; [`restore_previous`] puts it back for faults that are not ours.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
/// 0 once the handler is installed, an errno where the kernel refused it, -1 before.
static INSTALLED: OnceLock<i32> = OnceLock::new();

const FREE: u64 = 0;

/// One registered mapping.
///
/// `sequence` is 0 for a free slot, odd while the other fields change and even when they are valid. The handler reads it
/// before and after, so it never acts on a half-written slot.
struct Slot {
    sequence: AtomicU64,
    generation: AtomicU64,
    start: AtomicUsize,
    end: AtomicUsize,
    bitmap: AtomicPtr<AtomicU64>,
    faults: AtomicU64,
    /// Set when the whole mapping was given up (see [`poison`]).
    given_up: AtomicI32,
}

impl Slot {
    const fn new() -> Self {
        Self {
            sequence: AtomicU64::new(FREE),
            generation: AtomicU64::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            bitmap: AtomicPtr::new(ptr::null_mut()),
            faults: AtomicU64::new(0),
            given_up: AtomicI32::new(0),
        }
    }

    /// The mapping's bounds and bitmap when `address` lies in it.
    fn covering(&self, address: usize) -> Option<(usize, usize, *mut AtomicU64)> {
        let before = self.sequence.load(Ordering::Acquire);
        if before == FREE || before % 2 == 1 {
            return None;
        }
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        let bitmap = self.bitmap.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let same = self.sequence.load(Ordering::Relaxed) == before;
        (same && (start..end).contains(&address)).then_some((start, end, bitmap))
    }
}

/// A mapping under the handler's protection; dropping it ends that. It must be dropped before the mapping goes.
#[derive(Debug)]
pub struct Registration {
    slot: usize,
    start: usize,
    end: usize,
    page: usize,
    bitmap: Bitmap,
}

/// One bit for every page of a mapping, in anonymous memory that costs nothing until a bit is set.
#[derive(Debug)]
struct Bitmap {
    words: ptr::NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: the words are atomics in memory that this value alone owns and unmaps.
unsafe impl Send for Bitmap {}
// SAFETY: as above; shared access is through atomics only.
unsafe impl Sync for Bitmap {}

impl Bitmap {
    fn new(pages: usize) -> Result<Self> {
        let bytes = pages.div_ceil(64).max(1).saturating_mul(size_of::<AtomicU64>());
        // SAFETY: a new private anonymous mapping that touches no other memory.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        let words = if at == libc::MAP_FAILED { None } else { ptr::NonNull::new(at.cast::<AtomicU64>()) };
        words
            .map(|words| Self { words, bytes })
            .ok_or_else(|| Error::sys("allocate the page bitmap of", "a mapping", io::Error::last_os_error()))
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: `words` points to `bytes` bytes of zero-initialised memory, aligned to a page, alive as long as `self`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.bytes / size_of::<AtomicU64>()) }
    }
}

impl Drop for Bitmap {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nobody holds a reference once `self` is dropped.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.bytes) };
    }
}

/// Protects the mapping that holds the `len` bytes at `start`. Whole pages are protected, so the mapping must own them.
///
/// Installs the process-wide SIGBUS handler at the first call.
///
/// # Errors
/// `Sys` when the handler cannot be installed or [`SLOTS`] mappings are registered already (`ENFILE`).
pub fn register(start: *const u8, len: usize) -> Result<Registration> {
    install()?;
    let page = PAGE.load(Ordering::Relaxed);
    let first = (start as usize) & !(page - 1);
    let end = (start as usize).saturating_add(len).checked_next_multiple_of(page).unwrap_or(usize::MAX);
    let bitmap = Bitmap::new((end - first) / page)?;
    for (index, slot) in TABLE.iter().enumerate() {
        if slot.sequence.compare_exchange(FREE, 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        slot.start.store(first, Ordering::Relaxed);
        slot.end.store(end, Ordering::Relaxed);
        slot.bitmap.store(bitmap.words.as_ptr(), Ordering::Relaxed);
        slot.faults.store(0, Ordering::Relaxed);
        slot.given_up.store(0, Ordering::Relaxed);
        HIGH_WATER.fetch_max(index + 1, Ordering::Release);
        let generation = slot.generation.fetch_add(1, Ordering::Relaxed) + 1;
        slot.sequence.store(generation * 2, Ordering::Release);
        return Ok(Registration { slot: index, start: first, end, page, bitmap });
    }
    Err(Error::sys("register", "a mapping", crate::error::Errno::ENFILE))
}

impl Registration {
    fn slot(&self) -> Option<&'static Slot> {
        TABLE.get(self.slot)
    }

    /// Pages of this mapping that faulted so far.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.slot().map_or(0, |slot| slot.faults.load(Ordering::Acquire))
    }

    /// True when a page under the `len` bytes at `at` has faulted, so that what was read there is zeros and not the file's.
    /// Call it after the bytes were used. Bytes outside of the mapping are never poisoned.
    #[must_use]
    pub fn is_poisoned(&self, at: *const u8, len: usize) -> bool {
        let Some(slot) = self.slot() else { return false };
        // The handler ran in a thread that read the bytes; its notes must be visible to whoever got bytes from there.
        fence(Ordering::Acquire);
        if slot.faults.load(Ordering::Acquire) == 0 {
            return false;
        }
        let (from, to) = (at as usize, (at as usize).saturating_add(len));
        if len == 0 || from < self.start || to > self.end {
            return false;
        }
        if slot.given_up.load(Ordering::Acquire) != 0 {
            return true;
        }
        let pages = (from - self.start) / self.page..=(to - 1 - self.start) / self.page;
        let words = self.bitmap.words();
        pages.into_iter().any(|page| words.get(page / 64).is_some_and(|w| w.load(Ordering::Acquire) & (1 << (page % 64)) != 0))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(slot) = self.slot() else { return };
        slot.sequence.store(1, Ordering::Release);
        fence(Ordering::Release);
        slot.start.store(0, Ordering::Relaxed);
        slot.end.store(0, Ordering::Relaxed);
        slot.bitmap.store(ptr::null_mut(), Ordering::Relaxed);
        slot.sequence.store(FREE, Ordering::Release);
    }
}

/// Reads one byte of every page under `bytes`, so that pages that cannot be read fault now and not in a later system call.
pub fn touch(bytes: &[u8]) {
    const STEP: usize = 4096;
    for byte in bytes.iter().step_by(STEP).chain(bytes.last()) {
        // SAFETY: a reference is valid for reads; volatile only so that the read is not optimised away.
        unsafe { ptr::read_volatile(byte) };
    }
}

fn install() -> Result<()> {
    let errno = *INSTALLED.get_or_init(|| {
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE.store(usize::try_from(page).unwrap_or(4096), Ordering::Relaxed);
        // SAFETY: all-zero bytes are a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_sigbus as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: both pointers are valid; the first call only reads the present action, so that it is kept before ours stands.
        unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) == 0 {
                let _ = PREVIOUS.set(previous);
                if libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) == 0 {
                    return 0;
                }
            }
        }
        io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
    });
    match errno {
        0 => Ok(()),
        errno => Err(Error::sys("install a handler for", "SIGBUS", crate::error::Errno(errno))),
    }
}

/// The signal handler. It allocates nothing, takes no lock and calls only what signal-safety(7) allows, plus mmap, which on
/// Linux is a bare system call.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO a valid siginfo; errno belongs to this thread.
    let (code, address, saved_errno) = unsafe { ((*info).si_code, (*info).si_addr() as usize, *libc::__errno_location()) };
    // Codes of 0 and below come from kill(2) and the like and name no address.
    let is_fault = code > 0;
    if !(is_fault && poison(address)) {
        restore_previous(signal, is_fault);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = saved_errno };
}

/// Puts zeros under `address` and notes it; false when no registered mapping has it.
///
/// When not even one page can be replaced (a process may hold only so many separate mappings), the whole mapping is given up.
fn poison(address: usize) -> bool {
    let used = HIGH_WATER.load(Ordering::Acquire);
    for slot in TABLE.iter().take(used) {
        let Some((start, end, bitmap)) = slot.covering(address) else { continue };
        let page = PAGE.load(Ordering::Relaxed);
        let at = address & !(page - 1);
        let index = (at - start) / page;
        // Noted before the zeros can be seen: another thread may read them at once, without a fault, and asks then.
        // SAFETY: the bitmap has a bit for every page from `start` to `end`. It lives while the slot is registered, and the slot
        // stays registered while this thread reads the mapping.
        unsafe { (*bitmap.add(index / 64)).fetch_or(1 << (index % 64), Ordering::AcqRel) };
        slot.faults.fetch_add(1, Ordering::AcqRel);
        if map_zeros(at, page) {
            return true;
        }
        slot.given_up.store(1, Ordering::Release);
        return map_zeros(start, end - start);
    }
    false
}

fn map_zeros(at: usize, len: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the range lies within a registered mapping, which is read-only and whose owner expects its pages to change; the
    // replacement is readable too, so every reference into it stays valid.
    let got = unsafe { libc::mmap(at as *mut libc::c_void, len, libc::PROT_READ, flags, -1, 0) };
    got != libc::MAP_FAILED
}

/// Puts back what stood before us. A fault then happens again at once and meets it; a sent signal is sent once more.
fn restore_previous(signal: libc::c_int, is_fault: bool) {
    // SAFETY: all-zero bytes are the default action; `PREVIOUS` is only read, which takes no lock once it is set, and it is set
    // before this handler is installed.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        let previous = PREVIOUS.get().unwrap_or(&default);
        libc::sigaction(signal, previous, ptr::null_mut());
        if !is_fault {
            libc::raise(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    const PAGES: usize = 4;

    fn mapped(file: &std::fs::File, len: usize) -> *mut u8 {
        // SAFETY: a fresh shared read-only mapping of an open file.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED);
        at.cast()
    }

    #[test]
    fn a_page_cut_off_reads_as_zeros_and_is_poisoned() {
        let file = tempfile::tempfile().unwrap();
        install().unwrap();
        let page = PAGE.load(Ordering::Relaxed);
        let len = PAGES * page;
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; len], 0).unwrap();
        let at = mapped(&file, len);
        let registration = register(at, len).unwrap();
        // SAFETY: the mapping has `len` readable bytes until it is unmapped below.
        let bytes = unsafe { std::slice::from_raw_parts(at, len) };
        touch(bytes);
        assert_eq!(registration.faults(), 0);
        file.set_len(2 * page as u64).unwrap();
        touch(bytes);
        assert_eq!(registration.faults(), 2);
        assert!(!registration.is_poisoned(at, 2 * page));
        assert!(registration.is_poisoned(at.wrapping_add(2 * page - 1), 2));
        assert!(registration.is_poisoned(at.wrapping_add(len - 1), 1));
        assert!(!registration.is_poisoned(at.wrapping_add(len - 1), 0));
        assert_eq!(bytes[0], 7);
        assert_eq!(bytes[len - 1], 0);
        drop(registration);
        // SAFETY: the mapping was made above, and `bytes` is not used any more.
        unsafe { libc::munmap(at.cast(), len) };
    }

    #[test]
    fn zeros_are_known_for_what_they_are_as_soon_as_any_thread_sees_them() {
        const ROUNDS: usize = 200;
        let file = tempfile::tempfile().unwrap();
        install().unwrap();
        let page = PAGE.load(Ordering::Relaxed);
        let len = PAGES * page;
        for _ in 0..ROUNDS {
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; len], 0).unwrap();
            let at = mapped(&file, len);
            let registration = register(at, len).unwrap();
            file.set_len(0).unwrap();
            // SAFETY: the mapping has `len` readable bytes until it is unmapped below.
            let bytes = unsafe { std::slice::from_raw_parts(at, len) };
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        for byte in bytes.iter().step_by(page) {
                            // SAFETY: a reference is valid for reads.
                            let seen = unsafe { ptr::read_volatile(byte) };
                            assert!(seen == 7 || registration.is_poisoned(byte, 1), "zeros are believed");
                        }
                    });
                }
            });
            drop(registration);
            // SAFETY: the mapping was made above, and `bytes` is not used any more.
            unsafe { libc::munmap(at.cast(), len) };
        }
    }

    #[test]
    fn a_fault_in_a_mapping_that_is_not_registered_still_kills() {
        const CHILD: &str = "HAOSFS_TEST_UNREGISTERED_FAULT";
        if std::env::var_os(CHILD).is_some() {
            let file = tempfile::tempfile().unwrap();
            file.set_len(1).unwrap();
            let at = mapped(&file, 1);
            let registration = register(at, 1).unwrap();
            drop(registration);
            file.set_len(0).unwrap();
            // SAFETY: the page is mapped, though its file is not long enough any more.
            touch(unsafe { std::slice::from_raw_parts(at, 1) });
            unreachable!("SIGBUS was swallowed");
        }
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sys::sigbus::tests::a_fault_in_a_mapping_that_is_not_registered_still_kills"])
            .env(CHILD, "1")
            .output()
            .unwrap()
            .status;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGBUS), "{status}");
    }
}
