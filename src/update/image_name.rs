//! Names of images, in both styles: `haos-x86_64_7.1.0.0.squashfs` and `haos_generic-x86-64-17.2.squashfs`.

use std::ffi::{OsStr, OsString};

use super::version::Version;

/// How an image's name ends.
const SUFFIXES: [&str; 2] = [".squashfs", ".sqfs"];

/// Before the platform, with what stands between it and the version.
const STYLES: [(&str, char); 2] = [("haos-", '_'), ("haos_", '-')];

/// What a name says about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// The whole name.
    pub file: OsString,
    /// For what it is made: an architecture or a board (`x86_64`, `generic-x86-64`, `rpi4-64`).
    pub platform: String,
    /// Its version.
    pub version: Version,
}

impl ImageName {
    /// Reads a name; `None` where it is none of an image. The version is the longest at its end, so that a platform may have
    /// dashes, underscores and digits.
    #[must_use]
    pub fn parse(file: &OsStr) -> Option<Self> {
        let name = file.to_str()?;
        let stem = SUFFIXES.into_iter().find_map(|suffix| name.strip_suffix(suffix))?;
        let (rest, separator) = STYLES.into_iter().find_map(|(start, between)| Some((stem.strip_prefix(start)?, between)))?;
        let mut parts = rest.match_indices(separator).filter_map(|(at, _)| {
            let (platform, version) = rest.split_at_checked(at)?;
            Some((platform, Version::parse(version.strip_prefix(separator)?)?))
        });
        let (platform, version) = parts.next().filter(|(platform, _)| !platform.is_empty())?;
        Some(Self { file: file.to_owned(), platform: platform.to_owned(), version })
    }

    /// The architecture that the platform names, as uname(2) has it; `None` where it is a board.
    #[must_use]
    pub fn architecture(&self) -> Option<&'static str> {
        architecture(self.platform.strip_prefix("generic-").unwrap_or(&self.platform))
    }
}

/// uname(2)'s word for an architecture.
#[must_use]
pub fn architecture(name: &str) -> Option<&'static str> {
    Some(match name.replace('-', "_").as_str() {
        "x86_64" | "amd64" => "x86_64",
        "i386" | "i486" | "i586" | "i686" | "x86" => "i686",
        "aarch64" | "arm64" => "aarch64",
        "armv7" | "armv7l" | "armhf" => "armv7l",
        "armv6" | "armv6l" => "armv6l",
        "riscv64" => "riscv64",
        "ppc64le" | "ppc64el" => "ppc64le",
        "s390x" => "s390x",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_styles_are_read() {
        for (name, platform, version, architecture) in [
            ("haos-x86_64_7.1.0.0.squashfs", "x86_64", "7.1.0.0", Some("x86_64")),
            ("haos-aarch64_7.1.0.0.rc1.squashfs", "aarch64", "7.1.0.0.rc1", Some("aarch64")),
            ("haos_generic-x86-64-17.2.squashfs", "generic-x86-64", "17.2", Some("x86_64")),
            ("haos_generic-aarch64-17.2.dev0.squashfs", "generic-aarch64", "17.2.dev0", Some("aarch64")),
            ("haos_rpi4-64-18.0.rc1.sqfs", "rpi4-64", "18.0.rc1", None),
            ("haos_rpi4-64-18.0-rc1.squashfs", "rpi4-64", "18.0-rc1", None),
            ("haos_ova-17.2.squashfs", "ova", "17.2", None),
            ("haos-i386_1.0.squashfs", "i386", "1.0", Some("i686")),
        ] {
            let found = ImageName::parse(name.as_ref()).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((&*found.platform, found.version.to_string().as_str()), (platform, version), "{name}");
            assert_eq!(found.architecture(), architecture, "{name}");
            assert_eq!(found.file, OsStr::new(name));
        }
    }

    #[test]
    fn other_names_are_no_images() {
        for name in [
            "",
            "haos",
            "haos.squashfs",
            "haos-.squashfs",
            "haos-x86_64.squashfs",
            "haos_rpi4-64.squashfs",
            "haos-7.1.squashfs",
            "haos_17.2.squashfs",
            "haos_-17.2.squashfs",
            "haos-x86_64_7.1.0.0.img",
            "haos-x86_64_7.1.0.0.squashfs.part",
            ".haos-x86_64_7.1.0.0.squashfs",
            "other-x86_64_7.1.squashfs",
            "haos_x86_64_7.1.squashfs",
            "haos-x86_64-7.1.squashfs",
        ] {
            assert!(ImageName::parse(name.as_ref()).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_was_put_together_comes_apart(platform in "[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,3}){0,2}", version in "[0-9]{1,3}(\\.[0-9]{1,3}){1,3}(\\.(rc|dev)[0-9])?") {
            for name in [format!("haos-{platform}_{version}.squashfs"), format!("haos_{platform}-{version}.squashfs")] {
                let found = ImageName::parse(name.as_ref()).unwrap();
                prop_assert_eq!((&found.platform, &found.version.to_string()), (&platform, &version));
            }
        }
    }
}
