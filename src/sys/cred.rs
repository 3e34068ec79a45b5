//! File system credentials of the working thread, so that what a caller creates is the caller's from its first instant.
#![allow(unsafe_code)]

use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, capabilities, capabilities_secure_bits, set_capabilities_secure_bits,
};

use super::proc;
use crate::error::Errno;
use crate::types::Caller;

/// What this process may do to files that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// May create files in other users' names: `CAP_SETUID` and `CAP_SETGID`.
    pub impersonate: bool,
    /// May give files away: `CAP_CHOWN`.
    pub chown: bool,
    /// Is not bound by permission bits: `CAP_DAC_OVERRIDE`.
    pub dac_override: bool,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// Reads the privileges of the calling thread.
#[must_use]
pub fn privilege() -> Privilege {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    Privilege {
        impersonate: effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID),
        chown: effective.contains(CapabilitySet::CHOWN),
        dac_override: effective.contains(CapabilitySet::DAC_OVERRIDE),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

/// Lets the calling thread, and every thread it starts, keep its capabilities while it acts under another file system
/// user id (`SECBIT_NO_SETUID_FIXUP`, capabilities(7)).
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn keep_capabilities() -> Result<(), Errno> {
    let bits = capabilities_secure_bits()?;
    Ok(set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)?)
}

/// True where `gid` is one of the caller's groups; false as well where that cannot be found out (proc_pid_status(5)).
#[must_use]
pub fn has_group(caller: Caller, gid: u32) -> bool {
    if caller.gid == gid {
        return true;
    }
    // Nobody has the number 0: the caller lives in a PID namespace that we do not see.
    if caller.pid == 0 {
        return false;
    }
    let status = std::fs::read_to_string(proc::path(&format!("{}/status", caller.pid))).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_ascii_whitespace().any(|group| group.parse() == Ok(gid))
}

fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: both calls change only the calling thread's file system ids and take any value; one the kernel does not accept
    // leaves the ids as they were. The group goes first while the user id still allows it.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}

fn fs_ids() -> (u32, u32) {
    // SAFETY: an id of -1 is never valid, so the calls change nothing and return the present ids (setfsuid(2)).
    let (uid, gid) = unsafe { (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX)) };
    (uid.cast_unsigned(), gid.cast_unsigned())
}

/// While it lives, the calling thread creates files as somebody else. Not for sending to another thread.
#[derive(Debug)]
pub struct Acting {
    own: Option<(u32, u32)>,
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Acting {
    /// Takes on the caller's ids.
    ///
    /// # Errors
    /// `EOVERFLOW` where the ids do not exist in this user namespace (the kernel overlayfs' answer too).
    pub fn as_caller(caller: Caller, privilege: &Privilege) -> Result<Self, Errno> {
        let mut acting = Self { own: None, _not_send: std::marker::PhantomData };
        if !privilege.impersonate || (caller.uid, caller.gid) == (privilege.uid, privilege.gid) {
            return Ok(acting);
        }
        acting.own = Some((privilege.uid, privilege.gid));
        set_fs_ids(caller.uid, caller.gid);
        if fs_ids() == (caller.uid, caller.gid) { Ok(acting) } else { Err(Errno::EOVERFLOW) }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.own {
            set_fs_ids(uid, gid);
        }
    }
}
