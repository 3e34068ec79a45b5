//! Which image is meant: the one that haos.ini names, or the newest that opens where there is no haos.ini.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::format::Format;
use crate::config::image_source::{IMAGES, ImageSource};
use crate::error::{Error, Result};
use crate::image::{Image, Options};
use crate::update::base::Base;
use crate::update::choice::{Choice, choose};
use crate::update::image_name::{ImageName, architecture};

/// The file that `source` names, with the ini file in `directory`.
///
/// # Errors
/// Where none of the places it can be at has it.
pub fn find(source: &ImageSource, directory: &Path) -> Result<PathBuf> {
    let candidates = source.candidates(directory);
    for candidate in &candidates {
        match fs::metadata(candidate) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(candidate.clone()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::sys("find the image", candidate, e)),
        }
    }
    let places: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(Error::Refused(format!("the image {source} is not there: looked for {}", places.join(" and "))))
}

/// The same, and whether it opens; of one that only the kernel can read that is not known.
///
/// # Errors
/// As for [`find`], and what is wrong with it.
pub fn find_sound(source: &ImageSource, directory: &Path) -> Result<PathBuf> {
    let path = find(source, directory)?;
    if other_format(&path)?.is_none() {
        Image::open(&path, &Options::default())?;
    }
    Ok(path)
}

/// The newest image for this machine in `directory` or in `images/` below it that can be opened. Those that cannot are passed over
/// with a warning in the log.
///
/// # Errors
/// Where there is none, or which board this machine is would have to be guessed.
pub fn newest(directory: &Path) -> Result<PathBuf> {
    let (candidates, shown) = (by_version(directory)?, directory.display());
    let mut last = None;
    for path in &candidates {
        match Image::open(path, &Options::default()) {
            Ok(_) => return Ok(path.clone()),
            Err(e) => {
                tracing::warn!("an image is passed over: {e}");
                last = Some(e);
            }
        }
    }
    let why = last.map_or_else(String::new, |e| format!("; the oldest: {e}"));
    Err(Error::Refused(format!("none of the {} images in {shown} can be opened{why}", candidates.len())))
}

/// The images for this machine in `directory` and in `images/` below it, the newest first; whether they can be opened is not known.
///
/// # Errors
/// As for [`newest`].
pub fn by_version(directory: &Path) -> Result<Vec<PathBuf>> {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    let machine = architecture(&machine).map_or(machine, str::to_owned);
    let mut files = files(directory)?;
    let images = directory.join(IMAGES);
    if images.is_dir() {
        // A file beside the ini comes before one of the same name here, as it does by name.
        let further: Vec<_> =
            self::files(&images)?.into_iter().filter(|(name, _)| !files.iter().any(|(n, _)| n == name)).collect();
        files.extend(further);
    }
    let shown = directory.display();
    let candidates = match choose(files.iter().map(|(name, _)| name.clone()), &machine) {
        Choice::Candidates(candidates) => candidates,
        Choice::Boards(boards) => {
            let boards = boards.join(", ");
            return Err(Error::Refused(format!("{shown} has images for the boards {boards}; name the right one in haos.ini")));
        }
        Choice::None(others) if others.is_empty() => return Err(Error::Refused(format!("{shown} has no image"))),
        Choice::None(others) => {
            return Err(Error::Refused(format!("{shown} has no image for {machine}, only for {}", others.join(", "))));
        }
    };
    let path_of = |file: &OsString| files.iter().find(|(name, _)| name == file).map(|(_, path)| path.clone());
    Ok(candidates.iter().filter_map(|candidate| path_of(&candidate.file)).collect())
}

/// The driver of an image that only the kernel can read; `None` for squashfs.
///
/// # Errors
/// When it cannot be read.
pub fn other_format(image: &Path) -> Result<Option<&'static str>> {
    Ok(match Format::of(image, 0)? {
        Format::Squashfs => None,
        Format::Other(driver) => Some(driver),
    })
}

/// What an upper remembers of an image.
///
/// # Errors
/// Damage of the image.
pub fn base_of(image: &Image, path: &Path) -> Result<Base> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_owned();
    let version = ImageName::parse(&name).map(|name| name.version);
    Ok(Base { name, version, size: image.superblock().bytes_used, digest: image.digest()? })
}

/// Everything in a directory that is none itself.
fn files(directory: &Path) -> Result<Vec<(OsString, PathBuf)>> {
    let failed = |e| Error::sys("look for images in", directory, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.path().is_dir() {
            files.push((entry.file_name(), entry.path()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backhand::FilesystemWriter;

    fn pack(path: &Path) {
        FilesystemWriter::default().write(&mut fs::File::create(path).unwrap()).unwrap();
    }

    fn machine() -> String {
        rustix::system::uname().machine().to_string_lossy().into_owned()
    }

    #[test]
    fn the_newest_that_opens_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let name = |version: &str| format!("haos-{}_{version}.squashfs", machine());
        let message = |words: &str| {
            let message = newest(dir).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        message("has no image");
        pack(&dir.join("haos-s390x_9.0.squashfs"));
        message("only for s390x");
        fs::write(dir.join(name("7.3")), "torn").unwrap();
        message("none of the 1 images");
        fs::create_dir(dir.join("images")).unwrap();
        for image in [dir.join(name("7.1")), dir.join("images").join(name("7.2")), dir.join(name("7.2.1.rc1"))] {
            pack(&image);
        }
        fs::create_dir(dir.join(name("7.9"))).unwrap();
        assert_eq!(newest(dir).unwrap(), dir.join(name("7.2.1.rc1")));
        fs::write(dir.join(name("7.2.1.rc1")), "").unwrap();
        assert_eq!(newest(dir).unwrap(), dir.join("images").join(name("7.2")));
        pack(&dir.join(name("7.2")));
        assert_eq!(newest(dir).unwrap(), dir.join(name("7.2")));
    }

    #[test]
    fn a_named_image_is_beside_the_file_or_below_it() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let source = ImageSource::parse("a.squashfs").unwrap();
        let message = find(&source, dir).unwrap_err().to_string();
        assert!(message.contains("a.squashfs is not there: looked for ") && message.contains("images/a.squashfs"), "{message}");
        fs::create_dir_all(dir.join("images")).unwrap();
        fs::write(dir.join("images/a.squashfs"), "").unwrap();
        assert_eq!(find(&source, dir).unwrap(), dir.join("images/a.squashfs"));
        fs::write(dir.join("a.squashfs"), "").unwrap();
        assert_eq!(find(&source, dir).unwrap(), dir.join("a.squashfs"));
    }
}
