//! One validated value that says everything about a mount, and the checks that make it.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::appliance::{self, Appliance};
use super::generation::Claim;
use super::given;
use super::kernel_pairing::{self, Purpose};
use super::layers;
use super::mountinfo::haosfs_at;
use super::paths::{self, Places};
use super::record;
use super::request::Request;
use crate::config::mount_options::{Access, Backend, MountOptions};
use crate::error::{Error, Result};
use crate::sys::fuse_mount::Attributes;
use crate::sys::release::release;
use crate::types::KernelCheck;
use crate::union::pair::Locks;
use crate::update::base::Fit;

/// What a lower layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A squashfs image in a file or block device, this many bytes from its start.
    Image {
        /// Bytes before the image.
        offset: u64,
    },
    /// A plain directory.
    Directory,
}

/// One lower layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Canonical path.
    pub path: PathBuf,
    /// What is there.
    pub kind: LayerKind,
}

/// The writable side.
#[derive(Clone, Debug)]
pub struct UpperPlan {
    /// Path of the upper directory: canonical, or by a descriptor of this process and those it forks.
    pub upper: PathBuf,
    /// Path of the work directory, on the same file system.
    pub work: PathBuf,
    /// The generation it belongs to, where haos.ini has led to it.
    pub claim: Option<Arc<Claim>>,
}

/// A generation that is only looked at.
#[derive(Debug)]
pub struct Shown {
    /// The generation.
    pub claim: Claim,
    /// Nobody writes to it meanwhile.
    _locks: Locks,
}

/// A mount whose parts exist and fit together. Every path is canonical, so the daemon may change its working directory.
#[derive(Clone, Debug)]
pub struct MountPlan {
    /// The source that mountinfo shows.
    pub source: OsString,
    /// Topmost first; at least one.
    pub lowers: Vec<Layer>,
    /// `None` makes the union read-only.
    pub upper: Option<UpperPlan>,
    /// A generation whose upper is shown, but not written to: it is the topmost of the lowers.
    pub shown: Option<Arc<Shown>>,
    /// An existing directory without a haosfs mount on it.
    pub mountpoint: PathBuf,
    /// Flags of the mount.
    pub attributes: Attributes,
    /// Who shall join the layers, where that was said.
    pub backend: Option<Backend>,
    /// What else was asked for.
    pub options: MountOptions,
}

impl MountPlan {
    /// Checks a request against the machine: what must exist, exists; directories lie apart; nothing is in the way.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Sys`], naming the path and, where there is one, the remedy.
    pub fn check(request: Request) -> Result<Self> {
        let mountpoint = free_mountpoint(&request.mountpoint)?;
        match request.lowers.first().filter(|lower| appliance::is_configuration(lower)).cloned() {
            Some(ini) => {
                let found = appliance::find(&request, &ini)?;
                Self::by_configuration(request, mountpoint, &ini, found)
            }
            None => Self::by_layers(request, mountpoint),
        }
    }

    /// Takes the data partition out of sight, where the kernel could mount it in sight only.
    pub fn hide(&self) {
        let shown = self.shown.as_ref().map(|shown| &shown.claim);
        self.claim().or(shown).into_iter().for_each(|claim| claim.data().hide());
    }

    /// The generation that is written to, where haos.ini has led to one.
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        self.upper.as_ref().and_then(|upper| upper.claim.as_deref())
    }

    /// The same for an image and an upper that haos.ini has led to.
    fn by_configuration(request: Request, mountpoint: PathBuf, ini: &Path, found: Appliance) -> Result<Self> {
        let source = if request.source == *ini { found.ini.into_os_string() } else { request.source };
        let lowers = vec![found.image];
        let mut options = request.options;
        options.backend.get_or_insert(Backend::Auto);
        let mut plan = Self::by_layers(Request { source, lowers, options, ..request }, mountpoint)?;
        let Some(claim) = found.claim else { return Ok(plan) };
        let (upper, work) = claim.directories();
        if claim.fit() == Fit::ReadOnly || plan.options.access == Access::ReadOnly {
            if claim.fit() == Fit::ReadOnly {
                tracing::warn!("the upper was made on another image: the union is read-only");
            }
            // As the topmost lower nobody can write to it, whatever is remounted later.
            plan.lowers.insert(0, Layer { path: upper, kind: LayerKind::Directory });
            plan.shown = Some(Arc::new(Shown { _locks: claim.hold()?, claim }));
        } else {
            plan.attributes.read_only = false;
            plan.upper = Some(UpperPlan { upper, work, claim: Some(Arc::new(claim)) });
        }
        Ok(plan)
    }

    fn by_layers(request: Request, mountpoint: PathBuf) -> Result<Self> {
        let mut lowers = request.lowers.iter().map(|path| layer(path)).collect::<Result<Vec<_>>>()?;
        set_offset(&mut lowers, request.options.offset)?;
        if request.options.rootfs {
            check_kernel(&lowers, request.options.kernel_check)?;
        }
        let upper = request.upper.map(|(upper, work)| upper_plan(&upper, &work)).transpose()?;
        let directories: Vec<&Path> =
            lowers.iter().filter(|l| l.kind == LayerKind::Directory).map(|l| l.path.as_path()).collect();
        let pair = upper.as_ref().map(|u| (u.upper.as_path(), u.work.as_path()));
        paths::check(&Places { mountpoint: &mountpoint, lowers: &directories, upper: pair })?;
        let options = request.options;
        let attributes = Attributes {
            read_only: upper.is_none() || options.access == Access::ReadOnly,
            nosuid: options.nosuid,
            // A device opens by the owner that is shown, which is not who was given it.
            nodev: options.nodev || options.squashes_owner(),
            noexec: options.noexec,
            nosymfollow: options.nosymfollow,
            sync: options.sync,
            atime: options.atime,
        };
        // A daemon has no working directory of interest: a source that is a path is shown in full.
        let source = match (request.lowers.first(), lowers.first()) {
            (Some(asked), Some(found)) if asked.as_os_str() == request.source => found.path.clone().into_os_string(),
            _ => request.source,
        };
        let backend = options.backend;
        Ok(Self { source, lowers, upper, shown: None, mountpoint, attributes, backend, options })
    }
}

