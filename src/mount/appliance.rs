//! A mount by haos.ini: which image, and which upper on which data partition.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::boot_record;
use super::data::{Attached, ballast, locate};
use super::format::Format;
use super::generation::{self, Claim};
use super::image_choice;
use super::layers;
use super::request::{Ground, Request};
use crate::config::mount_options::{Access, Fsync, MountOptions, RedirectDir, Uuid};
use crate::config::store::{self, Stored};
use crate::error::{Error, Result};
use crate::image::{Image, Options, digest_of_start};
use crate::types::Attr;
use crate::union::SquashfsLower;
use crate::union::lower::Lower as _;
use crate::update::base::Base;

/// What haos.ini says, found on this machine.
#[derive(Debug)]
pub struct Appliance {
    /// The configuration, in full: what mountinfo shows as the source, so that `mount -a` knows what is mounted.
    pub ini: PathBuf,
    /// The image.
    pub image: PathBuf,
    /// The upper made on it; `None` where nothing is configured yet, or nothing was to be made.
    pub claim: Option<Claim>,
}

/// True for a source that is a configuration: by its name, since one that is not there yet means something, too.
#[must_use]
pub fn is_configuration(source: &Path) -> bool {
    source.extension().is_some_and(|extension| extension == "ini")
}

/// Finds the image and opens the upper. Where there is no configuration, and never was, it is the newest image beside it, without
/// an upper.
///
/// # Errors
/// What the file, the image, the data partition or the upper has wrong with it.
pub fn find(request: &Request, ini: &Path) -> Result<Appliance> {
    check_options(request)?;
    let ini = store::in_full(ini)?;
    let directory = store::directory_of(&ini);
    if let Ground::Memory { image } = &request.ground {
        let claim = Some(in_memory(image, request)?);
        return Ok(Appliance { ini, image: image.clone(), claim });
    }
    let Some(stored) = store::read(&ini)? else {
        let image = image_choice::newest(&directory)?;
        tracing::warn!("{} is not there: {} is the newest image, mounted without an upper", ini.display(), image.display());
        return Ok(Appliance { ini, image, claim: None });
    };
    if request.upper.is_some() {
        return Err(Error::Refused(format!("{} names the data partition: upperdir= and workdir= are not for it", ini.display())));
    }
    if let (Some(update), Ground::System) = (&stored.config.update_image, &request.ground) {
        // What was booted before does not count for a boot. What is written to the upper in use while a trial runs on one that was made of it
        // would be left by the confirmation, or have the trial's made anew.
        let writes = request.options.access == Access::ReadWrite && !request.options.rootfs;
        if writes && boot_record::read()?.is_some_and(|booted| booted.is_trial_of(update)) {
            return Err(Error::Refused(format!(
                "{}: {update} is tried on an upper that was made of the one in use, and what is written to that now would be lost; \
                 mount with -o ro, or after `haosfs update confirm`",
                ini.display()
            )));
        }
        tracing::info!("{}: update_image is for the next boot, system_image is mounted", ini.display());
    }
    let image = match &request.ground {
        Ground::Trial { image, .. } => image,
        _ => &stored.config.system_image,
    };
    let image = image_choice::find(image, &directory)?;
    let claim = claim(&stored, &directory, &image, request)?;
    Ok(Appliance { ini, image, claim })
}

/// Uppers of images that will be replaced are written in a way that any of them, and both backends, can be mounted over.
fn check_options(request: &Request) -> Result<()> {
    let options = &request.options;
    let refused = |what: &str| {
        Err(Error::Refused(format!(
            "option {what}: a haos.ini is mounted without it, because such an upper does not survive the next image, or a power cut"
        )))
    };
    match options {
        MountOptions { metacopy: true, .. } => refused("metacopy=on"),
        MountOptions { redirect_dir: Some(RedirectDir::On), .. } => refused("redirect_dir=on"),
        MountOptions { index: Some(true), .. } => refused("index=on"),
        MountOptions { uuid: Uuid::Auto | Uuid::On, .. } => refused("uuid=on"),
        MountOptions { userxattr: true, .. } => refused("userxattr"),
        MountOptions { fsync: Fsync::Volatile, .. } => refused("volatile"),
        MountOptions { offset: Some(_), .. } => Err(Error::Refused("option offset: haos.ini names the image".to_owned())),
        _ if request.lowers.len() > 1 => Err(Error::Refused("--lower: haos.ini names the image".to_owned())),
        _ => Ok(()),
    }
}

/// What the upper remembers of the image, and what the root of a new one is like.
pub(super) fn base_and_root(image: &Path) -> Result<(Base, Attr)> {
    if Format::of(image, 0)? == Format::Squashfs {
        let opened = Image::open(image, &Options::default())?;
        let base = image_choice::base_of(&opened, image)?;
        let lower = SquashfsLower::new(opened);
        return Ok((base, lower.attr(lower.root())?));
    }
    let lower = layers::open_lower_at(image)?;
    let size = File::open(image).and_then(|mut file| file.seek(SeekFrom::End(0))).map_err(|e| Error::sys("read", image, e))?;
    let name = image.file_name().unwrap_or(image.as_os_str()).to_owned();
    let base = Base { name, version: None, size, digest: digest_of_start(image)? };
    Ok((base, lower.attr(lower.root())?))
}

fn claim(stored: &Stored, directory: &Path, image: &Path, request: &Request) -> Result<Option<Claim>> {
    let (base, root) = base_and_root(image)?;
    let partition = &stored.config.data_partition;
    let data = Attached::attach(locate(partition, directory)?, partition, request.options.access, request.options.atime)?;
    let stale = request.options.stale;
    // Nothing is made for whoever only wants to look.
    let writes = !request.dry_run && request.options.access == Access::ReadWrite;
    if writes && request.options.rootfs {
        ballast::release_if_full(data.path());
    }
    let opened = match request.ground {
        Ground::Trial { generation, .. } => generation::open_numbered(data.path(), generation, &base, stale).map(Some),
        _ if !writes => generation::look(data.path(), &base, stale),
        _ => generation::open(data.path(), &base, &root, stale).map(Some),
    };
    let opened = opened.map_err(|e| data.told(e))?;
    Ok(opened.map(|opened| Claim::new(data, opened)))
}

/// A first generation on a data partition that goes with the union.
fn in_memory(image: &Path, request: &Request) -> Result<Claim> {
    let (base, root) = base_and_root(image)?;
    let data = Attached::memory(request.options.atime)?;
    let opened = generation::open(data.path(), &base, &root, request.options.stale).map_err(|e| data.told(e))?;
    Ok(Claim::new(data, opened))
}
