//! Where an image comes from: its manifest, signed with minisign.
//!
//! Beside `IMAGE` stand `IMAGE.manifest`, which names it, its size and its SHA-256, and `IMAGE.manifest.minisig`. So a signature is
//! checked before anything of an image is read, and made without reading it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

use super::escape::{hex, unhex};
use crate::error::{Error, Result};

/// What a name gets for its manifest, and that for its signature.
pub const MANIFEST: &str = ".manifest";
/// Added to a manifest's name.
pub const SIGNATURE: &str = ".minisig";

/// A manifest or a signature is never larger, in bytes.
const LARGEST: u64 = 4096;

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its file's name.
    pub name: OsString,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of all of it.
    pub sha256: [u8; 32],
}

impl Manifest {
    /// The text of the file: `name`, `size` and `sha256`, each a line `key = value`.
    #[must_use]
    pub fn text(&self) -> String {
        format!("name = {}\nsize = {}\nsha256 = {}\n", self.name.display(), self.size, hex(&self.sha256))
    }

    /// Reads a file: each key once, in any order; comments and unknown keys are passed over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let value = |key: &str| {
            let entries = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
            let mut found = entries.filter(|(found, _)| found.trim() == key).map(|(_, value)| value.trim());
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value),
                (None, _) => Err(format!("{key} is missing")),
                (Some(_), Some(_)) => Err(format!("{key} is given twice")),
            }
        };
        let (name, size) = (value("name")?, value("size")?);
        if name.is_empty() || name.contains('/') {
            return Err(format!("name = {name}: expected a file's name"));
        }
        let digits = size.bytes().all(|b| b.is_ascii_digit());
        let size = size.parse().ok().filter(|_| digits).ok_or_else(|| format!("size = {size}: expected a number"))?;
        let sha256 = parse_sha256(value("sha256")?).ok_or("sha256: expected 64 hexadecimal digits")?;
        Ok(Self { name: name.into(), size, sha256 })
    }
}

/// A SHA-256 as sha256sum(1) prints it.
#[must_use]
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    unhex(&text.to_ascii_lowercase())
}

/// The same for people.
#[must_use]
pub fn show_sha256(digest: &[u8; 32]) -> String {
    hex(digest)
}

/// The manifest of an image, and its signature.
#[must_use]
pub fn paths(image: &Path) -> [PathBuf; 2] {
    let added = |suffixes: &[&str]| {
        let mut name = image.as_os_str().to_owned();
        suffixes.iter().for_each(|suffix| name.push(suffix));
        PathBuf::from(name)
    };
    [added(&[MANIFEST]), added(&[MANIFEST, SIGNATURE])]
}

/// Reads a public key: the second line of a minisign.pub.
///
/// # Errors
/// [`Error::Refused`] for anything else.
pub fn public_key(text: &str) -> Result<PublicKey> {
    PublicKey::from_base64(text.trim()).map_err(|e| {
        Error::Refused(format!("{text}: no public key of minisign ({e}); expected the second line of a minisign.pub"))
    })
}

/// Reads the manifest of an image and checks that it was signed with the secret key of `key`, and that it is about an image of this
/// name.
///
/// # Errors
/// [`Error::Refused`] where either file is missing, too large or not sound, or the signature is another's.
pub fn signed_manifest(image: &Path, key: &PublicKey) -> Result<Manifest> {
    let (path, manifest) = signed(image, image, key)?;
    if Some(manifest.name.as_os_str()) != image.file_name() {
        let name = image.file_name().unwrap_or(OsStr::new("")).display();
        return Err(wrong(&path, &format!("it is about {}, not about {name}", manifest.name.display())));
    }
    Ok(manifest)
}

/// As [`signed_manifest`], of an image that was written to a device: its manifest stands in `directory` under the device's name, and
/// keeps the name that the image had.
///
/// # Errors
/// As there.
pub fn signed_manifest_of_device(device: &Path, directory: &Path, key: &PublicKey) -> Result<Manifest> {
    let beside = directory.join(device.file_name().unwrap_or_default());
    signed(device, &beside, key).map(|(_, manifest)| manifest)
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::Refused(format!("{}: {why}", path.display()))
}

/// The manifest beside a path.
fn signed(image: &Path, beside: &Path, key: &PublicKey) -> Result<(PathBuf, Manifest)> {
    let [manifest, signature] = paths(beside);
    let (text, signed) = (read(&manifest, image)?, read(&signature, image)?);
    let signed = Signature::decode(&signed).map_err(|e| wrong(&signature, &format!("no signature of minisign ({e})")))?;
    key.verify(text.as_bytes(), &signed, false).map_err(|e| {
        wrong(&signature, &format!("this does not sign {} with the key that is trusted ({e})", manifest.display()))
    })?;
    let found = Manifest::parse(&text).map_err(|why| wrong(&manifest, &why))?;
    Ok((manifest, found))
}

fn read(path: &Path, image: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| {
        Error::Refused(format!("{} is not signed: {}: {}", image.display(), path.display(), crate::error::Errno::from(e)))
    })?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|e| Error::sys("read", path, e))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::Refused(format!("{} has more than {LARGEST} bytes", path.display())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        Manifest { name: "a.squashfs".into(), size: 12, sha256: [0xab; 32] }
    }

    #[test]
    fn only_the_right_key_signs_the_right_image() {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("a.squashfs");
        let [path, signature] = paths(&image);
        let keys = KeyPair::generate_unencrypted_keypair().unwrap();
        let key = public_key(&keys.pk.to_base64()).unwrap();
        let sign = |text: &str, keys: &KeyPair| {
            std::fs::write(&path, text).unwrap();
            let signed = minisign::sign(None, &keys.sk, text.as_bytes(), None, None).unwrap();
            std::fs::write(&signature, signed.into_string()).unwrap();
        };
        let refused = |words: &str| {
            let message = signed_manifest(&image, &key).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        refused("a.squashfs is not signed");
        sign(&manifest().text(), &keys);
        assert_eq!(signed_manifest(&image, &key).unwrap(), manifest());
        std::fs::write(&path, manifest().text().replace("12", "13")).unwrap();
        refused("this does not sign");
        sign(&manifest().text(), &KeyPair::generate_unencrypted_keypair().unwrap());
        refused("this does not sign");
        sign(&Manifest { name: "b.squashfs".into(), ..manifest() }.text(), &keys);
        refused("it is about b.squashfs, not about a.squashfs");
        sign("name = a.squashfs\n", &keys);
        refused("size is missing");
        std::fs::write(&signature, "untrusted comment: x\n").unwrap();
        refused("no signature of minisign");
        assert!(public_key("RWQ").is_err());
    }

    #[test]
    fn manifests_are_read() {
        let text = format!("# for people\n{}later = 1\n", manifest().text());
        assert_eq!(Manifest::parse(&text).unwrap(), manifest());
        for (old, new, why) in [
            ("size = 12", "size = +12", "expected a number"),
            ("size = 12", "size = 12\nsize = 12", "size is given twice"),
            ("name = a.squashfs", "name = ../a", "expected a file's name"),
            ("sha256 = ab", "sha256 = b", "64 hexadecimal digits"),
        ] {
            let found = Manifest::parse(&manifest().text().replace(old, new)).unwrap_err();
            assert!(found.contains(why), "{new}: {found}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "(name|size|sha256| ?= ?|\\PC|\n){0,20}") {
            let _ = Manifest::parse(&text);
        }
    }
}
