//! What a boot leaves for the system that it boots: files that a shell or systemd (`EnvironmentFile=`) reads, in /run/haosfs.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::record::DIRECTORY;
use crate::config::haos_ini::Config;
use crate::config::image_source::ImageSource;
use crate::error::{Error, Result};
use crate::sys::replace::{self, Rights};

/// How it was booted.
pub const BOOT: &str = "boot.env";
/// What haos.ini says in `[network]`.
pub const NETWORK: &str = "network.env";

/// The system partition in a system, and haos.ini on it.
const SYSTEM: &str = "/haos";
const INI: &str = "/haos/haos.ini";

/// The system partition in an initramfs of ours, which moves it to [`SYSTEM`] where the system has that directory.
const BEFORE: &str = "/run/haosfs/system";

/// A file is never larger than this, in bytes.
const LARGEST: u64 = 1 << 20;

/// What was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The system image with its upper.
    System,
    /// An image that is tried.
    Trial,
    /// An image with an upper in memory, since nothing is configured yet.
    Setup,
    /// An image with an upper in memory, since the images or the data partition failed.
    Safe,
}

impl Mode {
    /// Its name in files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Trial => "trial",
            Self::Setup => "setup",
            Self::Safe => "safe",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::System, Self::Trial, Self::Setup, Self::Safe].into_iter().find(|mode| mode.name() == name)
    }
}

/// One boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootRecord {
    /// What was booted.
    pub mode: Mode,
    /// The image: as haos.ini names it, or its path.
    pub image: String,
    /// Why it is this one, where another was meant.
    pub why: Option<String>,
    /// haos.ini, where the initramfs had it.
    pub ini: PathBuf,
    /// The program that shall be executed first.
    pub init: String,
    /// When this boot was begun, in seconds since the machine was started; of a trial, when its upper was there.
    pub started: u64,
}

impl BootRecord {
    /// Whether an image is running, and is tried by that.
    #[must_use]
    pub fn is_trial_of(&self, image: &ImageSource) -> bool {
        self.mode == Mode::Trial && self.image == image.as_str()
    }

    /// What haos.ini may call the image that is running. In safe mode its path alone is known, which is no more where the initramfs has
    /// moved the system partition since: then it is known by its name.
    #[must_use]
    pub fn images(&self) -> Vec<ImageSource> {
        let name = self.image.rsplit('/').next().unwrap_or_default();
        [&*self.image, name].into_iter().filter_map(|image| ImageSource::parse(image).ok()).collect()
    }

    /// The initramfs may have had it elsewhere.
    fn ini_now(&self) -> PathBuf {
        if self.ini.exists() {
            return self.ini.clone();
        }
        self.ini.strip_prefix(BEFORE).map_or_else(|_| INI.into(), |within| Path::new(SYSTEM).join(within))
    }

    /// Leaves it, and what haos.ini says of the network.
    ///
    /// # Errors
    /// What writing answers.
    pub fn leave(&self, config: Option<&Config>) -> Result<()> {
        let failed = |e| Error::sys("leave word in", DIRECTORY, e);
        DirBuilder::new().mode(0o755).recursive(true).create(DIRECTORY).map_err(failed)?;
        let directory = replace::open_dir(Path::new(DIRECTORY)).map_err(|e| Error::sys("open", DIRECTORY, e))?;
        let write = |name: &str, text: &str, perm| {
            let rights = Rights { perm, owner: None };
            replace::file(&directory, OsStr::new(name), text.as_bytes(), rights).map_err(|e| Error::sys("write", name, e))
        };
        // The key of a wireless network may be there.
        write(NETWORK, &config.map_or_else(String::new, network), 0o600)?;
        write(BOOT, &self.text(), 0o644)
    }

    fn text(&self) -> String {
        let ini = self.ini.display().to_string();
        let mut lines = vec![
            ("HAOSFS_MODE", self.mode.name().to_owned()),
            ("HAOSFS_IMAGE", self.image.clone()),
            ("HAOSFS_INI", ini),
            ("HAOSFS_INIT", self.init.clone()),
            ("HAOSFS_STARTED", self.started.to_string()),
        ];
        lines.extend(self.why.clone().map(|why| ("HAOSFS_WHY", why)));
        lines.iter().map(|(name, value)| line(name, value)).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| unquoted(line.strip_prefix(name)?.strip_prefix('=')?));
        Some(Self {
            mode: Mode::named(&value("HAOSFS_MODE")?)?,
            image: value("HAOSFS_IMAGE")?,
            why: value("HAOSFS_WHY"),
            ini: value("HAOSFS_INI")?.into(),
            init: value("HAOSFS_INIT")?,
            started: value("HAOSFS_STARTED")?.parse().ok()?,
        })
    }
}

