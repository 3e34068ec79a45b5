//! A root with an upper in memory, where no image can be booted with its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::machine::Machine;
use super::sequence::Acts as _;
use super::{Request, announce, leave, record, trust};
use crate::commands::mount::Side;
use crate::config::haos_ini::Config;
use crate::config::image_source::ImageSource;
use crate::config::store::directory_of;
use crate::config::update_rules::{UPDATE, UpdateRules};
use crate::error::{Errno, Error, Result};
use crate::mount::boot_record::Mode;
use crate::mount::{Ground, image_choice};
use crate::update::store::Store;

/// Why an image gets an upper in memory.
pub struct Memory {
    /// For set-up, or since something has failed.
    pub mode: Mode,
    /// Which says more.
    pub why: String,
    /// What is known of the configuration.
    pub config: Option<Config>,
    /// When this boot was begun, in seconds since the machine was started.
    pub started: u64,
}

/// The good image, or else the newest that can be booted.
///
/// # Errors
/// Where there is none.
pub fn boot(request: &Request, machine: &mut Machine<'_>, memory: Memory) -> Result<()> {
    let (candidates, mut last) = candidates(&request.ini, memory.config.as_ref());
    let home = directory_of(&request.ini);
    for candidate in candidates {
        machine.go_on()?;
        let image = candidate.path;
        let trusted = if candidate.proven { Ok(()) } else { trusted(&image, &home, memory.config.as_ref()) };
        match trusted.and_then(|()| machine.mount_on(Ground::Memory { image: image.clone() })) {
            Ok(Side::Server) => return Ok(()),
            Ok(Side::Asker) => {
                let Memory { mode, why, config, started } = memory;
                let name = image.display().to_string();
                let what = if mode == Mode::Safe { "SAFE MODE" } else { "SET-UP" };
                announce::loudly(&[
                    format!("haosfs: {what}: {why}"),
                    format!("haosfs: {name} is booted; nothing that is written will be kept"),
                ]);
                let record = record(request, machine, mode, name, Some(why), started);
                leave(request, &record, config.as_ref());
                return Ok(());
            }
            // This process was asked to end.
            Err(e) if e.errno() == Errno::EINTR => return Err(e),
            Err(e) => {
                tracing::error!("{}: {e}", image.display());
                last = Some(e);
            }
        }
    }
    let why = memory.why;
    Err(last.map_or_else(|| Error::Refused(why.clone()), |e| Error::Refused(format!("{why}; {e}"))))
}

/// An image that could be booted.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    /// It was confirmed, once.
    proven: bool,
}

/// Each image once: those that have proven themselves, then the others, the newest first, and at the end what has failed, or was never
/// confirmed though it was tried. With why there are no others.
fn candidates(ini: &Path, config: Option<&Config>) -> (Vec<Candidate>, Option<Error>) {
    let store = Store::look(ini);
    let home = store.as_ref().map_or_else(|_| directory_of(ini), Store::directory);
    let counted = store.map(|store| store.counted()).unwrap_or_default();
    let found = |sources: Vec<&ImageSource>| -> Vec<PathBuf> {
        sources.into_iter().filter_map(|source| image_choice::find(source, &home).ok()).collect()
    };
    let of_config = |pick: fn(&Config) -> [Option<&ImageSource>; 2]| config.into_iter().flat_map(pick).flatten();
    let proven = found(of_config(|config| [Some(&config.system_image), config.previous_image.as_ref()]).collect());
    let doubtful = of_config(|config| [config.failed_image.as_ref(), config.update_image.as_ref()]);
    let doubtful = found(doubtful.chain(&counted).collect());
    let (others, why) = match image_choice::by_version(&home) {
        Ok(others) => (others, None),
        Err(e) => (Vec::new(), Some(e)),
    };
    let has = |paths: &[PathBuf], path: &Path| paths.iter().any(|other| is_same(other, path));
    let (last, others): (Vec<PathBuf>, Vec<PathBuf>) = others.into_iter().partition(|path| has(&doubtful, path));
    let mut candidates: Vec<Candidate> = Vec::new();
    let all = proven.into_iter().map(|path| (path, true)).chain(others.into_iter().chain(last).map(|path| (path, false)));
    for (path, proven) in all {
        if !candidates.iter().any(|candidate| is_same(&candidate.path, &path)) {
            candidates.push(Candidate { path, proven });
        }
    }
    (candidates, why)
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || fs::canonicalize(one).ok().is_some_and(|real| fs::canonicalize(other).is_ok_and(|other| other == real))
}