/// The topmost layer brings the modules.
fn check_kernel(lowers: &[Layer], check: KernelCheck) -> Result<()> {
    let Some(top) = lowers.first() else { return Ok(()) };
    let lower = layers::open_lower(top, &MountOptions::default(), 1)?;
    kernel_pairing::check(&*lower, &top.path, &release(), Purpose::Root, check)
}

fn free_mountpoint(asked: &Path) -> Result<PathBuf> {
    if given::descriptor(asked).is_some() {
        return Ok(asked.to_owned());
    }
    let shown = asked.display();
    let path = match fs::canonicalize(asked) {
        Ok(path) => path,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Refused(format!("mountpoint {shown} does not exist; create it with `mkdir {shown}`")));
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => return Err(dead_mount(asked)),
        Err(e) => return Err(Error::sys("mountpoint", asked, e)),
    };
    let found = fs::metadata(&path);
    if found.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN)) {
        return Err(dead_mount(asked));
    }
    if let Some(mount) = haosfs_at(&path)?.or(record::kept_by_kernel(&path)?.map(|(mount, ..)| mount)) {
        let source = mount.source.display();
        return Err(Error::Refused(format!(
            "mountpoint {shown} is busy: it is already a haosfs mount of {source}; unmount it with `haosfs umount {shown}`"
        )));
    }
    match found {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(Error::Refused(format!("mountpoint {shown} is not a directory"))),
        Err(e) => Err(Error::sys("mountpoint", asked, e)),
    }
}

fn dead_mount(asked: &Path) -> Error {
    let shown = asked.display();
    Error::Refused(format!(
        "mountpoint {shown} is busy: a FUSE mount whose daemon is gone stands there; clear it with `haosfs umount -l {shown}`"
    ))
}

pub(super) fn layer(asked: &Path) -> Result<Layer> {
    let (path, found) = existing("lower layer", asked)?;
    let kind = if found.is_dir() {
        LayerKind::Directory
    } else if found.is_file() || found.file_type().is_block_device() {
        LayerKind::Image { offset: 0 }
    } else {
        return Err(Error::Refused(format!("lower layer {} is neither an image nor a directory", asked.display())));
    };
    Ok(Layer { path, kind })
}

/// `offset=` speaks of the topmost layer.
fn set_offset(lowers: &mut [Layer], asked: Option<u64>) -> Result<()> {
    let (Some(asked), Some(top)) = (asked, lowers.first_mut()) else { return Ok(()) };
    match &mut top.kind {
        LayerKind::Image { offset } => *offset = asked,
        LayerKind::Directory => {
            return Err(Error::Refused(format!("option offset={asked}: {} is a directory", top.path.display())));
        }
    }
    Ok(())
}

fn upper_plan(upper: &Path, work: &Path) -> Result<UpperPlan> {
    let (upper_path, upper_found) = existing_directory("upper directory", upper)?;
    let (work_path, work_found) = existing_directory("work directory", work)?;
    if upper_found.dev() != work_found.dev() {
        return Err(Error::Refused(format!(
            "work directory {} is on another file system than upper directory {}; files move between them in one step, so put \
             them side by side",
            work.display(),
            upper.display()
        )));
    }
    Ok(UpperPlan { upper: upper_path, work: work_path, claim: None })
}

fn existing_directory(what: &'static str, asked: &Path) -> Result<(PathBuf, Metadata)> {
    let (path, found) = existing(what, asked)?;
    if found.is_dir() { Ok((path, found)) } else { Err(Error::Refused(format!("{what} {} is not a directory", asked.display()))) }
}

fn existing(what: &'static str, asked: &Path) -> Result<(PathBuf, Metadata)> {
    fs::canonicalize(asked).and_then(|path| fs::metadata(&path).map(|found| (path, found))).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::Refused(format!("{what} {} does not exist", asked.display())),
        _ => Error::sys(what, asked, e),
    })
}
