//! haos.ini: from text to one validated value.

use super::data_partition::DataPartition;
use super::image_source::ImageSource;
use super::ini::{self, Entry, Flaw, Section};

/// The section that is ours.
pub const HAOS: &str = "haos";

/// Larger files are none of ours, in bytes.
pub const LARGEST: u64 = 1 << 20;

/// What haos.ini says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `data_partition=`.
    pub data_partition: DataPartition,
    /// `system_image=`: the image that is known to be good.
    pub system_image: ImageSource,
    /// `update_image=`: the image to be tried next.
    pub update_image: Option<ImageSource>,
    /// `previous_image=`: the image that was good before.
    pub previous_image: Option<ImageSource>,
    /// `failed_image=`: the image that failed last, which is not tried again by accident.
    pub failed_image: Option<ImageSource>,
    /// `failed_reason=`: why, in one line.
    pub failed_reason: Option<String>,
    /// Keys of `[haos]` that this version does not know.
    pub unknown: Vec<Entry>,
    /// All other sections, in order: for set-up, networks and the like, and for versions to come.
    pub extensions: Vec<Section>,
}

/// The keys of `[haos]`.
const KEYS: [&str; 6] = ["data_partition", "system_image", "update_image", "previous_image", "failed_image", "failed_reason"];

/// The section that a boot hands on, for whoever sets networks up.
const NETWORK: &str = "network";

impl Config {
    /// The sections `[network]`, which may have keys that are nobody else's business.
    pub fn networks(&self) -> impl Iterator<Item = &Section> {
        self.extensions.iter().filter(|section| section.name == NETWORK)
    }

    /// Reads and validates a file.
    ///
    /// # Errors
    /// Everything that is wrong, at least one flaw.
    pub fn parse(text: &str) -> Result<Self, Vec<Flaw>> {
        if text.trim().is_empty() {
            return Err(vec![Flaw { line: None, key: None, why: "it is empty".to_owned() }]);
        }
        let sections = ini::read(text).map_err(|flaw| vec![flaw])?;
        let (ours, extensions): (Vec<Section>, Vec<Section>) = sections.into_iter().partition(|section| section.name == HAOS);
        let section = match <[Section; 1]>::try_from(ours) {
            Ok([section]) => section,
            Err(ours) => {
                let why = "expected one section [haos]";
                let flaw = ours.get(1).map_or_else(
                    || Flaw { line: None, key: None, why: format!("{why}, found none") },
                    |again| Flaw::at(again.line, format!("{why}, this is another")),
                );
                return Err(vec![flaw]);
            }
        };
        validate(section, extensions)
    }
}

fn validate(section: Section, extensions: Vec<Section>) -> Result<Config, Vec<Flaw>> {
    let mut flaws = Vec::new();
    let (known, unknown): (Vec<Entry>, Vec<Entry>) =
        section.entries.into_iter().partition(|entry| KEYS.contains(&entry.key.as_str()));
    let data_partition = take(&known, "data_partition", DataPartition::parse, &mut flaws);
    let system_image = take(&known, "system_image", ImageSource::parse, &mut flaws);
    let update_image = take(&known, "update_image", ImageSource::parse, &mut flaws);
    let previous_image = take(&known, "previous_image", ImageSource::parse, &mut flaws);
    let failed_image = take(&known, "failed_image", ImageSource::parse, &mut flaws);
    let failed_reason = take(&known, "failed_reason", |why| Ok(why.to_owned()), &mut flaws);
    let mut require = |key: &str, expected: &str| {
        if !known.iter().any(|entry| entry.key == key) {
            flaws.push(Flaw::without(key, format!("it is missing from [{HAOS}]; expected {key} = {expected}")));
        }
    };
    require("data_partition", "{GUID},fs=TYPE");
    require("system_image", "IMAGE");
    match (data_partition, system_image) {
        (Some(data_partition), Some(system_image)) if flaws.is_empty() => Ok(Config {
            data_partition,
            system_image,
            update_image,
            previous_image,
            failed_image,
            failed_reason,
            unknown,
            extensions,
        }),
        _ => Err(flaws),
    }
}

