//! What a user asked to mount, checked for sense but not yet against the machine.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::image_source::ImageSource;
use crate::config::mount_options::MountOptions;
use crate::error::{Error, Result};

/// A mount as asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The source that mountinfo shows.
    pub source: OsString,
    /// Images or directories, topmost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// The upper and its work directory.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Where the union shall stand.
    pub mountpoint: PathBuf,
    /// The rest of `-o`.
    pub options: MountOptions,
    /// Only checks: nothing is made that a mount would need.
    pub dry_run: bool,
    /// What of haos.ini counts.
    pub ground: Ground,
}

/// What a mount by haos.ini takes from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ground {
    /// The system image, with the upper in use.
    #[default]
    System,
    /// An image that is tried, with the generation that was made for that, which does not come into use by it.
    Trial {
        /// The image.
        image: ImageSource,
        /// The generation.
        generation: u64,
    },
    /// This image, with an upper in memory, whatever haos.ini says.
    Memory {
        /// The image.
        image: PathBuf,
    },
}

impl Request {
    /// Joins positional arguments, flags and `-o`. With `lowerdir=` the source is a mere name, as with kernel overlayfs.
    ///
    /// # Errors
    /// [`Error::Refused`] where they contradict each other: this is a usage error.
    pub fn new(
        source: OsString,
        mountpoint: PathBuf,
        lowers: Vec<PathBuf>,
        upper: Option<PathBuf>,
        work: Option<PathBuf>,
        mut options: MountOptions,
    ) -> Result<Self> {
        options.check()?;
        let lowerdir = std::mem::take(&mut options.lowerdir);
        let lowers = if lowerdir.is_empty() {
            std::iter::once(PathBuf::from(&source)).chain(lowers).collect()
        } else if !lowers.is_empty() {
            return Err(Error::Refused("--lower and lowerdir= both name lower layers; use one of them".to_owned()));
        } else if source.as_encoded_bytes().contains(&b'/') {
            let source = source.display();
            return Err(Error::Refused(format!(
                "{source} and lowerdir= both name lower layers; with lowerdir= write none for IMAGE"
            )));
        } else {
            lowerdir
        };
        let upper = one_of("--upper and upperdir=", upper, options.upperdir.take())?;
        let work = one_of("--work and workdir=", work, options.workdir.take())?;
        let upper = match (upper, work) {
            (Some(upper), Some(work)) => Some((upper, work)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::Refused(
                    "--upper needs --work, an empty directory on the same file system as the upper".to_owned(),
                ));
            }
            (None, Some(_)) => return Err(Error::Refused("--work means nothing without --upper".to_owned())),
        };
        let source = options.fsname.take().unwrap_or(source);
        Ok(Self { source, lowers, upper, mountpoint, options, dry_run: false, ground: Ground::System })
    }
}

fn one_of(names: &str, flag: Option<PathBuf>, option: Option<PathBuf>) -> Result<Option<PathBuf>> {
    match (flag, option) {
        (Some(a), Some(b)) if a != b => Err(Error::Refused(format!("{names} name different directories"))),
        (flag, option) => Ok(flag.or(option)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(source: &str, lowers: &[&str], upper: Option<&str>, work: Option<&str>, list: &str) -> Result<Request> {
        let mut options = MountOptions::default();
        options.read(list.as_ref())?;
        let lowers = lowers.iter().map(PathBuf::from).collect();
        Request::new(source.into(), "/mnt".into(), lowers, upper.map(Into::into), work.map(Into::into), options)
    }

    #[test]
    fn layers_come_from_arguments_or_from_lowerdir() {
        let arguments = request("/a.sqfs", &["/b", "/c"], Some("/u"), Some("/w"), "").unwrap();
        assert_eq!(arguments.lowers, ["/a.sqfs", "/b", "/c"].map(PathBuf::from));
        assert_eq!(arguments.upper, Some(("/u".into(), "/w".into())));
        let overlay = request("overlay", &[], None, None, "lowerdir=/a:/b,upperdir=/u,workdir=/w").unwrap();
        assert_eq!(overlay.lowers, ["/a", "/b"].map(PathBuf::from));
        assert_eq!(overlay.upper, Some(("/u".into(), "/w".into())));
        assert_eq!(overlay.source, "overlay");
        assert_eq!(request("/a", &[], None, None, "fsname=x").unwrap().source, "x");
    }

    #[test]
    fn contradictions_are_refused() {
        for (result, message) in [
            (request("/a", &["/b"], None, None, "lowerdir=/c"), "--lower and lowerdir="),
            (request("/a", &[], None, None, "lowerdir=/c"), "with lowerdir= write none"),
            (request("/a", &[], Some("/u"), None, ""), "--upper needs --work"),
            (request("/a", &[], None, Some("/w"), ""), "--work means nothing"),
            (request("/a", &[], Some("/u"), Some("/w"), "upperdir=/v"), "--upper and upperdir= name different"),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