/// How the running system was booted; `None` where that was not by `haosfs boot`, or /run was not handed on.
///
/// # Errors
/// Where it is there and cannot be read.
pub fn read() -> Result<Option<BootRecord>> {
    let path = Path::new(DIRECTORY).join(BOOT);
    match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > LARGEST => return Err(Error::Refused(format!("{} is too large", path.display()))),
        _ => {}
    }
    let text = fs::read_to_string(&path).map_err(|e| Error::sys("read", &path, e))?;
    let record = BootRecord::parse(&text);
    record.map(Some).ok_or_else(|| Error::Refused(format!("{} is not what a boot has left", path.display())))
}

/// haos.ini where nobody names one: that which was booted from, where it stands now, or else [`INI`].
#[must_use]
pub fn usual_ini() -> PathBuf {
    read().ok().flatten().map_or_else(|| INI.into(), |booted| booted.ini_now())
}

/// `NETWORK_KEY="value"` for each key: upper case, and `_` for what no name of a variable can have.
fn network(config: &Config) -> String {
    let entries = config.networks().flat_map(|section| &section.entries);
    entries.map(|entry| line(&format!("NETWORK_{}", variable(&entry.key)), &entry.value)).collect()
}

fn variable(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// What means something between double quotes, to a shell and in an `EnvironmentFile=` alike (systemd.exec(5)).
const SPECIAL: [char; 4] = ['"', '\\', '$', '`'];

/// One line for both. A line break would end it for systemd.
fn line(name: &str, value: &str) -> String {
    let mut line = format!("{name}=\"");
    for c in value.chars() {
        line.extend(SPECIAL.contains(&c).then_some('\\'));
        line.push(if c.is_control() { ' ' } else { c });
    }
    line.push_str("\"\n");
    line
}

/// `None` for what [`line`] does not write.
fn unquoted(value: &str) -> Option<String> {
    let mut rest = value.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut text = String::new();
    while let Some(c) = rest.next() {
        text.push(match c {
            '\\' => rest.next().filter(|c| SPECIAL.contains(c))?,
            c if SPECIAL.contains(&c) => return None,
            c => c,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read() {
        for why in [None, Some("it's \"$odd\" `here` \\")] {
            let record = BootRecord {
                mode: Mode::Safe,
                image: "a b.squashfs".to_owned(),
                why: why.map(str::to_owned),
                ini: "/haos/haos.ini".into(),
                init: "/sbin/init".to_owned(),
                started: 7,
            };
            assert_eq!(BootRecord::parse(&record.text()), Some(record.clone()));
            let torn = record.text();
            assert_eq!(BootRecord::parse(&torn[..20]), None);
        }
    }

    #[test]
    fn haos_ini_is_found_where_the_initramfs_has_moved_it() {
        for (ini, found) in [
            ("/run/haosfs/system/haos.ini", "/haos/haos.ini"),
            ("/run/haosfs/system/conf/other.ini", "/haos/conf/other.ini"),
            ("/elsewhere/haos.ini", INI),
            ("/proc/self/status", "/proc/self/status"),
        ] {
            let (image, init) = (String::new(), String::new());
            let booted = BootRecord { mode: Mode::Trial, image, why: None, ini: ini.into(), init, started: 0 };
            assert_eq!(booted.ini_now(), Path::new(found), "{ini}");
        }
    }

    /// What systemd makes of it is the same (systemd.exec(5), "double quotes").
    #[test]
    fn a_shell_reads_it() {
        for value in ["plain", "it's \"$HOME\" `id` \\ \\n \\\\", "", " a  b "] {
            let script = format!("{}printf %s \"$X\"", line("X", value));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value, "{script}");
        }
        assert_eq!(unquoted("\"a\"b\""), None);
        assert_eq!(unquoted("\"a\\\""), None);
    }

    #[test]
    fn answers_become_variables() {
        let text = "[haos]\ndata_partition = ./d\nsystem_image = a\n[network]\naddress = 192.0.2.7/24\nhost-name = it's\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(network(&config), "NETWORK_ADDRESS=\"192.0.2.7/24\"\nNETWORK_HOST_NAME=\"it's\"\n");
    }
}
