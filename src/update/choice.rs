//! Which image is the newest, where nobody has said which one to use.

use std::cmp::Ordering;
use std::ffi::OsString;

use super::image_name::ImageName;

/// What names alone tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Images for this machine, newest first; at least one.
    Candidates(Vec<ImageName>),
    /// Images of several boards, and none that names this machine's architecture: which board this is, is not known.
    Boards(Vec<String>),
    /// None for this machine; the platforms of those for others.
    None(Vec<String>),
}

/// Orders the images among these names for a machine of this architecture (uname(2)'s word). Those for other architectures are
/// left out. Images for boards, which do not say their architecture, count where there are no others and all are for one board.
#[must_use]
pub fn choose(names: impl IntoIterator<Item = OsString>, machine: &str) -> Choice {
    let (mut ours, mut boards, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for image in names.into_iter().filter_map(|name| ImageName::parse(&name)) {
        match image.architecture() {
            Some(architecture) if architecture == machine => ours.push(image),
            Some(_) => others.push(image),
            None => boards.push(image),
        }
    }
    if !ours.is_empty() {
        return Choice::Candidates(newest_first(ours));
    }
    match platforms(&boards).len() {
        0 => Choice::None(platforms(&others)),
        1 => Choice::Candidates(newest_first(boards)),
        _ => Choice::Boards(platforms(&boards)),
    }
}

/// Two images of one version stand by their names, so that the order is the same every time.
fn newest_first(mut images: Vec<ImageName>) -> Vec<ImageName> {
    images.sort_by(|a, b| b.version.cmp(&a.version).then_with(|| by_name(a, b)));
    images
}

fn by_name(a: &ImageName, b: &ImageName) -> Ordering {
    a.file.cmp(&b.file)
}

fn platforms(images: &[ImageName]) -> Vec<String> {
    let mut platforms: Vec<String> = images.iter().map(|image| image.platform.clone()).collect();
    platforms.sort();
    platforms.dedup();
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], machine: &str) -> Choice {
        choose(names.iter().map(OsString::from), machine)
    }

    fn candidates(names: &[&str], machine: &str) -> Vec<String> {
        match chosen(names, machine) {
            Choice::Candidates(images) => images.into_iter().map(|image| image.file.into_string().unwrap()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_for_this_machine_comes_first() {
        let names = [
            "haos-x86_64_7.1.0.0.squashfs",
            "haos-aarch64_9.0.0.0.squashfs",
            "haos_generic-x86-64-17.2.squashfs",
            "haos_generic-x86-64-18.0.rc1.squashfs",
            "haos_rpi4-64-19.0.squashfs",
            "haos.ini",
            "notes-20.0.squashfs",
        ];
        assert_eq!(candidates(&names, "x86_64"), [names[3], names[2], names[0]]);
        assert_eq!(candidates(&names, "aarch64"), [names[1]]);
        assert_eq!(candidates(&names, "riscv64"), [names[4]]);
    }

    #[test]
    fn equal_versions_stand_by_name() {
        let names = ["haos_generic-x86-64-7.1.squashfs", "haos-x86_64_7.1.0.0.squashfs"];
        assert_eq!(candidates(&names, "x86_64"), [names[1], names[0]]);
    }

    #[test]
    fn nothing_is_guessed() {
        let boards = ["haos_rpi4-64-17.2.squashfs", "haos_yellow-17.2.squashfs"];
        assert_eq!(chosen(&boards, "aarch64"), Choice::Boards(vec!["rpi4-64".into(), "yellow".into()]));
        assert_eq!(chosen(&["haos-aarch64_1.0.squashfs"], "x86_64"), Choice::None(vec!["aarch64".into()]));
        assert_eq!(chosen(&[], "x86_64"), Choice::None(vec![]));
    }
}
