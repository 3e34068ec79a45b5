//! `data_partition = WHERE[,IDENTITY...][,fs=TYPE][,OPTION...]`: where uppers live.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::option_list::{name_and_value, split_unescaped, unescape};

/// Something that a partition is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `{GUID}`, `PARTUUID=`: the unique id in the partition table, in lower case (`xxxxxxxx-nn` in MBR tables, as the kernel
    /// has it).
    PartUuid(String),
    /// `PARTLABEL=`: the name in a GPT.
    PartLabel(String),
    /// `UUID=`: the id of the file system, in lower case.
    Uuid(String),
    /// `LABEL=`: the name of the file system.
    Label(String),
    /// `disk=`: the serial number of the disk it lies on.
    Disk(String),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tag, value) = self.parts();
        write!(f, "{tag}={value}")
    }
}

impl Identity {
    /// The word before the `=`, and what stands behind it.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::PartUuid(value) => ("PARTUUID", value),
            Self::PartLabel(value) => ("PARTLABEL", value),
            Self::Uuid(value) => ("UUID", value),
            Self::Label(value) => ("LABEL", value),
            Self::Disk(value) => ("disk", value),
        }
    }
}

/// The first item: where the data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the partition that has this.
    Partition(Identity),
    /// At this path: a device, or a directory. A relative one starts at the ini file's directory.
    Path(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(identity) => identity.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Where uppers live, and how that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPartition {
    /// Where it is.
    pub place: Place,
    /// What else must be true of it.
    pub also: Vec<Identity>,
    /// `fs=`: the type of its file system, as mount(8) takes it.
    pub fs: Option<String>,
    /// Options for its mount, in order.
    pub options: Vec<String>,
}

/// What the first item may be, for messages.
const PLACES: &str =
    "{GUID}, PARTUUID=..., UUID=..., LABEL=..., PARTLABEL=..., a device or a directory (/dev/sda8, /data, ./data)";

impl DataPartition {
    /// Reads the value. Backslashes make commas part of an item (`LABEL=a\,b`).
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse(value: &str) -> Result<Self, String> {
        let mut items = split_unescaped(value.as_bytes(), b',').into_iter().map(|item| item.trim_ascii());
        let place = place(items.next().unwrap_or_default())?;
        let mut data = Self { place, also: Vec::new(), fs: None, options: Vec::new() };
        items.try_for_each(|item| data.read_item(item))?;
        Ok(data)
    }

    fn read_item(&mut self, item: &[u8]) -> Result<(), String> {
        if item.is_empty() {
            return Err("an item between commas is empty".to_owned());
        }
        if let Some(identity) = identity(item)? {
            self.also.push(identity);
            return Ok(());
        }
        let text = text(item);
        match name_and_value(item) {
            (b"fs", Some(fs)) if is_fs(fs) && self.fs.is_none() => self.fs = Some(String::from_utf8_lossy(fs).into_owned()),
            (b"fs", Some(fs)) if is_fs(fs) => return Err("fs= is given twice".to_owned()),
            (b"fs", _) => return Err(format!("{text}: expected fs=TYPE, such as fs=ext4")),
            _ => self.options.push(text),
        }
        Ok(())
    }
}

fn place(item: &[u8]) -> Result<Place, String> {
    if item.starts_with(b"/") || item.starts_with(b"./") || item.starts_with(b"../") {
        return Ok(Place::Path(unescape(item).into()));
    }
    match identity(item)? {
        Some(Identity::Disk(_)) => Err(format!("disk= only narrows the choice; begin with {PLACES}")),
        Some(identity) => Ok(Place::Partition(identity)),
        None => guid(item).map(|guid| Place::Partition(Identity::PartUuid(guid))),
    }
}

/// `{GUID}` with or without its braces.
fn guid(item: &[u8]) -> Result<String, String> {
    let text = text(item);
    let bare = text.strip_prefix('{').map_or(Some(text.as_str()), |inner| inner.strip_suffix('}'));
    match bare.filter(|bare| is_guid(bare)) {
        Some(bare) => Ok(bare.to_ascii_lowercase()),
        None if text.is_empty() => Err(format!("it is empty; expected {PLACES}")),
        None => Err(format!("{text}: expected {PLACES}")),
    }
}

/// `None` where the item is none.
fn identity(item: &[u8]) -> Result<Option<Identity>, String> {
    let (tag, Some(value)) = name_and_value(item) else { return Ok(None) };
    let value = text(unescape(value).as_bytes());
    let lower = value.to_ascii_lowercase();
    let (identity, sound, expected) = match tag {
        b"PARTUUID" => {
            let sound = is_guid(&lower) || is_mbr_id(&lower);
            (Identity::PartUuid(lower), sound, "the GUID of a partition (or, in an MBR, 8 hexadecimal digits, a dash and 2 more)")
        }
        b"UUID" => {
            let sound = !lower.is_empty() && lower.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            (Identity::Uuid(lower), sound, "hexadecimal digits and dashes")
        }
        b"LABEL" => (Identity::Label(value.clone()), !value.is_empty(), "a name"),
        b"PARTLABEL" => (Identity::PartLabel(value.clone()), !value.is_empty(), "a name"),
        b"disk" => (Identity::Disk(value.clone()), !value.is_empty(), "a serial number"),
        _ => return Ok(None),
    };
    if sound { Ok(Some(identity)) } else { Err(format!("{}: expected {expected} behind the =", text(item))) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_guid(text: &str) -> bool {
    has_groups(text, &[8, 4, 4, 4, 12])
}

/// The kernel's id of a partition in an MBR: the disk's signature and the number (block/partitions/msdos.c).
fn is_mbr_id(text: &str) -> bool {
    has_groups(text, &[8, 2])
}

fn has_groups(text: &str, lengths: &[usize]) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let fits = |(group, length): (&&str, &usize)| group.len() == *length && group.bytes().all(|b| b.is_ascii_hexdigit());
    groups.len() == lengths.len() && groups.iter().zip(lengths).all(fits)
}

fn is_fs(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "a52a4597-fa3a-4851-aefd-2fbe9f849079";

    fn partition(identity: Identity) -> Place {
        Place::Partition(identity)
    }

    #[test]
    fn a_place_has_many_names() {
        for (value, place) in [
            (format!("{{{GUID}}}"), partition(Identity::PartUuid(GUID.into()))),
            (GUID.to_uppercase(), partition(Identity::PartUuid(GUID.into()))),
            (format!("PARTUUID={GUID}"), partition(Identity::PartUuid(GUID.into()))),
            ("PARTUUID=1A2B3C4D-05".into(), partition(Identity::PartUuid("1a2b3c4d-05".into()))),
            ("UUID=ABCD-1234".into(), partition(Identity::Uuid("abcd-1234".into()))),
            ("LABEL=my data".into(), partition(Identity::Label("my data".into()))),
            ("LABEL=a\\,b".into(), partition(Identity::Label("a,b".into()))),
            ("PARTLABEL=hassos-data".into(), partition(Identity::PartLabel("hassos-data".into()))),
            ("/dev/sda8".into(), Place::Path("/dev/sda8".into())),
            ("./data".into(), Place::Path("./data".into())),
            ("/a\\,b".into(), Place::Path("/a,b".into())),
        ] {
            assert_eq!(DataPartition::parse(&value).unwrap().place, place, "{value}");
        }
    }

    #[test]
    fn identities_type_and_options_follow() {
        let data = DataPartition::parse(&format!("{{{GUID}}},UUID=AB-1, disk=S1 ,fs=btrfs,otherparams=1,noatime")).unwrap();
        assert_eq!(data.also, [Identity::Uuid("ab-1".into()), Identity::Disk("S1".into())]);
        assert_eq!((data.fs.as_deref(), data.options), (Some("btrfs"), vec!["otherparams=1".to_owned(), "noatime".to_owned()]));
    }

    #[test]
    fn anything_else_is_refused() {
        for (value, why) in [
            ("", "it is empty; expected {GUID}"),
            ("{a52a4597}", "{a52a4597}: expected {GUID}, PARTUUID="),
            (&GUID[1..], "expected {GUID}"),
            ("{GUID_OF_PARTITION}", "expected {GUID}"),
            (&format!("{{{GUID}"), "expected {GUID}"),
            ("data", "data: expected {GUID}"),
            ("PARTUUID=1a2b3c4d", "the GUID of a partition"),
            ("UUID=", "UUID=: expected hexadecimal digits and dashes"),
            ("UUID=xyz", "hexadecimal digits"),
            ("LABEL=", "expected a name"),
            ("disk=x", "disk= only narrows the choice"),
            ("/data,,ro", "an item between commas is empty"),
            ("/data,", "an item between commas is empty"),
            ("/data,fs=", "expected fs=TYPE"),
            ("/data,fs", "expected fs=TYPE"),
            ("/data,fs=a b", "expected fs=TYPE"),
            ("/data,fs=xfs,fs=ext4", "fs= is given twice"),
        ] {
            let found = DataPartition::parse(value).unwrap_err();
            assert!(found.contains(why), "{value}: {found}");
        }
    }
}
