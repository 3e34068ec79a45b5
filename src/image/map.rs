//! The memory map of an image, and the only way to its bytes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::cache::gives_way;
use super::mapped::Mapped;
use crate::error::{Damage, Errno, Error, Result};
use crate::sys::sigbus::{self, Registration};
use crate::types::{Announced, BeforeWait};

/// An image in memory. Offsets are relative to its beginning, which may lie anywhere in its file.
///
/// The file may shrink or fail below the map at any time. Bytes are therefore believed only when they were used first and the
/// pages below them are found unharmed afterwards; [`Map::with`] does both.
#[derive(Debug)]
pub struct Map {
    // Declared before `bytes`: the registration must end before the mapping does.
    registration: Registration,
    bytes: memmap2::Mmap,
    name: Arc<Path>,
    base: u64,
    mapped: Mapped,
    before_use: Announced,
}

/// Single entries of tables are wanted again and again.
const ENTRY: usize = 32;

impl Map {
    /// Maps the file or block device `path` from `offset` bytes to its end.
    ///
    /// # Errors
    /// `Sys` where the file cannot be opened or mapped; `Damage` where nothing lies at `offset`.
    pub fn open(path: &Path, offset: u64) -> Result<Self> {
        // Without O_NONBLOCK, a named pipe would be waited for.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let mut file = file.map_err(|e| Error::sys("open the image", path, e))?;
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::sys("open the image", path, Errno::EISDIR));
        }
        // The end found by seeking is the size for regular files and for block devices, whose st_size is 0.
        let size = file.seek(SeekFrom::End(0)).map_err(|e| Error::sys("find the size of", path, e))?;
        let name: Arc<Path> = path.into();
        let Some(len) = size.checked_sub(offset).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0) else {
            let why = format!("nothing is there, the file has {size} bytes");
            return Err(Damage { image: name, structure: "superblock", offset, why }.into());
        };
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: others may write to the file or cut it while it is mapped. All that is parsed is copied first and checked as
        // untrusted input, decoders check their bounds on every step, and lost pages are caught by the registration below.
        let bytes = unsafe { options.offset(offset).len(len).map(&file) }.map_err(|e| Error::sys("map", path, e))?;
        // A daemon that keeps its memory from being paged out (`sys::steadfast`) means its own, not images of any size. Failing
        // costs memory, nothing else.
        let _ = bytes.unlock();
        let registration = sigbus::register(bytes.as_ptr(), bytes.len())?;
        Ok(Self { registration, bytes, name, base: offset, mapped: Mapped::default(), before_use: Announced::default() })
    }

    /// Tells `listener` before each block that is used from now on; the first stays.
    pub fn announce(&self, listener: BeforeWait) {
        self.before_use.announce(listener);
    }

    /// Bytes from the beginning of the image to the end of its file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// False: an empty file is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The image file, as it was given.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Damage of the structure `structure` at `at` bytes from the beginning of the image.
    #[must_use]
    pub fn damage(&self, structure: &'static str, at: u64, why: impl Into<String>) -> Error {
        Damage { image: Arc::clone(&self.name), structure, offset: self.base.saturating_add(at), why: why.into() }.into()
    }

    /// Hands the `len` bytes at `at` to `f`, and its answer to the caller if the bytes were the file's.
    ///
    /// # Errors
    /// `Damage` where the bytes lie past the end of the image or cannot be read; else what `f` found.
    pub fn with<T>(&self, structure: &'static str, at: u64, len: usize, f: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let bytes = self.slice(structure, at, len)?;
        let answer = f(bytes);
        self.check(structure, at, bytes)?;
        if len > ENTRY {
            self.note(at, len);
        }
        answer
    }

    /// The `len` bytes at `at`, read once so that they are in memory, and found unharmed.
    ///
    /// # Errors
    /// As for [`Map::with`].
    pub fn stored(&self, structure: &'static str, at: u64, len: usize) -> Result<&[u8]> {
        let bytes = self.slice(structure, at, len)?;
        sigbus::touch(bytes);
        self.check(structure, at, bytes)?;
        self.note(at, len);
        Ok(bytes)
    }

    /// These bytes were used. Lets go of pages that were not used lately.
    fn note(&self, at: u64, len: usize) {
        for (from, len) in self.mapped.used(self.base.saturating_add(at), len as u64) {
            // What lies before the image is not mapped.
            let end = from.saturating_add(len).saturating_sub(self.base).min(self.len());
            let from = from.saturating_sub(self.base);
            let (Ok(from), Ok(len)) = (usize::try_from(from), usize::try_from(end.saturating_sub(from))) else { continue };
            // SAFETY: the map is never written, so a page that is let go comes back with the file's bytes, or with the zeros that
            // took its place where the file has none: what others read of it meanwhile does not change. Failing costs memory.
            let _ = unsafe { self.bytes.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, len) };
        }
    }

    /// Copies the `N` bytes at `at`.
    ///
    /// # Errors
    /// As for [`Map::with`].
    pub fn array<const N: usize>(&self, structure: &'static str, at: u64) -> Result<[u8; N]> {
        let mut copy = [0; N];
        self.with(structure, at, N, |bytes| {
            copy.copy_from_slice(bytes);
            Ok(())
        })?;
        Ok(copy)
    }

    /// Whether bytes handed out by this map are still there to be read; true for bytes from elsewhere.
    #[must_use]
    pub fn is_still_intact(&self, bytes: &[u8]) -> bool {
        sigbus::touch(bytes);
        let is_intact = self.is_intact(bytes);
        // Others may have had them let go meanwhile, and they have come back.
        if let Some(at) = bytes.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr()).filter(|at| *at < self.bytes.len()) {
            self.note(at as u64, bytes.len());
        }
        is_intact
    }

    /// For who has copied bytes of this map: they are still the image's.
    ///
    /// # Errors
    /// `Damage` where they are not.
    pub fn confirm(&self, structure: &'static str, bytes: &[u8]) -> Result<()> {
        if self.is_still_intact(bytes) {
            return Ok(());
        }
        let at = bytes.as_ptr().addr().saturating_sub(self.bytes.as_ptr().addr());
        Err(self.lost(structure, at as u64))
    }

    fn lost(&self, structure: &'static str, at: u64) -> Error {
        self.damage(structure, at, "cannot be read: the file was cut off or its device failed")
    }

    /// Whether none of these bytes, which were just used, had to be replaced by zeros.
    fn is_intact(&self, bytes: &[u8]) -> bool {
        !self.registration.is_poisoned(bytes.as_ptr(), bytes.len())
    }

    fn slice(&self, structure: &'static str, at: u64, len: usize) -> Result<&[u8]> {
        // It may have to be read from the disk first, and is mostly decompressed then.
        if len > ENTRY && !gives_way() {
            self.before_use.tell();
        }
        usize::try_from(at)
            .ok()
            .and_then(|from| self.bytes.get(from..from.checked_add(len)?))
            .ok_or_else(|| self.damage(structure, at, format!("{len} bytes do not fit in an image of {} bytes", self.len())))
    }

    fn check(&self, structure: &'static str, at: u64, bytes: &[u8]) -> Result<()> {
        if self.is_intact(bytes) {
            return Ok(());
        }
        Err(self.lost(structure, at))
    }
}
