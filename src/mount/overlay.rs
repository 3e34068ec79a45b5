//! The kernel's overlayfs over layers that are open.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::kernel_fs::{Refusal, on};
use super::plan::MountPlan;
use super::stage::Stage;
use crate::config::mount_options::{Fsync, MountOptions, RedirectDir, Uuid, Xino};
use crate::error::{Errno, Error, Result};
use crate::sys::fs_context::FsContext;
use crate::sys::fuse_mount::{self, Attributes};
use crate::sys::kernel_mount;
use crate::sys::spot::open_dir;

/// Joins the layers, topmost lower first, and places the union at the plan's mountpoint in one step. Returns its root.
///
/// Layers go to the kernel as descriptors (Linux 6.13, and 6.15 for those that stand nowhere). A kernel that does not take them
/// gets paths, for which the layers stand on a stage until the union has its own hold of them.
///
/// # Errors
/// [`Error::Refused`] with the kernel's own words; then nothing is mounted.
pub fn mount(plan: &MountPlan, lowers: &[BorrowedFd<'_>], stage: &mut Option<Stage>) -> Result<OwnedFd> {
    match by_descriptors(plan, lowers) {
        Ok(union) => {
            let placed = fuse_mount::attach(&union, &plan.mountpoint);
            placed.map(|()| union).map_err(|e| Error::sys("mount on", &plan.mountpoint, Errno::from(e)))
        }
        Err(first) if takes_no_descriptors(first.errno) => {
            tracing::debug!("overlayfs takes no descriptors: {first}");
            // The newer way says more where both are refused for the same reason.
            by_paths(plan, lowers, stage)?.map_err(|second| refuse(plan, if first.said.is_empty() { &second } else { &first }))
        }
        Err(refusal) => Err(refuse(plan, &refusal)),
    }
}

/// Seen: `EOPNOTSUPP` of Linux 6.1 and `EBADF` of 6.12, which know layers as strings alone; `EINVAL` of those that do not take what
/// stands nowhere; `ENOSYS` and `EPERM` where there is no fsopen(2), or a sandbox hides it.
const fn takes_no_descriptors(errno: Errno) -> bool {
    matches!(errno, Errno::ENOSYS | Errno::EPERM | Errno::EINVAL | Errno::EBADF | Errno::EOPNOTSUPP)
}

fn by_descriptors(plan: &MountPlan, lowers: &[BorrowedFd<'_>]) -> Result<OwnedFd, Refusal> {
    let context = FsContext::open("overlay")?;
    configure(&context, plan, lowers).map_err(|errno| Refusal { errno, said: context.messages() })
}

fn configure(context: &FsContext, plan: &MountPlan, lowers: &[BorrowedFd<'_>]) -> Result<OwnedFd, Errno> {
    context.string("source", &plan.source)?;
    lowers.iter().try_for_each(|lower| context.fd("lowerdir+", *lower))?;
    if needs_empty_layer(plan, lowers.len()) {
        context.fd("lowerdir+", empty_layer()?.as_fd())?;
    }
    if let Some(upper) = &plan.upper {
        context.fd("upperdir", open_dir(&upper.upper)?.as_fd())?;
        context.fd("workdir", open_dir(&upper.work)?.as_fd())?;
    }
    for (name, value) in parameters(&plan.options, plan.upper.is_some()) {
        value.map_or_else(|| context.flag(name), |value| context.string(name, OsStr::new(value)))?;
    }
    context.mount(plan.attributes)
}

fn by_paths(
    plan: &MountPlan,
    lowers: &[BorrowedFd<'_>],
    stage: &mut Option<Stage>,
) -> Result<std::result::Result<OwnedFd, Refusal>> {
    let stage = on(stage)?;
    let mut layers = lowers.iter().map(|lower| stand(lower.as_fd(), stage)).collect::<Result<Vec<_>>>()?;
    if needs_empty_layer(plan, lowers.len()) {
        layers.push(stage.place()?);
    }
    let mut options = OsString::from("lowerdir=");
    options.push(layers.iter().map(|path| escaped(path)).collect::<Vec<_>>().join(OsStr::new(":")));
    if let Some(upper) = &plan.upper {
        let base = upper.claim.as_ref().map(|claim| claim.data().stand(stage)).transpose()?.flatten();
        for (name, path) in [(",upperdir=", &upper.upper), (",workdir=", &upper.work)] {
            options.push(name);
            options.push(match &base {
                Some(base) => escaped(&base.rebased(path)),
                None => escaped(path),
            });
        }
    }
    let mounted = match mount_with(plan, &options, |_| true) {
        // Linux before 6.7 knows no other than that, and not its name; the others would make one where none is named.
        Err(Errno::EINVAL) if plan.options.uuid == Uuid::Null => mount_with(plan, &options, |name| name != "uuid"),
        answer => answer,
    };
    Ok(mounted.map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Refusal { errno, said: "its layers' names are too long together".to_owned() },
        errno => errno.into(),
    }))
}

fn mount_with(plan: &MountPlan, layers: &OsStr, is_meant: impl Fn(&str) -> bool) -> Result<OwnedFd, Errno> {
    let mut options = layers.to_owned();
    for (name, value) in parameters(&plan.options, plan.upper.is_some()).into_iter().filter(|(name, _)| is_meant(name)) {
        options.push(value.map_or_else(|| format!(",{name}"), |value| format!(",{name}={value}")));
    }
    kernel_mount::mount("overlay", &plan.source, &plan.mountpoint, plan.attributes, &options)
}

/// Gives a layer a path. A mount that stands nowhere gets a place; before Linux 5.2 there are none, and every layer has one.
fn stand(lower: BorrowedFd<'_>, stage: &Stage) -> Result<PathBuf> {
    let place = stage.place()?;
    match kernel_mount::place(lower, &place) {
        Ok(()) => Ok(place),
        Err(Errno::ENOSYS) => {
            let link = PathBuf::from(format!("/proc/self/fd/{}", lower.as_raw_fd()));
            std::fs::read_link(&link).map_err(|e| Error::sys("find the place of", link, e))
        }
        Err(e) => Err(Error::sys("mount on", &place, e)),
    }
}

/// Without an upper the kernel wants two layers, the lower of which may be empty.
const fn needs_empty_layer(plan: &MountPlan, lowers: usize) -> bool {
    lowers == 1 && plan.upper.is_none()
}

fn empty_layer() -> Result<OwnedFd, Errno> {
    FsContext::open("tmpfs")?.mount(Attributes { read_only: true, ..Attributes::default() })
}

/// Parameters of overlayfs (fs/overlayfs/params.c) that mean the same as our options. What is not said is switched off, whatever
/// the machine's default: an upper that is made now must suit both backends.
fn parameters(options: &MountOptions, writable: bool) -> Vec<(&'static str, Option<&'static str>)> {
    let mut set = Vec::new();
    if options.userxattr {
        set.push(("userxattr", None));
    } else {
        let redirect_dir = match (options.redirect_dir, options.metacopy) {
            (Some(RedirectDir::On), _) | (None, true) => "on",
            (Some(RedirectDir::Follow) | None, _) => "follow",
            (Some(RedirectDir::NoFollow), _) => "nofollow",
        };
        set.push(("redirect_dir", Some(redirect_dir)));
        set.push(("metacopy", Some(switch(options.metacopy))));
    }
    set.push(("index", Some(switch(options.index == Some(true)))));
    set.push(match options.xino {
        Xino::Off => ("xino", Some("off")),
        Xino::Auto => ("xino", Some("auto")),
        Xino::On => ("xino", Some("on")),
    });
    match options.uuid {
        // Before Linux 6.7 there is nothing else than this.
        Uuid::Null if !writable => {}
        Uuid::Null => set.push(("uuid", Some("null"))),
        Uuid::Off => set.push(("uuid", Some("off"))),
        Uuid::Auto => set.push(("uuid", Some("auto"))),
        Uuid::On => set.push(("uuid", Some("on"))),
    }
    match options.fsync {
        Fsync::Auto => {}
        Fsync::Strict => set.push(("fsync", Some("strict"))),
        Fsync::Volatile if writable => set.push(("volatile", None)),
        Fsync::Volatile => {}
    }
    set
}

const fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// overlayfs takes a backslash for an escape in paths that come as strings, and commas and colons for separators
/// (fs/overlayfs/params.c, `ovl_unescape`, `ovl_next_opt`).
fn escaped(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    OsString::from_vec(
        bytes.iter().flat_map(|&b| if matches!(b, b'\\' | b',' | b':') { vec![b'\\', b] } else { vec![b] }).collect(),
    )
}

fn refuse(plan: &MountPlan, refusal: &Refusal) -> Error {
    let mountpoint = plan.mountpoint.display();
    let said = format!("the kernel's overlayfs does not mount {mountpoint}: {refusal}");
    match refusal.errno {
        Errno::ENOSPC | Errno::EDQUOT => Error::Full(format!("{said}; make room on the upper's file system")),
        _ => Error::Refused(format!("{said}; option backend=fuse does without it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_mean_the_same_as_options() {
        for (list, writable, expected) in [
            ("", true, "redirect_dir=follow metacopy=off index=off xino=auto uuid=null"),
            ("redirect_dir=on,xino=on", true, "redirect_dir=on metacopy=off index=off xino=on uuid=null"),
            ("redirect_dir=nofollow,xino=off", true, "redirect_dir=nofollow metacopy=off index=off xino=off uuid=null"),
            ("metacopy=on,index=on,uuid=on", true, "redirect_dir=on metacopy=on index=on xino=auto uuid=on"),
            ("userxattr,fsync=strict,uuid=auto", true, "userxattr index=off xino=auto uuid=auto fsync=strict"),
            ("volatile,uuid=off", true, "redirect_dir=follow metacopy=off index=off xino=auto uuid=off volatile"),
            ("volatile", false, "redirect_dir=follow metacopy=off index=off xino=auto"),
        ] {
            let mut options = MountOptions::default();
            options.read(list.as_ref()).unwrap();
            let show = |(name, value): &(&str, Option<&str>)| value.map_or((*name).to_owned(), |value| format!("{name}={value}"));
            let set: Vec<_> = parameters(&options, writable).iter().map(show).collect();
            assert_eq!(set.join(" "), expected, "{list}");
        }
    }

    #[test]
    fn separators_are_escaped() {
        assert_eq!(escaped(Path::new("/a\\b:c,d e")), "/a\\\\b\\:c\\,d e");
    }
}
