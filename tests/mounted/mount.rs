//! One mount, owned.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

/// A mount that ends when this is dropped. Loop devices that mount(8) set up are detached by the kernel with it.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Runs `mount ARGS... SOURCE AT`.
    pub fn new<S: AsRef<OsStr>>(args: &[S], source: &Path, at: &Path) -> Self {
        run(Command::new("mount").args(args).arg(source).arg(at));
        Self { at: at.to_path_buf() }
    }

    /// As [`Mount::new`], for layers of a union that has just been unmounted: a mount name space that somebody else made meanwhile
    /// keeps that alive, and its upper in use, until it ends.
    pub fn patiently<S: AsRef<OsStr>>(args: &[S], source: &Path, at: &Path) -> Self {
        for _ in 0..100 {
            let output = Command::new("mount").args(args).arg(source).arg(at).output().unwrap();
            if output.status.success() {
                return Self::adopt(at);
            }
            if !String::from_utf8_lossy(&output.stderr).contains("already mounted") {
                break;
            }
            sleep(Duration::from_millis(100));
        }
        Self::new(args, source, at)
    }

    /// Takes over a mount that exists.
    pub fn adopt(at: &Path) -> Self {
        Self { at: at.to_path_buf() }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mount {
    /// Waits up to five seconds for the last user to go, then unmounts lazily and says so.
    fn drop(&mut self) {
        for _ in 0..100 {
            match unmount(&self.at, UnmountFlags::NOFOLLOW) {
                Err(rustix::io::Errno::BUSY) => sleep(Duration::from_millis(50)),
                Ok(()) | Err(rustix::io::Errno::INVAL) => return,
                Err(e) => return eprintln!("unmount {}: {e}", self.at.display()),
            }
        }
        eprintln!("{} is still busy: unmounting lazily", self.at.display());
        if let Err(e) = unmount(&self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            eprintln!("unmount {}: {e}", self.at.display());
        }
    }
}

/// Runs a program; its output is the panic's text when it fails.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stdout));
    output.stdout
}
