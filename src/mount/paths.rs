//! How the directories of a mount may lie to each other: pure, on canonical paths.

use std::path::Path;

use crate::error::{Error, Result};

/// The canonical directories of a mount. Images take no part: they are mapped before anything is mounted.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// Where the union shall stand.
    pub mountpoint: &'a Path,
    /// Lower layers that are directories.
    pub lowers: &'a [&'a Path],
    /// Upper and work directory.
    pub upper: Option<(&'a Path, &'a Path)>,
}

/// Refuses arrangements in which the union would serve, or write into, itself.
///
/// # Errors
/// [`Error::Refused`], naming both directories.
pub fn check(places: &Places<'_>) -> Result<()> {
    let mountpoint = places.mountpoint;
    for lower in places.lowers {
        // A mount on the very root of a lower is sound: the daemon holds that directory open beneath it.
        if mountpoint != *lower && mountpoint.starts_with(lower) {
            return refuse("mountpoint", mountpoint, "lies inside the lower directory", lower);
        }
    }
    let Some((upper, work)) = places.upper else { return Ok(()) };
    if upper == work {
        return refuse("upper directory", upper, "is also the work directory", work);
    }
    if work.starts_with(upper) {
        return refuse("work directory", work, "lies inside the upper directory", upper);
    }
    if upper.starts_with(work) {
        return refuse("upper directory", upper, "lies inside the work directory", work);
    }
    for (name, directory) in [("upper directory", upper), ("work directory", work)] {
        if directory.starts_with(mountpoint) {
            return refuse(name, directory, "lies inside the mountpoint", mountpoint);
        }
        if mountpoint.starts_with(directory) {
            return refuse("mountpoint", mountpoint, &format!("lies inside the {name}"), directory);
        }
        for lower in places.lowers {
            if directory.starts_with(lower) {
                return refuse(name, directory, "lies inside the lower directory", lower);
            }
            if lower.starts_with(directory) {
                return refuse("lower directory", lower, &format!("lies inside the {name}"), directory);
            }
        }
    }
    Ok(())
}

fn refuse(name: &str, a: &Path, relation: &str, b: &Path) -> Result<()> {
    Err(Error::Refused(format!("{name} {} {relation} {}; choose separate directories", a.display(), b.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(mountpoint: &str, lowers: &[&str], upper: Option<(&str, &str)>) -> Option<String> {
        let lowers: Vec<&Path> = lowers.iter().map(Path::new).collect();
        let upper = upper.map(|(u, w)| (Path::new(u), Path::new(w)));
        check(&Places { mountpoint: Path::new(mountpoint), lowers: &lowers, upper }).err().map(|e| e.to_string())
    }

    #[test]
    fn separate_directories_are_fine() {
        assert_eq!(verdict("/mnt", &[], None), None);
        assert_eq!(verdict("/mnt", &["/l", "/m"], Some(("/d/upper", "/d/work"))), None);
        assert_eq!(verdict("/l", &["/l"], Some(("/d/upper", "/d/work"))), None);
        assert_eq!(verdict("/mnt-2", &["/mnt"], Some(("/d/up", "/d/upper"))), None);
    }

    #[test]
    fn directories_within_each_other_are_refused() {
        for (mountpoint, lower, upper, work, message) in [
            ("/mnt", "/l", "/u", "/u", "is also the work directory"),
            ("/mnt", "/l", "/u", "/u/w", "work directory /u/w lies inside the upper directory /u"),
            ("/mnt", "/l", "/w/u", "/w", "upper directory /w/u lies inside the work directory /w"),
            ("/mnt", "/l", "/mnt/u", "/w", "upper directory /mnt/u lies inside the mountpoint /mnt"),
            ("/mnt", "/l", "/mnt", "/w", "upper directory /mnt lies inside the mountpoint /mnt"),
            ("/mnt", "/l", "/u", "/mnt/w", "work directory /mnt/w lies inside the mountpoint /mnt"),
            ("/u/mnt", "/l", "/u", "/w", "mountpoint /u/mnt lies inside the upper directory /u"),
            ("/l/mnt", "/l", "/u", "/w", "mountpoint /l/mnt lies inside the lower directory /l"),
            ("/mnt", "/l", "/l/u", "/w", "upper directory /l/u lies inside the lower directory /l"),
            ("/mnt", "/u/l", "/u", "/w", "lower directory /u/l lies inside the upper directory /u"),
        ] {
            let found = verdict(mountpoint, &[lower], Some((upper, work))).unwrap_or_default();
            assert!(found.contains(message), "{message}: {found}");
        }
    }
}
