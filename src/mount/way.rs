//! The pure choice: facts about this machine to the ways to mount, best first.

use super::probe::{DeviceFact, Facts};
use crate::error::{Error, Result};

/// A way to a mounted FUSE superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// fsopen(2), fsmount(2), then move_mount(2) when the union answers.
    Detached,
    /// mount(2) in one step.
    OneStep,
    /// The set-user-id program fusermount3.
    Fusermount,
}

/// The ways worth trying, in order; the next one only where the kernel refuses the one before with `EPERM`, `ENOSYS` or `EINVAL`.
///
/// # Errors
/// [`Error::Refused`] with the remedy where no way is left.
pub fn ways(facts: &Facts) -> Result<Vec<Way>> {
    match facts.device {
        DeviceFact::Usable => {}
        DeviceFact::Missing => return Err(Error::Refused(missing_device(facts))),
        DeviceFact::Denied => return Err(Error::Refused(denied_device(facts))),
    }
    // Within a user namespace of its own fusermount3 has no rights that this process lacks.
    let helper = facts.fusermount.is_some() && facts.initial_user_namespace && facts.euid != 0;
    let mut ways = Vec::new();
    if facts.may_administer {
        ways.extend([Way::Detached, Way::OneStep]);
    }
    if helper {
        ways.push(Way::Fusermount);
    }
    if ways.is_empty() { Err(Error::Refused(no_way(facts))) } else { Ok(ways) }
}

fn missing_device(facts: &Facts) -> String {
    let remedy = if facts.initial_user_namespace && facts.euid == 0 {
        "load the driver with `modprobe fuse`; in a container pass the device in (`--device /dev/fuse`)"
    } else {
        "ask root to run `modprobe fuse`; in a container pass the device in (`--device /dev/fuse`)"
    };
    format!("/dev/fuse is missing: {remedy}")
}

fn denied_device(facts: &Facts) -> String {
    format!(
        "no permission to open /dev/fuse as uid {}: root can run `chmod 0666 /dev/fuse`, or keep it so with the udev rule \
         KERNEL==\"fuse\", MODE=\"0666\", or add the user to the device's group",
        facts.euid
    )
}

/// Why there is no way, and what to do.
pub fn no_way(facts: &Facts) -> String {
    if facts.initial_user_namespace && facts.euid != 0 {
        format!(
            "uid {} may not mount and fusermount3 is missing: install the package fuse3, or run inside `unshare -Urm`",
            facts.euid
        )
    } else if facts.initial_user_namespace {
        "this process lacks CAP_SYS_ADMIN and may not mount: in a container pass `--cap-add SYS_ADMIN`".to_owned()
    } else {
        "this user namespace has no right to mount: run inside `unshare -Urm`".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(euid: u32, may_administer: bool, initial: bool, device: DeviceFact, helper: bool) -> Facts {
        let fusermount = helper.then(|| "/usr/bin/fusermount3".into());
        Facts { euid, may_administer, initial_user_namespace: initial, device, fusermount }
    }

    #[test]
    fn ways_follow_from_rights() {
        use DeviceFact::Usable;
        for (facts, expected) in [
            (facts(0, true, true, Usable, true), vec![Way::Detached, Way::OneStep]),
            (facts(0, true, false, Usable, true), vec![Way::Detached, Way::OneStep]),
            (facts(1000, false, true, Usable, true), vec![Way::Fusermount]),
            (facts(1000, true, true, Usable, true), vec![Way::Detached, Way::OneStep, Way::Fusermount]),
            (facts(1000, true, false, Usable, true), vec![Way::Detached, Way::OneStep]),
        ] {
            assert_eq!(ways(&facts).unwrap(), expected, "{facts:?}");
        }
    }

    #[test]
    fn refusals_name_the_remedy() {
        use DeviceFact::{Denied, Missing, Usable};
        for (facts, remedy) in [
            (facts(0, true, true, Missing, true), "load the driver with `modprobe fuse`"),
            (facts(1000, false, true, Missing, true), "ask root to run `modprobe fuse`"),
            (facts(1000, false, true, Denied, true), "chmod 0666 /dev/fuse"),
            (facts(1000, false, true, Denied, true), "udev rule"),
            (facts(1000, false, true, Usable, false), "install the package fuse3"),
            (facts(0, false, true, Usable, true), "--cap-add SYS_ADMIN"),
            (facts(1000, false, false, Usable, true), "unshare -Urm"),
        ] {
            let message = ways(&facts).unwrap_err().to_string();
            assert!(message.contains(remedy), "{facts:?}: {message}");
        }
    }
}
