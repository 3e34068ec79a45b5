//! `haosfs update stage`: an image is copied to its place, checked there, and tried at the next boot.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::carry_out::happen;
use super::outcome::Failure;
use super::place::{Place, digest_of, is_one_file, is_open};
use super::progress::Progress;
use super::status;
use crate::config::image_source::ImageSource;
use crate::error::{Errno, Error, Result};
use crate::image::{Image, Options};
use crate::mount::image_choice;
use crate::sys::lock;
use crate::update::signature::{Manifest, parse_sha256, paths, public_key, show_sha256, signed_manifest};
use crate::update::state::Event;
use crate::update::store::{Standing, Store};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The image.
    pub image: PathBuf,
    /// haos.ini.
    pub ini: PathBuf,
    /// What its SHA-256 must be.
    pub sha256: Option<String>,
    /// minisign's public key that it must be signed for, whatever haos.ini says.
    pub key: Option<String>,
    /// It may have failed before.
    pub again: bool,
    /// Print JSON.
    pub json: bool,
}

/// What is known of an image before it is read.
struct Expected {
    manifest: Option<Manifest>,
    sha256: Option<[u8; 32]>,
}

/// Stages an image. Where that fails, what was staged before is as it was.
///
/// # Errors
/// An image that is refused, too little room, and what reading and writing answer.
pub fn run(request: &Request) -> Result<(), Failure> {
    // Nothing is begun where somebody else is at it. But copying takes long, and a trial may be confirmed meanwhile: so the state is let go
    // again, and taken where it is written.
    drop(Store::take(&request.ini)?);
    let store = Store::look(&request.ini)?;
    let standing = store.read()?;
    let path = &request.image;
    let mut file = File::open(path).map_err(|e| Error::sys("open", path, e))?;
    let found = file.metadata().map_err(|e| Error::sys("stat", path, e))?;
    if !found.is_file() {
        return Err(Error::Refused(format!("{} is not a regular file", path.display())).into());
    }
    let (name, image) = name_of(path)?;
    let expected = expected(request, &standing)?;
    if let Some(manifest) = expected.manifest.as_ref().filter(|manifest| manifest.size != found.len()) {
        let told = format!("{}: it has {} bytes, its manifest says {}", path.display(), found.len(), manifest.size);
        return Err(Failure::image(Error::Refused(told)));
    }
    let place = Place::new(&store.directory(), name)?;
    let before = may_stage(&standing, &image, &place, request)?;
    if before == Staged::UnderThisName && !is_staged(&place, path)? {
        return Err(another(&image));
    }
    let copy = if is_one_file(path, &place.path()) {
        // As a copy is: nobody takes it away meanwhile.
        if lock::exclusive_soon(&file) == Err(Errno::EAGAIN) {
            return Err(Error::Refused(format!("{}: another update is being seen to there; try again", path.display())).into());
        }
        check_digest(path, &digest_if_needed(path, &expected)?, &expected)?;
        verify(path, &expected)?;
        place.make_durable(&file)?;
        None
    } else {
        place.room_for(found.len())?;
        let (copy, digest) = place.copy(&mut file, path, found.len(), store.rights())?;
        let sound = check_digest(path, &Some(digest), &expected).and_then(|()| verify(&place.unfinished(), &expected));
        sound.inspect_err(|_| place.discard())?;
        Some(copy)
    };
    let taken = take_unchanged(request, (before, &standing), &image, &place);
    let store = match copy {
        Some(copy) => {
            let store = taken.inspect_err(|_| place.discard())?;
            place.finish(copy)?;
            store
        }
        None if is_open(&file, &place.path()) => taken?,
        None => return Err(Error::Refused(format!("{} was replaced while it was checked", path.display())).into()),
    };
    if expected.manifest.is_some() {
        place.copy_beside(&paths(path), store.rights())?;
    }
    let outcome = happen(&store, Event::Stage { image, tries: standing.rules.tries }, None)?;
    Ok(status::print(&store, &outcome.state, request.json)?)
}

/// The state, to be written: what was decided meanwhile may have made the place another image's, and haos.ini may ask for more.
fn take_unchanged(
    request: &Request,
    (before, standing): (Staged, &Standing),
    image: &ImageSource,
    place: &Place,
) -> Result<Store, Failure> {
    let store = Store::await_turn(&request.ini)?;
    let now = store.read()?;
    if now.rules != standing.rules {
        return Err(Error::Refused(format!("{}: [update] was changed meanwhile; try again", store.ini().display())).into());
    }
    match (before, may_stage(&now, image, place, request)?) {
        (Staged::No, Staged::UnderThisName) => Err(another(image)),
        _ => Ok(store),
    }
}