fn take<T>(entries: &[Entry], key: &str, parse: impl Fn(&str) -> Result<T, String>, flaws: &mut Vec<Flaw>) -> Option<T> {
    let mut found = entries.iter().filter(|entry| entry.key == key);
    let first = found.next()?;
    if let Some(again) = found.next() {
        flaws.push(Flaw::of(again.line, key, format!("it is given again; line {} has it already", first.line)));
    }
    parse(&first.value).map_err(|why| flaws.push(Flaw::of(first.line, key, why))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOUND: &str = "[haos]
data_partition = {a52a4597-fa3a-4851-aefd-2fbe9f849079},fs=btrfs,otherparams=1
system_image = haos-x86_64_7.1.0.0.squashfs
update_image = haos-x86_64_7.1.1.0.squashfs
";

    fn flaws(text: &str) -> Vec<String> {
        Config::parse(text).unwrap_err().iter().map(|flaw| format!("haos.ini:{flaw}")).collect()
    }

    #[test]
    fn a_file_becomes_a_value() {
        let config = Config::parse(&format!("{SOUND}colour = blue\n[network]\naddress = 10.0.0.2\n[setup]\n")).unwrap();
        assert_eq!(config.system_image.as_str(), "haos-x86_64_7.1.0.0.squashfs");
        assert_eq!(config.update_image.unwrap().as_str(), "haos-x86_64_7.1.1.0.squashfs");
        assert_eq!((config.previous_image, config.failed_image, config.failed_reason), (None, None, None));
        assert_eq!(config.data_partition.fs.as_deref(), Some("btrfs"));
        assert_eq!(config.unknown.iter().map(|e| (&*e.key, e.line)).collect::<Vec<_>>(), [("colour", 5)]);
        assert_eq!(config.extensions.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["network", "setup"]);
    }

    #[test]
    fn flaws_name_line_key_and_what_was_expected() {
        for (text, expected) in [
            ("", &["haos.ini: it is empty"][..]),
            (" \n\n", &["haos.ini: it is empty"]),
            ("# c\n", &["haos.ini: expected one section [haos], found none"]),
            ("[haos]\n[haos]\n", &["haos.ini:2: expected one section [haos], this is another"]),
            (
                "[haos]\n",
                &[
                    "haos.ini: data_partition: it is missing from [haos]; expected data_partition = {GUID},fs=TYPE",
                    "haos.ini: system_image: it is missing from [haos]; expected system_image = IMAGE",
                ],
            ),
            (
                "[haos]\ndata_partition = data\n\nsystem_image = ../x\n",
                &[
                    "haos.ini:2: data_partition: data: expected {GUID}",
                    "haos.ini:4: system_image: ../x: expected the name of an image",
                ],
            ),
            (
                "[haos]\ndata_partition=/d\nsystem_image = x\nsystem_image = y\n",
                &["haos.ini:4: system_image: it is given again; line 3 has it already"],
            ),
            (
                "[haos]\ndata_partition=/d\nsystem_image = x\nfailed_image = ../y\nprevious_image =\n",
                &["haos.ini:5: previous_image: it is empty", "haos.ini:4: failed_image: ../y: expected the name of an image"],
            ),
            ("[haos]\nsystem_image\n", &["haos.ini:2: expected [section], key = value or # comment, found \"system_image\""]),
        ] {
            let found = flaws(text);
            assert_eq!(found.len(), expected.len(), "{text:?}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{text:?}: {found}");
            }
        }
    }

    /// Wherever a file is cut off within what we must know, that is seen.
    #[test]
    fn torn_files_are_no_configurations() {
        let must = SOUND.find("system_image").unwrap();
        for cut in 0..must {
            assert!(Config::parse(&SOUND[..cut]).is_err(), "{:?}", &SOUND[..cut]);
        }
        let mut zeroed = SOUND.as_bytes().to_vec();
        zeroed.iter_mut().skip(must).for_each(|byte| *byte = 0);
        assert!(Config::parse(std::str::from_utf8(&zeroed).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(
            text in "\\PC{0,20}",
            data in "(\\{|UUID=|PARTUUID=|disk=|fs=|/|,|\\\\|[0-9a-f-]|\\PC){0,12}",
            image in "(images|/|\\.|\\PC){0,6}",
        ) {
            let _ = Config::parse(&text);
            if let Ok(config) = Config::parse(&format!("[haos]\ndata_partition = {data}\nsystem_image = {image}\n{text}\n")) {
                prop_assert_eq!(config.system_image.as_str(), image.trim());
                prop_assert!(!config.system_image.candidates(std::path::Path::new("/haos")).is_empty());
            }
        }
    }
}
