//! `meta.ini` beside every upper. We alone write it, in one form; what is read is not believed before it was parsed whole.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::base::Base;
use super::escape::{escaped, hex, unescaped, unhex};
use super::version::Version;

/// What serves, or last served, an upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's overlayfs.
    Kernel,
    /// Our own daemon.
    Fuse,
}

/// What is known of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The image it was made on.
    pub base: Base,
    /// What mounted it last; `None` before the first time.
    pub backend: Option<Backend>,
    /// The generation it was made from; `None` for one that began empty.
    pub parent: Option<u64>,
    /// How often it was mounted to be written to.
    pub mounts: u64,
    /// The same of the parent when this one was made from it: what was written there since is not here.
    pub parent_mounts: u64,
    /// Nobody has it mounted writable, and whoever had it last has unmounted it.
    pub clean: bool,
    /// It is the one in use, or was: what was changed then is here alone, so it is no trial's to be taken away.
    pub used: bool,
}

const HEAD: &str =
    "# The upper beside this file belongs to the image that is named here. haosfs keeps this file; do not change it.\n[upper]\n";

/// The form that is written here.
const FORMAT: u64 = 1;

/// For what is not there.
const NONE: &str = "none";

/// A meta.ini is never larger, in bytes: names have at most 255.
pub const LARGEST: u64 = 4096;

impl Meta {
    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
        let backend = match self.backend {
            Some(Backend::Kernel) => "kernel",
            Some(Backend::Fuse) => "fuse",
            None => NONE,
        };
        let mut text = HEAD.to_owned();
        for (key, value) in [
            ("format", FORMAT.to_string()),
            ("image", escaped(self.base.name.as_bytes(), |byte| byte.is_ascii_graphic())),
            ("version", or_none(self.base.version.as_ref().map(ToString::to_string))),
            ("size", self.base.size.to_string()),
            ("sha256", hex(&self.base.digest)),
            ("parent", or_none(self.parent.map(|parent| parent.to_string()))),
            ("mounts", self.mounts.to_string()),
            ("parent_mounts", self.parent_mounts.to_string()),
            ("backend", backend.to_owned()),
            ("used", yes_or_no(self.used)),
            // What may be missing does not come last: a torn file must be told from an old one.
            ("clean", yes_or_no(self.clean)),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        }
        text
    }

    /// Reads a file: every key once, in any order; unknown ones are passed over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        let entries = Entries::read(text)?;
        if entries.number("format")? != Some(FORMAT) {
            return Err(format!("format = {}: expected {FORMAT}", entries.value("format")?));
        }
        let version = entries.optional("version")?;
        let version = version.map(|text| Version::parse(text).ok_or(format!("version = {text}: this is none"))).transpose()?;
        let name = file_name(entries.value("image")?).ok_or("image: expected a file's name")?;
        let size = entries.number("size")?.ok_or("size = none: expected a number")?;
        let digest = unhex(entries.value("sha256")?).ok_or("sha256: expected 64 hexadecimal digits")?;
        let backend = match entries.optional("backend")? {
            None => None,
            Some("kernel") => Some(Backend::Kernel),
            Some("fuse") => Some(Backend::Fuse),
            Some(other) => return Err(format!("backend = {other}: expected kernel, fuse or none")),
        };
        let clean = entries.flag("clean", None)?;
        // Where nobody has said so it may have been.
        let used = entries.flag("used", Some(true))?;
        let base = Base { name, version, size, digest };
        let [mounts, parent_mounts] = [entries.count("mounts")?, entries.count("parent_mounts")?];
        Ok(Self { base, backend, parent: entries.number("parent")?, mounts, parent_mounts, clean, used })
    }
}

fn yes_or_no(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

/// The entries of `[upper]`.
struct Entries<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Entries<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let torn = || "it is torn".to_owned();
        let body = text.strip_suffix('\n').ok_or_else(torn)?;
        let mut lines = body.split('\n').filter(|line| !line.starts_with('#'));
        if lines.next() != Some("[upper]") {
            return Err("expected the section [upper]".to_owned());
        }
        let mut entries: Vec<(&str, &str)> = Vec::new();
        for line in lines {
            let (key, value) = line.split_once(" = ").ok_or_else(|| format!("{line:?}: expected key = value"))?;
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(format!("{key} is given twice"));
            }
            entries.push((key, value));
        }
        Ok(Self(entries))
    }

    fn value(&self, key: &str) -> Result<&'a str, String> {
        let found = self.0.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| *value).ok_or_else(|| format!("{key} is missing"))
    }

    fn optional(&self, key: &str) -> Result<Option<&'a str>, String> {
        self.value(key).map(|value| Some(value).filter(|value| *value != NONE))
    }

    fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let number = |value: &str| {
            let digits = value.bytes().all(|b| b.is_ascii_digit());
            value.parse().ok().filter(|_| digits).ok_or_else(|| format!("{key} = {value}: expected a number"))
        };
        self.optional(key)?.map(number).transpose()
    }

    fn flag(&self, key: &str, missing: Option<bool>) -> Result<bool, String> {
        match (self.value(key), missing) {
            (Ok("yes"), _) => Ok(true),
            (Ok("no"), _) => Ok(false),
            (Ok(other), _) => Err(format!("{key} = {other}: expected yes or no")),
            (Err(_), Some(missing)) => Ok(missing),
            (Err(why), None) => Err(why),
        }
    }

    /// 0 where nobody has counted.
    fn count(&self, key: &str) -> Result<u64, String> {
        if self.0.iter().any(|(known, _)| *known == key) { Ok(self.number(key)?.unwrap_or(0)) } else { Ok(0) }
    }
}

