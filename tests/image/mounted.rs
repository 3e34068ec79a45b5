//! The kernel's own squashfs, as an oracle.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted image; unmounted on drop.
pub struct Mounted {
    pub at: PathBuf,
}

impl Mounted {
    /// Mounts `image`, or says why this machine does not.
    pub fn new(image: &Path, at: &Path, offset: u64) -> Result<Self, String> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("loop,ro,offset={offset}");
        let output = Command::new("mount").args(["-t", "squashfs", "-o", &options]).arg(image).arg(at).output();
        match output {
            Ok(output) if output.status.success() => Ok(Self { at: at.into() }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

/// A loop device over a file; detached on drop.
pub struct LoopDevice {
    pub path: PathBuf,
}

impl LoopDevice {
    /// Attaches `file`, or says why this machine does not.
    pub fn new(file: &Path) -> Result<Self, String> {
        let output =
            Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(file).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        Ok(Self { path: String::from_utf8(output.stdout).unwrap().trim().into() })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}
