//! RAUC's names of slots, and the images that they are.

use crate::config::haos_ini::Config;
use crate::config::image_source::ImageSource;
use crate::error::{Error, Result};

/// The section of haos.ini: `BOOTNAME = IMAGE`.
const RAUC: &str = "rauc";

/// Which image is in which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(Vec<(String, ImageSource)>);

impl Slots {
    /// Those of a configuration.
    ///
    /// # Errors
    /// [`Error::Refused`] where one is no image, or a slot or an image comes twice.
    pub fn of(config: &Config) -> Result<Self> {
        let mut slots: Vec<(String, ImageSource)> = Vec::new();
        let sections = config.extensions.iter().filter(|section| section.name == RAUC);
        for entry in sections.flat_map(|section| &section.entries) {
            let refused = |why: &str| Error::Refused(format!("[{RAUC}] {}, line {}: {why}", entry.key, entry.line));
            let image = ImageSource::parse(&entry.value).map_err(|why| refused(&why))?;
            if slots.iter().any(|(name, other)| *name == entry.key || *other == image) {
                return Err(refused("the slot or its image is given again"));
            }
            slots.push((entry.key.clone(), image));
        }
        Ok(Self(slots))
    }

    /// The image in a slot. Where haos.ini names no slots, each is called as its image is.
    ///
    /// # Errors
    /// [`Error::Refused`] for the name of none.
    pub fn image(&self, name: &str) -> Result<ImageSource> {
        if self.0.is_empty() {
            return ImageSource::parse(name).map_err(Error::Refused);
        }
        let found = self.0.iter().find(|(slot, _)| slot == name);
        found.map(|(_, image)| image.clone()).ok_or_else(|| Error::Refused(format!("[{RAUC}] has no slot {name}")))
    }

    /// The slot of an image.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is in none.
    pub fn name(&self, image: &ImageSource) -> Result<String> {
        if self.0.is_empty() {
            return Ok(image.to_string());
        }
        let found = self.0.iter().find(|(_, other)| other == image);
        found.map(|(slot, _)| slot.clone()).ok_or_else(|| Error::Refused(format!("[{RAUC}] names no slot for {image}")))
    }

    /// The images of all slots that are named.
    pub fn images(&self) -> impl Iterator<Item = &ImageSource> {
        self.0.iter().map(|(_, image)| image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(section: &str) -> Result<Slots> {
        Slots::of(&Config::parse(&format!("[haos]\ndata_partition=/d\nsystem_image=a\n{section}")).unwrap())
    }

    #[test]
    fn slots_have_names() {
        let found = slots("[rauc]\nA = /dev/disk/by-partlabel/a\nB = images/b\n").unwrap();
        let image = ImageSource::parse("images/b").unwrap();
        assert_eq!((found.image("B").unwrap(), found.name(&image).unwrap()), (image, "B".to_owned()));
        assert!(found.image("C").unwrap_err().to_string().contains("has no slot C"));
        assert!(found.name(&ImageSource::parse("b").unwrap()).is_err());
        let plain = slots("").unwrap();
        assert_eq!(plain.name(&plain.image("x.squashfs").unwrap()).unwrap(), "x.squashfs");
        assert!(plain.image("../x").is_err());
        for (section, why) in [
            ("[rauc]\nA = ../a\n", "[rauc] A, line 5: ../a: expected the name of an image"),
            ("[rauc]\nA = a\nB = a\n", "line 6: the slot or its image is given again"),
            ("[rauc]\nA = a\nA = b\n", "line 6: the slot or its image is given again"),
        ] {
            assert!(slots(section).unwrap_err().to_string().contains(why), "{section}");
        }
    }
}
