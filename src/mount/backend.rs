//! The pure choice of who joins the layers: the kernel's overlayfs, our daemon, or both.

use crate::config::mount_options::{Backend as Wanted, MountOptions};
use crate::error::{Error, Result};
use crate::update::meta;

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel reads the images and joins the layers; no process of ours stays.
    Kernel,
    /// Our daemon reads the images, the kernel's overlayfs joins them with the upper.
    Hybrid,
    /// Our daemon does both.
    Fuse,
}

impl Backend {
    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Hybrid => "hybrid",
            Self::Fuse => "fuse",
        }
    }
}

impl Backend {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Kernel, Self::Hybrid, Self::Fuse].into_iter().find(|backend| backend.name() == name)
    }

    /// What is kept of it with the upper: who wrote there.
    #[must_use]
    pub const fn recorded(self) -> meta::Backend {
        match self {
            Self::Kernel | Self::Hybrid => meta::Backend::Kernel,
            Self::Fuse => meta::Backend::Fuse,
        }
    }
}

/// A backend, and why it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The backend.
    pub backend: Backend,
    /// Why, in words for the user.
    pub reason: String,
}

/// Something that the kernel can do, or why it cannot.
pub type Ability = std::result::Result<(), String>;

/// What was found out about the kernel by trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Mounting file systems with block devices, which only root of the first user namespace may.
    pub mount: Ability,
    /// overlayfs.
    pub overlay: Ability,
    /// Building a mount that stands nowhere yet.
    pub detached: Ability,
    /// All images of this mount.
    pub images: Ability,
    /// All images are squashfs, so that our daemon can read them itself.
    pub readable: bool,
    /// A FUSE mount.
    pub fuse: Ability,
}

/// Chooses. What is asked for is taken or refused, never replaced.
///
/// # Errors
/// [`Error::Refused`] with all reasons where no backend is left.
pub fn choose(wanted: Option<Wanted>, options: &MountOptions, foreground: bool, can: &Abilities) -> Result<Choice> {
    match wanted {
        None => take(Backend::Fuse, "this is the default for layers that are given one by one".to_owned(), fuse(can)),
        Some(Wanted::Fuse) => take(Backend::Fuse, "it was asked for".to_owned(), fuse(can)),
        Some(Wanted::Kernel) => take(Backend::Kernel, "it was asked for".to_owned(), kernel(options, foreground, can)),
        Some(Wanted::Hybrid) => take(Backend::Hybrid, "it was asked for".to_owned(), hybrid(options, can)),
        Some(Wanted::Auto) => automatic(options, foreground, can),
    }
}

fn automatic(options: &MountOptions, foreground: bool, can: &Abilities) -> Result<Choice> {
    let why = match kernel(options, foreground, can) {
        Ok(()) => {
            let reason = "the kernel has overlayfs and mounts the lower layers itself".to_owned();
            return Ok(Choice { backend: Backend::Kernel, reason });
        }
        Err(why) => why,
    };
    if hybrid(options, can).is_ok() && !foreground {
        return Ok(Choice { backend: Backend::Hybrid, reason: format!("the kernel has overlayfs, but {why}") });
    }
    match fuse(can) {
        Ok(()) => Ok(Choice { backend: Backend::Fuse, reason: why }),
        Err(other) => Err(Error::Refused(format!("no backend can mount this: kernel: {why}; fuse: {other}"))),
    }
}

fn take(backend: Backend, reason: String, ability: Ability) -> Result<Choice> {
    match ability {
        Ok(()) => Ok(Choice { backend, reason }),
        Err(why) => Err(Error::Refused(format!("option backend={}: {why}", backend.name()))),
    }
}

fn kernel(options: &MountOptions, foreground: bool, can: &Abilities) -> Ability {
    if foreground {
        return Err("--foreground asks for a daemon".to_owned());
    }
    overlay(options, can)?;
    can.images.clone()
}

fn hybrid(options: &MountOptions, can: &Abilities) -> Ability {
    overlay(options, can)?;
    can.detached.clone()?;
    fuse(can)
}

