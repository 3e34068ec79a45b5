//! `haosfs update gc`: images and uppers that nobody needs go.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::slice;

use serde_json::json;

use super::outcome::Failure;
use super::place::{is_held, is_one_file};
use crate::commands::output::{Output, printable};
use crate::config::image_source::{IMAGES, ImageSource};
use crate::error::{Error, Result};
use crate::mount::{boot_record, image_choice, trial};
use crate::sys::{data, dir, replace};
use crate::update::garbage::{Reason, Verdict, judge};
use crate::update::signature;
use crate::update::store::{Standing, Store};

/// Removes them, or with `dry_run` only says which. The system image is opened before: without one that is sound, nothing goes.
///
/// # Errors
/// Where the system image is not sound; what reading or removing answers.
pub fn run(ini: &Path, dry_run: bool, json: bool) -> Result<(), Failure> {
    let store = Store::take(ini)?;
    let standing = store.read()?;
    let home = store.directory();
    let system = system_image(&standing, &home)?;
    let files = files(&home)?;
    let running = boot_record::read()?.map(|booted| booted.images()).unwrap_or_default();
    let sources = sources(&standing, &running);
    let verdicts = judge(&files, &system, &needed(&sources, &home, &files));
    let (mut kept, mut removed, mut unnamed) = (Vec::new(), Vec::new(), Vec::new());
    for (path, verdict) in verdicts {
        match verdict {
            Verdict::Kept(reason) => kept.push((path, reason)),
            Verdict::Garbage => {
                if dry_run || remove(&path, &mut unnamed)? {
                    removed.push(path);
                }
            }
        }
    }
    let sources: Vec<&ImageSource> = sources.iter().map(|(source, _)| *source).collect();
    let uppers = trial::collect(&standing.stored, &home, &sources, dry_run)?;
    // What goes has no name any more. To free it may take minutes, and a trial may be confirmed meanwhile.
    drop(store);
    drop(unnamed);
    let uppers = uppers.clear()?;
    Ok(print(&kept, &removed, &uppers, dry_run, json)?)
}

fn system_image(standing: &Standing, home: &Path) -> Result<PathBuf> {
    image_choice::find_sound(&standing.state.proven().good, home)
        .map_err(|e| Error::Refused(format!("nothing is removed, because the system image is not sound: {e}")))
}

fn sources<'a>(standing: &'a Standing, running: &'a [ImageSource]) -> Vec<(&'a ImageSource, Reason)> {
    let proven = standing.state.proven();
    let sources = [
        (slice::from_ref(&proven.good), Reason::System),
        (proven.previous.as_slice(), Reason::Previous),
        // As it is written: one that is not tried because it has failed may be meant all the same.
        (standing.stored.config.update_image.as_slice(), Reason::Update),
        (&standing.rules.pinned, Reason::Pinned),
        (running, Reason::Running),
    ];
    sources.into_iter().flat_map(|(images, reason)| images.iter().map(move |image| (image, reason))).collect()
}

fn needed(sources: &[(&ImageSource, Reason)], home: &Path, files: &[PathBuf]) -> Vec<(PathBuf, Reason)> {
    let mut needed = Vec::new();
    for (source, reason) in sources {
        // All places: a file in the second is used where the first is lost.
        needed.extend(source.candidates(home).into_iter().map(|path| (path, *reason)));
    }
    // By other ways, too: links, mounts, and letters of the other case.
    let same =
        |file: &PathBuf| needed.iter().find(|(path, _)| is_one_file(path, file)).map(|(_, reason)| (file.clone(), *reason));
    let others: Vec<_> = files.iter().filter_map(same).collect();
    needed.extend(others);
    needed
}

fn files(home: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in [home.to_owned(), home.join(IMAGES)] {
        let failed = |e| Error::sys("list", &directory, e);
        let entries = match fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// With its manifest and signature. False for one that is just being copied, or checked. Of an image only the name goes: its blocks are
/// given back with `unnamed`.
fn remove(path: &Path, unnamed: &mut Vec<OwnedFd>) -> Result<bool> {
    let (parent, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let failed = |e| Error::sys("remove", path, e);
    let directory = replace::open_dir(parent).map_err(failed)?;
    let file = dir::look_into(&directory, name);
    if is_held(&file) {
        return Ok(false);
    }
    for beside in signature::paths(path).iter().filter(|path| path.is_file()) {
        dir::unlink(&directory, beside.file_name().unwrap_or_default()).map_err(failed)?;
    }
    dir::unlink(&directory, name).and_then(|()| data::sync(&directory, false)).map_err(failed)?;
    unnamed.extend(file);
    Ok(true)
}

fn print(kept: &[(PathBuf, Reason)], removed: &[PathBuf], uppers: &[u64], dry_run: bool, json: bool) -> Result<()> {
    let mut output = Output::open();
    if json {
        let name = |path: &PathBuf| path.to_string_lossy().into_owned();
        let kept: Vec<_> = kept.iter().map(|(path, reason)| json!({ "image": name(path), "as": word(*reason) })).collect();
        let removed: Vec<_> = removed.iter().map(name).collect();
        let object = json!({ "kept": kept, "removed": removed, "removed_generations": uppers, "dry_run": dry_run });
        output.line(&object.to_string())?;
        return output.finish();
    }
    let goes = if dry_run { "would go" } else { "removed" };
    for (path, reason) in kept {
        output.line(&format!("{:<9} {} ({} image)", "kept", printable(path.as_os_str()), word(*reason)))?;
    }
    for path in removed {
        output.line(&format!("{goes:<9} {}", printable(path.as_os_str())))?;
    }
    for number in uppers {
        output.line(&format!("{goes:<9} upper generation {number}"))?;
    }
    output.finish()
}

const fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::System => "system",
        Reason::Previous => "previous",
        Reason::Update => "update",
        Reason::Pinned => "pinned",
        Reason::Running => "running",
    }
}
