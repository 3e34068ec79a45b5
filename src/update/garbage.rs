//! Which images nobody needs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::image_name::ImageName;

/// Files that were being copied when the power went.
const UNFINISHED: (&str, &str) = (".", ".part");

/// The name of an image while it is copied.
#[must_use]
pub fn unfinished(name: &OsStr) -> OsString {
    let mut hidden = OsString::from(UNFINISHED.0);
    hidden.push(name);
    hidden.push(UNFINISHED.1);
    hidden
}

/// Why a file stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the system image.
    System,
    /// It is the image before, to which a rollback leads.
    Previous,
    /// It waits, or is tried.
    Update,
    /// haos.ini says that it shall.
    Pinned,
    /// It was booted.
    Running,
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Kept(Reason),
    /// It goes.
    Garbage,
}

/// Judges the files in the directories of images. `needed` are files that stay, the first reason for each counts; `system` is the
/// system image. Only images for the same platform go, and what is left of copying one: anything else is not ours.
#[must_use]
pub fn judge(files: &[PathBuf], system: &Path, needed: &[(PathBuf, Reason)]) -> Vec<(PathBuf, Verdict)> {
    let platform = system.file_name().and_then(ImageName::parse).map(|name| name.platform);
    let verdict = |file: &PathBuf| {
        if let Some((_, reason)) = needed.iter().find(|(path, _)| path == file) {
            return Some(Verdict::Kept(*reason));
        }
        let name = file.file_name()?;
        let whole = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED.0)?.strip_suffix(UNFINISHED.1));
        let image = ImageName::parse(whole.map_or(name, OsStr::new))?;
        (Some(image.platform) == platform).then_some(Verdict::Garbage)
    };
    files.iter().filter_map(|file| Some((file.clone(), verdict(file)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_goes() {
        let at = |name: &str| Path::new("/haos").join(name);
        let names = [
            "haos-x86_64_1.0.squashfs",
            "haos-x86_64_2.0.squashfs",
            "haos-x86_64_3.0.squashfs",
            "images/haos-x86_64_4.0.squashfs",
            "haos-aarch64_1.0.squashfs",
            "haos.ini",
            "notes.squashfs",
            ".haos-x86_64_5.0.squashfs.part",
            ".notes.part",
        ];
        let files: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
        let needed = [(at(names[1]), Reason::System), (at(names[3]), Reason::Pinned), (at(names[1]), Reason::Pinned)];
        let found = judge(&files, &at(names[1]), &needed);
        let expected = [
            (at(names[0]), Verdict::Garbage),
            (at(names[1]), Verdict::Kept(Reason::System)),
            (at(names[2]), Verdict::Garbage),
            (at(names[3]), Verdict::Kept(Reason::Pinned)),
            (at(names[7]), Verdict::Garbage),
        ];
        assert_eq!(found, expected);
        let odd = judge(&files, &at("system.img"), &[(at("system.img"), Reason::System)]);
        assert_eq!(odd, [], "without a platform nothing is known to be of the same");
    }
}