/// `None` for what is no file's name.
fn file_name(text: &str) -> Option<OsString> {
    let name = unescaped(text)?;
    let sound = !name.is_empty() && name.len() <= 255 && !name.iter().any(|b| matches!(b, 0 | b'/'));
    sound.then(|| OsString::from_vec(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(name: &[u8]) -> Meta {
        let base =
            Base { name: OsString::from_vec(name.to_vec()), version: Version::parse("7.1.0.0"), size: 4096, digest: [0xa5; 32] };
        Meta { base, backend: Some(Backend::Fuse), parent: Some(2), mounts: 7, parent_mounts: 3, clean: false, used: false }
    }

    #[test]
    fn the_text_is_plain() {
        let text = meta(b"haos-x86_64_7.1.0.0.squashfs").text();
        let body = text.strip_prefix(HEAD).unwrap();
        let digest = "a5".repeat(32);
        assert_eq!(
            body,
            format!(
                "format = 1\nimage = haos-x86_64_7.1.0.0.squashfs\nversion = 7.1.0.0\nsize = 4096\nsha256 = {digest}\nparent = 2\nmounts = 7\n\
                 parent_mounts = 3\nbackend = fuse\nused = no\nclean = no\n"
            )
        );
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let text = meta(b"x").text();
        for end in 0..text.len() {
            assert!(Meta::parse(&text.as_bytes()[..end]).is_err(), "{:?}", &text[..end]);
        }
        for (old, new, why) in [
            ("format = 1", "format = 2", "format = 2: expected 1"),
            ("size = 4096", "size = -1", "size = -1: expected a number"),
            ("size = 4096", "size = none", "expected a number"),
            ("size = 4096\n", "", "size is missing"),
            ("size = 4096", "size = 1\nsize = 1", "size is given twice"),
            ("image = x", "image = a/b", "expected a file's name"),
            ("image = x", "image = %0", "expected a file's name"),
            ("image = x", "image = %00", "expected a file's name"),
            ("version = 7.1.0.0", "version = new", "version = new: this is none"),
            ("sha256 = a5", "sha256 = A5", "64 hexadecimal"),
            ("backend = fuse", "backend = aufs", "expected kernel, fuse or none"),
            ("clean = no", "clean = maybe", "expected yes or no"),
            ("used = no", "used = 0", "expected yes or no"),
            ("parent = 2", "parent = x", "parent = x: expected a number"),
            ("mounts = 7", "mounts = -7", "mounts = -7: expected a number"),
            ("[upper]", "[lower]", "section [upper]"),
            ("clean = no", "clean=no", "expected key = value"),
        ] {
            let wrong = text.replace(old, new);
            assert_ne!(wrong, text);
            let found = Meta::parse(wrong.as_bytes()).unwrap_err();
            assert!(found.contains(why), "{new}: {found}");
        }
        assert_eq!(Meta::parse(b"").unwrap_err(), "it is empty");
        assert_eq!(Meta::parse(text.replace("clean = no\n", "clean = no\nlater = 1\n").as_bytes()).unwrap(), meta(b"x"));
        let uncounted = Meta { mounts: 0, parent_mounts: 0, used: true, ..meta(b"x") };
        let older = text.replace("mounts = 7\nparent_mounts = 3\n", "").replace("used = no\n", "");
        assert_eq!(Meta::parse(older.as_bytes()).unwrap(), uncounted);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in proptest::collection::vec(any::<u8>().prop_filter("no name", |b| !matches!(b, 0 | b'/')), 1..40),
            size in any::<u64>(),
            parent in proptest::option::of(any::<u64>()),
            [mounts, parent_mounts] in any::<[u64; 2]>(),
            digest in any::<[u8; 32]>(),
            versioned in any::<bool>(),
            [clean, used] in any::<[bool; 2]>(),
        ) {
            let version = Version::parse("1.2.rc3").filter(|_| versioned);
            let base = Base { name: OsString::from_vec(name), version, size, digest };
            for backend in [None, Some(Backend::Kernel), Some(Backend::Fuse)] {
                let meta = Meta { base: base.clone(), backend, parent, mounts, parent_mounts, clean, used };
                let text = meta.text();
                prop_assert!(text.len() as u64 <= LARGEST);
                prop_assert_eq!(Meta::parse(text.as_bytes()).unwrap(), meta);
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Meta::parse(&bytes);
        }
    }
}