fn another(image: &ImageSource) -> Failure {
    Error::Refused(format!("another image is staged as {image}; `haosfs update rollback` before this one")).into()
}

/// Its name, as haos.ini says it.
fn name_of(path: &Path) -> Result<(OsString, ImageSource)> {
    let refused = |why: &str| Error::Refused(format!("{}: {why}", path.display()));
    let name = path.file_name().ok_or_else(|| refused("it has no name"))?;
    let text = name.to_str().ok_or_else(|| refused("its name is not UTF-8, as haos.ini must be"))?;
    if text.starts_with('.') {
        return Err(refused("its name begins with a dot"));
    }
    Ok((name.to_owned(), ImageSource::parse(text).map_err(|why| refused(&why))?))
}

fn expected(request: &Request, standing: &Standing) -> Result<Expected, Failure> {
    let sha256 = request
        .sha256
        .as_deref()
        .map(|text| parse_sha256(text).ok_or_else(|| Error::Refused(format!("--sha256 {text}: expected 64 hexadecimal digits"))));
    let sha256 = sha256.transpose()?;
    let key = request.key.as_ref().or(standing.rules.public_key.as_ref());
    let Some(key) = key else { return Ok(Expected { manifest: None, sha256 }) };
    let manifest = signed_manifest(&request.image, &public_key(key)?).map_err(Failure::image)?;
    Ok(Expected { manifest: Some(manifest), sha256 })
}

/// Whether an image of this name is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Staged {
    UnderThisName,
    No,
}

fn may_stage(standing: &Standing, image: &ImageSource, place: &Place, request: &Request) -> Result<Staged, Failure> {
    let state = &standing.state;
    let home = standing.stored.path.parent().unwrap_or(Path::new("."));
    let proven = [Some(&state.proven().good), state.proven().previous.as_ref()].into_iter().flatten();
    for (source, what) in proven.zip(["the system image", "the image before, to which a rollback leads"]) {
        let taken = image_choice::find(source, home).is_ok_and(|found| is_one_file(&found, &place.path()));
        if taken || source == image {
            return Err(Error::Refused(format!("{image} is {what}; it is not replaced")).into());
        }
    }
    if let Some(failed) = state.failed().filter(|failed| is_named_alike(&failed.image, image) && !request.again) {
        let told = format!("{image} has failed: {}; --again tries it once more", failed.why);
        return Err(Failure::image(Error::Refused(told)));
    }
    Ok(if state.next() == Some(image) { Staged::UnderThisName } else { Staged::No })
}

/// `images/a` is `a`, wherever it was put by whom.
fn is_named_alike(a: &ImageSource, b: &ImageSource) -> bool {
    Path::new(a.as_str()).file_name() == Path::new(b.as_str()).file_name()
}

/// Whether the very file, or one with the same content, is in its place.
fn is_staged(place: &Place, path: &Path) -> Result<bool> {
    let staged = place.path();
    Ok(is_one_file(path, &staged) || staged.is_file() && digest_of(path)? == digest_of(&staged)?)
}

fn digest_if_needed(path: &Path, expected: &Expected) -> Result<Option<[u8; 32]>> {
    let needed = expected.sha256.is_some() || expected.manifest.is_some();
    needed.then(|| digest_of(path)).transpose()
}

fn check_digest(path: &Path, found: &Option<[u8; 32]>, expected: &Expected) -> Result<(), Failure> {
    let wanted = [(expected.sha256, "--sha256"), (expected.manifest.as_ref().map(|manifest| manifest.sha256), "its manifest")];
    for (wanted, who) in wanted {
        if let (Some(wanted), Some(found)) = (wanted, found)
            && wanted != *found
        {
            let told = format!("{}: its SHA-256 is {}, {who} says {}", path.display(), show_sha256(found), show_sha256(&wanted));
            return Err(Failure::image(Error::Refused(told)));
        }
    }
    Ok(())
}

/// Reads all of it where that is squashfs. Of other formats only their digest tells.
fn verify(path: &Path, expected: &Expected) -> Result<(), Failure> {
    if let Some(driver) = image_choice::other_format(path)? {
        if expected.sha256.is_some() || expected.manifest.is_some() {
            return Ok(());
        }
        let told = format!("{}: {driver} cannot be verified here; say --sha256, or sign it", path.display());
        return Err(Failure::image(Error::Refused(told)));
    }
    let image = Image::open(path, &Options::default()).map_err(Failure::image)?;
    let inodes = u64::from(image.superblock().inodes);
    let mut progress = Progress::new("verifying", inodes);
    image.verify(|totals| progress.at(totals.inodes())).map_err(Failure::image)?;
    Ok(())
}
