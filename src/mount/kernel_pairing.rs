//! Whether an image goes with the running kernel. Where a union becomes the root, its modules are the only ones: with those of
//! another kernel, network, disks and sound stay dead without a word.

use std::ffi::OsStr;
use std::path::Path;

use super::image_path::{LastLink, resolve};
use crate::error::{Errno, Error, Result};
use crate::types::{KernelCheck, Kind};
use crate::union::lower::Lower;

/// What a union is mounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It becomes the root of the system.
    Root,
    /// Anything else.
    Other,
}

/// Where modules are (modprobe(8)); the second where the first is no link to it.
const MODULES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// Kernels that a refusal names at most.
const NAMED: usize = 4;

/// Checks that an image which ships modules has those of this kernel. One without modules goes with every kernel.
///
/// # Errors
/// [`Error::Refused`], naming the kernels that it has modules for; damage of the image.
pub fn check(lower: &dyn Lower, image: &Path, release: &OsStr, purpose: Purpose, check: KernelCheck) -> Result<()> {
    if purpose == Purpose::Other || check == KernelCheck::Off {
        return Ok(());
    }
    let mut others = Vec::new();
    for modules in MODULES {
        for (name, _) in directory(lower, Path::new(modules))? {
            if !is_directory(lower, &Path::new(modules).join(&name))? {
                continue;
            }
            if name == release {
                return Ok(());
            }
            others.push(name.to_string_lossy().escape_debug().to_string());
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    others.dedup();
    let more = if others.len() > NAMED { " and others" } else { "" };
    others.truncate(NAMED);
    Err(Error::Refused(format!(
        "{} has modules for the kernel {}{more}, but {} is running: devices would be without drivers; boot its own kernel, take \
         another image, or switch this check off with kernel_check=off",
        image.display(),
        others.join(", "),
        release.display()
    )))
}

/// Names in a directory, none where it is not there.
fn directory(lower: &dyn Lower, path: &Path) -> Result<crate::union::lower::Listing> {
    if !is_directory(lower, path)? {
        return Ok(Vec::new());
    }
    lower.entries(resolve(lower, path, LastLink::Follow)?)
}

fn is_directory(lower: &dyn Lower, path: &Path) -> Result<bool> {
    match resolve(lower, path, LastLink::Follow) {
        Ok(id) => Ok(lower.attr(id)?.kind == Kind::Dir),
        Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::DirLower;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn verdict(grow: impl Fn(&Path), purpose: Purpose, how: KernelCheck) -> std::result::Result<(), String> {
        let scratch = tempfile::tempdir().unwrap();
        grow(scratch.path());
        let lower = DirLower::open(scratch.path()).unwrap();
        check(&lower, Path::new("a.squashfs"), OsStr::new("6.12.4"), purpose, how).map_err(|e| e.to_string())
    }

    fn with(directories: &'static [&'static str]) -> impl Fn(&Path) {
        move |root| directories.iter().for_each(|name| fs::create_dir_all(root.join(name)).unwrap())
    }

    #[test]
    fn modules_of_this_kernel_or_none_at_all() {
        for directories in [
            &["etc"][..],
            &["lib/modules"],
            &["lib/modules/6.12.4"],
            &["usr/lib/modules/6.12.4", "lib/modules/6.1.0"],
            &["lib/modules/5.10.0", "lib/modules/6.12.4"],
        ] {
            assert_eq!(verdict(with(directories), Purpose::Root, KernelCheck::On), Ok(()), "{directories:?}");
        }
        let linked = |root: &Path| {
            fs::create_dir_all(root.join("usr/lib/modules/6.12.4")).unwrap();
            symlink("usr/lib", root.join("lib")).unwrap();
        };
        assert_eq!(verdict(linked, Purpose::Root, KernelCheck::On), Ok(()));
        let file = |root: &Path| {
            fs::create_dir_all(root.join("lib/modules")).unwrap();
            fs::write(root.join("lib/modules/README"), "none").unwrap();
        };
        assert_eq!(verdict(file, Purpose::Root, KernelCheck::On), Ok(()));
    }

    #[test]
    fn another_kernel_s_are_refused_where_it_matters() {
        let other = with(&["lib/modules/6.12.3", "lib/modules/6.12.4-rt"]);
        let refusal = verdict(&other, Purpose::Root, KernelCheck::On).unwrap_err();
        for words in ["a.squashfs has modules for the kernel 6.12.3, 6.12.4-rt, but 6.12.4 is running", "kernel_check=off"] {
            assert!(refusal.contains(words), "{refusal}");
        }
        assert_eq!(verdict(&other, Purpose::Root, KernelCheck::Off), Ok(()));
        assert_eq!(verdict(&other, Purpose::Other, KernelCheck::On), Ok(()));
    }

    #[test]
    fn a_file_in_place_of_modules_is_none() {
        let file = |root: &Path| {
            fs::create_dir_all(root.join("lib/modules/6.1.0")).unwrap();
            fs::write(root.join("lib/modules/6.12.4"), "").unwrap();
        };
        assert!(verdict(file, Purpose::Root, KernelCheck::On).is_err());
        let many = with(&["lib/modules/1", "lib/modules/2", "lib/modules/3", "lib/modules/4", "lib/modules/5"]);
        assert!(verdict(many, Purpose::Root, KernelCheck::On).unwrap_err().contains("1, 2, 3, 4 and others, but"));
    }
}