/// Where haos.ini asks for signatures, what has not proven itself is not booted without one.
fn trusted(image: &Path, home: &Path, config: Option<&Config>) -> Result<()> {
    let Some(config) = config else { return Ok(()) };
    match UpdateRules::of(config) {
        Ok(rules) => trust::check(image, home, &rules),
        Err(_) if !asks_for_signatures(config) => Ok(()),
        Err(flaws) => {
            let flaw = flaws.first().map_or_else(String::new, ToString::to_string);
            Err(Error::Refused(format!("whether it is signed is not known, for haos.ini:{flaw}")))
        }
    }
}

fn asks_for_signatures(config: &Config) -> bool {
    let mut sections = config.extensions.iter().filter(|section| section.name == UPDATE);
    sections.any(|section| section.entries.iter().any(|entry| entry.key == "public_key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::store;

    fn name(version: &str) -> String {
        format!("haos-{}_{version}.squashfs", rustix::system::uname().machine().to_string_lossy())
    }

    fn order(directory: &Path, config: Option<&Config>) -> Vec<(String, bool)> {
        let (candidates, why) = candidates(&directory.join("haos.ini"), config);
        assert!(why.is_none(), "{why:?}");
        let told = |c: &Candidate| (c.path.file_name().unwrap().to_str().unwrap().to_owned(), c.proven);
        candidates.iter().map(told).collect()
    }

    #[test]
    fn what_has_failed_comes_last() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        for version in ["1.0", "1.1", "1.2", "1.3", "1.4"] {
            fs::write(directory.join(name(version)), "x").unwrap();
        }
        let text = format!(
            "[haos]\ndata_partition = ./d\nsystem_image = {}\nprevious_image = {}\nfailed_image = {}\nupdate_image = {}\n",
            name("1.1"),
            name("1.0"),
            name("1.4"),
            name("1.2")
        );
        fs::write(directory.join("haos.ini"), text).unwrap();
        let config = store::read(&directory.join("haos.ini")).unwrap().unwrap().config;
        let proven = |version: &str| (name(version), true);
        let other = |version: &str| (name(version), false);
        let all = [proven("1.1"), proven("1.0"), other("1.3"), other("1.4"), other("1.2")];
        assert_eq!(order(directory, Some(&config)), all);
        // Nothing can be read but the counts.
        fs::create_dir(directory.join("trial")).unwrap();
        fs::write(directory.join("trial").join(format!("{}+1-2", name("1.4"))), "").unwrap();
        assert_eq!(order(directory, None), ["1.3", "1.2", "1.1", "1.0", "1.4"].map(other));
    }

    #[test]
    fn signatures_are_asked_for_where_the_rules_are_mistaken() {
        let config =
            |rules: &str| Config::parse(&format!("[haos]\ndata_partition = ./d\nsystem_image = a\n[update]\n{rules}")).unwrap();
        let asked = |rules: Option<&str>| trusted(Path::new("/none"), Path::new("/haos"), rules.map(config).as_ref());
        assert!(asked(None).is_ok() && asked(Some("tries = many\n")).is_ok());
        let why = asked(Some("tries = many\npublic_key = RWQ\n")).unwrap_err().to_string();
        assert!(why.contains("whether it is signed is not known, for haos.ini:5: tries: many"), "{why}");
        assert!(asked(Some("public_key = RWQ\n")).is_err());
    }
}
