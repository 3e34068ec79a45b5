//! Debian's kernels.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::host::{self, run};
use super::package;

/// A kernel.
pub struct Kernel {
    /// What [`Kernel::release`] begins with.
    pub series: &'static str,
    tree: PathBuf,
    release: String,
}

/// What names the newest kernel of a suite, in the small variant for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

impl Kernel {
    /// That of Debian 12: Linux 6.1.
    pub fn stable() -> &'static Self {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        KERNEL.get_or_init(|| Self::unpacked("6.1.", "bookworm"))
    }

    /// The newest one for Debian 12: Linux 6.12 or later.
    pub fn newest() -> &'static Self {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        KERNEL.get_or_init(|| Self::unpacked("6.", "bookworm-backports"))
    }

    fn unpacked(series: &'static str, suite: &str) -> Self {
        let tree = package::unpacked(suite, META_PACKAGE, |tree| {
            run(host::command("depmod").arg("-b").arg(tree).arg(release(tree)));
        });
        let release = release(&tree);
        assert!(release.starts_with(series), "{release}");
        Self { series, tree, release }
    }

    /// As `uname -r` says.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What QEMU starts.
    pub fn file(&self) -> PathBuf {
        self.tree.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The directory whose `lib/modules` has its modules.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The contents of these modules, after those that they need; what is built in is left out.
    pub fn modules(&self, names: &[&str]) -> Vec<(String, Vec<u8>)> {
        let folder = self.tree.join("lib/modules").join(&self.release);
        let table = fs::read_to_string(folder.join("modules.dep")).unwrap();
        let mut files: Vec<&str> = Vec::new();
        for name in names {
            let Some(line) = table.lines().find(|line| module_name(line.split(':').next().unwrap()) == *name) else { continue };
            // What is needed stands behind what needs it.
            let (own, needed) = line.split_once(':').unwrap();
            files.extend(needed.split_whitespace().rev().chain([own]));
        }
        let mut modules: Vec<(String, Vec<u8>)> = Vec::new();
        for file in files {
            let name = format!("{}.ko", module_name(file));
            if !modules.iter().any(|(other, _)| *other == name) {
                modules.push((name, plain(&folder.join(file))));
            }
        }
        modules
    }
}

fn release(tree: &Path) -> String {
    let mut releases = fs::read_dir(tree.join("lib/modules")).unwrap();
    releases.next().unwrap().unwrap().file_name().into_string().unwrap()
}

/// `kernel/fs/fuse/fuse.ko.xz` is `fuse`.
fn module_name(file: &str) -> &str {
    file.rsplit('/').next().unwrap().split('.').next().unwrap()
}

fn plain(file: &Path) -> Vec<u8> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).unwrap();
    }
    let output = host::command("xz").arg("-dc").arg(file).output().unwrap();
    assert!(output.status.success(), "xz -dc {}: {output:?}", file.display());
    output.stdout
}