fn overlay(options: &MountOptions, can: &Abilities) -> Ability {
    if options.squashes_owner() {
        return Err("only our daemon can show another owner (uid=, gid=)".to_owned());
    }
    if options.sync {
        return Err("only our daemon writes to the disk at once (sync)".to_owned());
    }
    can.mount.clone()?;
    can.overlay.clone()
}

fn fuse(can: &Abilities) -> Ability {
    can.fuse.clone()?;
    if can.readable {
        Ok(())
    } else {
        can.mount.clone()?;
        can.images.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Abilities {
        Abilities { mount: Ok(()), overlay: Ok(()), detached: Ok(()), images: Ok(()), readable: true, fuse: Ok(()) }
    }

    fn no(why: &str) -> Ability {
        Err(why.to_owned())
    }

    fn choice(list: &str, foreground: bool, can: &Abilities) -> std::result::Result<(&'static str, String), String> {
        let mut options = MountOptions::default();
        options.read(list.as_ref()).unwrap();
        let answer = choose(options.backend, &options, foreground, can);
        answer.map(|choice| (choice.backend.name(), choice.reason)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_best_that_can_is_taken_with_its_reason() {
        let without = |change: fn(&mut Abilities)| {
            let mut can = all();
            change(&mut can);
            can
        };
        for (list, foreground, can, backend, why) in [
            ("backend=auto", false, all(), "kernel", "has overlayfs"),
            ("backend=auto", true, all(), "fuse", "--foreground"),
            ("backend=auto,uid=5", false, all(), "fuse", "uid="),
            ("backend=auto,sync", false, all(), "fuse", "sync"),
            ("backend=auto", false, without(|can| can.mount = no("not root")), "fuse", "not root"),
            ("backend=auto", false, without(|can| can.overlay = no("no overlayfs")), "fuse", "no overlayfs"),
            ("backend=auto", false, without(|can| can.images = no("no squashfs")), "hybrid", "but no squashfs"),
            (
                "backend=auto",
                false,
                without(|can| (can.images, can.detached) = (no("no squashfs"), no("no fsopen"))),
                "fuse",
                "no squashfs",
            ),
            ("backend=auto", false, without(|can| can.fuse = no("no /dev/fuse")), "kernel", "has overlayfs"),
            ("backend=auto", false, without(|can| can.readable = false), "kernel", "has overlayfs"),
            ("", false, all(), "fuse", "default"),
            ("backend=fuse", false, all(), "fuse", "asked for"),
            ("backend=fuse", false, without(|can| can.readable = false), "fuse", "asked for"),
            ("backend=kernel", false, all(), "kernel", "asked for"),
            ("backend=hybrid", false, without(|can| can.images = no("no squashfs")), "hybrid", "asked for"),
        ] {
            let (taken, reason) = choice(list, foreground, &can).unwrap();
            assert_eq!(taken, backend, "{list} {can:?}");
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn what_is_asked_for_is_not_replaced() {
        let can = Abilities { images: no("the kernel has no squashfs"), ..all() };
        assert_eq!(choice("backend=kernel", false, &can).unwrap_err(), "option backend=kernel: the kernel has no squashfs");
        assert!(choice("backend=kernel", true, &all()).unwrap_err().contains("--foreground"));
        assert!(choice("backend=kernel,gid=1", false, &all()).unwrap_err().contains("uid=, gid="));
        assert!(choice("backend=hybrid,sync", false, &all()).unwrap_err().contains("sync"));
        let can = Abilities { readable: false, images: no("the kernel has no erofs"), ..all() };
        assert!(choice("backend=fuse", false, &can).unwrap_err().contains("no erofs"));
        let can = Abilities { overlay: no("no overlayfs"), fuse: no("no /dev/fuse"), ..all() };
        assert_eq!(
            choice("backend=auto", false, &can).unwrap_err(),
            "no backend can mount this: kernel: no overlayfs; fuse: no /dev/fuse"
        );
    }
}
