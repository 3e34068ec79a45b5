//! Whether a root has a program to begin with.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::error::{Error, Result};

/// Where one is looked for, in this order.
const PLACES: [&str; 6] = ["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init", "/bin/init", "/init"];

/// Any of the bits that let somebody execute a file.
const EXECUTABLE: u32 = 0o111;

/// Finds the first program of `root`, the one that is `asked` for or else in the usual places.
///
/// # Errors
/// [`Error::Refused`] where there is none that could be executed.
pub fn find(root: &Path, asked: Option<&Path>) -> Result<PathBuf> {
    let open = openat2(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty());
    let root = match open {
        Ok(root) => root,
        // Before Linux 5.6 whoever executes it finds out.
        Err(rustix::io::Errno::NOSYS) => return Ok(asked.unwrap_or(Path::new("/sbin/init")).to_owned()),
        Err(e) => return Err(Error::sys("open", root, e)),
    };
    let places: Vec<&Path> = asked.map_or_else(|| PLACES.iter().map(Path::new).collect(), |asked| vec![asked]);
    let mut last = None;
    for place in &places {
        match judge(&root, place) {
            Ok(()) => return Ok((*place).to_owned()),
            Err(Some(why)) => last = Some(format!("{}: {why}", place.display())),
            Err(None) => {}
        }
    }
    let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Err(Error::Refused(last.map_or_else(
        || format!("it has no init: looked for {}", looked.join(", ")),
        |why| format!("it has no init that could be executed: {why}"),
    )))
}

/// `Err(None)` where nothing is there.
fn judge(root: &OwnedFd, place: &Path) -> std::result::Result<(), Option<String>> {
    let told = |e: io::Error| Some(e.to_string());
    let mut file = match open(root, place) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(None),
        Err(e) => return Err(told(e)),
    };
    let found = file.metadata().map_err(told)?;
    if !found.is_file() {
        return Err(Some("it is no file".to_owned()));
    }
    if found.mode() & EXECUTABLE == 0 {
        return Err(Some("it is not executable".to_owned()));
    }
    let mut start = Vec::new();
    (&mut file).take(START).read_to_end(&mut start).map_err(told)?;
    match needs(&start, own_machine())? {
        Some(program) if open(root, &program).is_err() => {
            Err(Some(format!("it needs {}, which is not there", program.display())))
        }
        _ => Ok(()),
    }
}

/// Links are followed as they will be once this is the root.
fn open(root: &OwnedFd, path: &Path) -> io::Result<File> {
    // Something else than a file, such as a named pipe, would be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?))
}

/// So much of a program is looked at, in bytes.
const START: u64 = 4096;

/// `e_machine` (elf(5)) of programs that run on this machine.
const MACHINES: [(&str, &[u16]); 5] =
    [("x86_64", &[62, 3]), ("aarch64", &[183, 40]), ("i686", &[3]), ("armv7l", &[40]), ("riscv64", &[243])];

fn own_machine() -> Option<&'static [u16]> {
    let name = rustix::system::uname();
    MACHINES.iter().find(|(machine, _)| machine.as_bytes() == name.machine().to_bytes()).map(|(_, known)| *known)
}

/// The program that another needs to be executed: its interpreter, or the dynamic linker.
fn needs(start: &[u8], machine: Option<&[u16]>) -> std::result::Result<Option<PathBuf>, Option<String>> {
    let refused = |why: &str| Err(Some(why.to_owned()));
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default().trim_ascii();
        let program = line.split(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
        return Ok(Some(std::ffi::OsStr::from_bytes(program).into()));
    }
    if !start.starts_with(b"\x7fELF") {
        return refused("it is no program");
    }
    let header = Elf { bytes: start, wide: start.get(4) == Some(&2), big: start.get(5) == Some(&2) };
    let Some(found) = header.number(18, 2) else { return refused("it is torn") };
    if machine.is_some_and(|known| !known.iter().any(|known| u64::from(*known) == found)) {
        return refused("it is a program for another machine");
    }
    Ok(header.interpreter().map(|path| std::ffi::OsStr::from_bytes(path).into()))
}

/// The beginning of a program (elf(5)).
struct Elf<'a> {
    bytes: &'a [u8],
    wide: bool,
    big: bool,
}

impl<'a> Elf<'a> {
    fn number(&self, at: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        let joined = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.big { bytes.iter().fold(0, joined) } else { bytes.iter().rev().fold(0, joined) })
    }

    /// Without one it is a static program; one that does not lie at the beginning is not seen.
    fn interpreter(&self) -> Option<&'a [u8]> {
        /// `PT_INTERP`.
        const INTERPRETER: u64 = 3;
        let word = if self.wide { 8 } else { 4 };
        let (table, size, count) = if self.wide { (self.number(32, 8)?, 54, 56) } else { (self.number(28, 4)?, 42, 44) };
        let (size, count) = (self.number(size, 2)?, self.number(count, 2)?);
        let entry = (0..count)
            .map_while(|n| table.checked_add(n.checked_mul(size)?))
            .find(|at| self.number(*at, 4) == Some(INTERPRETER))?;
        let (offset, length) = if self.wide { (8, 32) } else { (4, 16) };
        let offset = usize::try_from(self.number(entry.checked_add(offset)?, word)?).ok()?;
        let length = usize::try_from(self.number(entry.checked_add(length)?, word)?).ok()?;
        let path = self.bytes.get(offset..offset.checked_add(length)?)?;
        path.split(|&b| b == 0).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_interpreter_is_found() {
        let own = fs::read("/bin/sh").unwrap();
        let found = needs(&own[..4096], own_machine()).unwrap().unwrap();
        assert!(found.exists() && found.to_str().unwrap().contains("ld"), "{found:?}");
        assert_eq!(needs(b"#!/bin/sh -e\nx", None).unwrap(), Some("/bin/sh".into()));
        assert_eq!(needs(&own[..4096], Some(&[9999])).unwrap_err().unwrap(), "it is a program for another machine");
        assert_eq!(needs(b"", None).unwrap_err().unwrap(), "it is no program");
        assert_eq!(needs(b"\x7fELF", None).unwrap_err().unwrap(), "it is torn");
        // Whatever it says of itself, it is not believed.
        for cut in 0..200 {
            let mut odd = own[..4096].to_vec();
            odd[cut] = 0xff;
            let _any_answer = needs(&odd, None);
        }
    }

    #[test]
    fn links_lead_within_the_root() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let words = |asked: Option<&str>| find(root, asked.map(Path::new)).unwrap_err().to_string();
        assert!(words(None).contains("it has no init: looked for /sbin/init, "));
        fs::create_dir_all(root.join("sbin")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        symlink("/bin/real", root.join("sbin/init")).unwrap();
        assert!(words(None).contains("it has no init"));
        fs::write(root.join("bin/real"), "#!/bin/none\n").unwrap();
        assert!(words(None).contains("/sbin/init: it is not executable"));
        fs::set_permissions(root.join("bin/real"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(words(None).contains("it needs /bin/none, which is not there"));
        fs::write(root.join("bin/none"), "x").unwrap();
        assert_eq!(find(root, None).unwrap(), Path::new("/sbin/init"));
        assert!(words(Some("/bin")).contains("it is no file"));
        fs::write(root.join("init"), "").unwrap();
        fs::set_permissions(root.join("init"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(words(Some("/init")).contains("it is no program"));
    }
}
