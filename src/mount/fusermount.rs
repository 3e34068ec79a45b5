//! fusermount3, which mounts for ordinary users: it is given one end of a socket pair in `_FUSE_COMMFD`, and sends the opened
//! device over it as SCM_RIGHTS (the interface that libfuse's own library uses).

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::FdFlags;

use crate::error::{Errno, Error, Result};
use crate::sys::descriptors;
use crate::sys::fuse_mount::Parameters;

/// Mounts at `mountpoint` and returns the device.
///
/// # Errors
/// [`Error::Refused`] with fusermount3's own words.
pub fn mount(program: &Path, parameters: &Parameters<'_>, mountpoint: &Path) -> Result<OwnedFd> {
    let failed = |e: io::Error| Error::sys("run", program, e);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(|e| failed(e.into()))?;
    let child = Command::new(program)
        .arg("-o")
        .arg(option_list(parameters))
        .arg("--")
        .arg(mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Without this the end of file would never come where fusermount3 fails.
    drop(theirs);
    let device = descriptors::receive(&ours);
    let words = finish(child, program)?;
    match device.map_err(failed)?.into_iter().next() {
        Some(device) => Ok(device),
        None if words.is_empty() => Err(Error::Refused(format!("{} gave no device", program.display()))),
        None => Err(Error::Refused(words)),
    }
}

/// Unmounts what this user mounted.
///
/// # Errors
/// `EBUSY` while in use and not `lazy`; else [`Error::Refused`] with fusermount3's own words.
pub fn unmount(program: &Path, mountpoint: &Path, lazy: bool) -> Result<()> {
    let child = Command::new(program)
        .args(if lazy { &["-u", "-z", "--"][..] } else { &["-u", "--"] })
        .arg(mountpoint)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::sys("run", program, e))?;
    match finish(child, program)? {
        words if words.is_empty() => Ok(()),
        words if words.contains("busy") => Err(Error::sys("unmount", mountpoint, Errno::EBUSY)),
        words => Err(Error::Refused(words)),
    }
}

/// Waits for the program; empty for success, else what it said.
fn finish(mut child: Child, program: &Path) -> Result<String> {
    let mut words = String::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut words).map_err(|e| Error::sys("read from", program, e))?;
    }
    let status = child.wait().map_err(|e| Error::sys("wait for", program, e))?;
    let words = words.trim().to_owned();
    Ok(match (status.success(), words.is_empty()) {
        (true, _) => String::new(),
        (false, false) => words,
        (false, true) => format!("{}: {status}", program.display()),
    })
}

/// Commas and backslashes of the source are escaped with a backslash, as fusermount3 expects.
fn option_list(parameters: &Parameters<'_>) -> OsString {
    let mut list = b"fsname=".to_vec();
    for &byte in parameters.source.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            list.push(b'\\');
        }
        list.push(byte);
    }
    list.extend_from_slice(b",subtype=haosfs");
    let mut flags = parameters.attributes.names();
    if parameters.default_permissions {
        flags.push("default_permissions");
    }
    if parameters.allow_other {
        flags.push("allow_other");
    }
    for flag in flags {
        list.push(b',');
        list.extend_from_slice(flag.as_bytes());
    }
    OsString::from_vec(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fuse_mount::Attributes;
    use crate::types::Atime;
    use std::ffi::OsStr;

    #[test]
    fn options_are_escaped_and_named() {
        let attributes = Attributes { read_only: true, atime: Atime::Never, ..Attributes::default() };
        let mut parameters = Parameters {
            source: OsStr::new("/a,b\\c"),
            uid: 1,
            gid: 1,
            allow_other: false,
            default_permissions: true,
            attributes,
        };
        assert_eq!(option_list(&parameters), "fsname=/a\\,b\\\\c,subtype=haosfs,ro,noatime,default_permissions");
        parameters.allow_other = true;
        parameters.attributes = Attributes::default();
        assert_eq!(option_list(&parameters), "fsname=/a\\,b\\\\c,subtype=haosfs,default_permissions,allow_other");
    }
}
