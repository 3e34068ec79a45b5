//! mount(8)'s and umount(8)'s ways of calling a helper: `mount.haosfs SPEC DIR [-fnsv] [-o OPTIONS] [-t TYPE] [-N NAMESPACE]` and
//! `umount.haosfs DIR [-flnrv] [-t TYPE] [-N NAMESPACE]` (util-linux, libmount/src/context_mount.c and context_umount.c). The
//! program's own name tells which; `haosfs SPEC DIR -o OPTIONS` without a subcommand, as mount.fuse3(8) calls, is the first.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What may stand behind `-t`: it tells nothing new.
const TYPES: [&str; 3] = ["haosfs", "fuse.haosfs", "fuse"];

/// How the helpers are called, for those who call them wrongly.
pub const MOUNT_USAGE: &str = "mount.haosfs SPEC DIR [-fnsv] [-o OPTIONS] [-t TYPE] [-N NAMESPACE]";
/// The same of the other one.
pub const UMOUNT_USAGE: &str = "umount.haosfs DIR [-flnrv] [-t TYPE] [-N NAMESPACE]";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// To mount.
    Mount(MountCall),
    /// To unmount.
    Umount(UmountCall),
}

/// A call of mount(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountCall {
    /// What to mount.
    pub spec: OsString,
    /// Where.
    pub dir: PathBuf,
    /// Each `-o`.
    pub options: Vec<OsString>,
    /// `-s`: unknown options are passed over.
    pub sloppy: bool,
    /// `-f`: everything but the mount.
    pub fake: bool,
    /// `-v`: tell what is done.
    pub verbose: bool,
    /// A FUSE mount is asked for: by `-t fuse.haosfs`, by the name `mount.fuse.haosfs`, or through mount.fuse3(8).
    pub fuse: bool,
    /// `-N`: a file of the mount namespace to mount in.
    pub namespace: Option<PathBuf>,
}

/// A call of umount(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UmountCall {
    /// A mountpoint.
    pub dir: PathBuf,
    /// `-f`: break the connection to the daemon first.
    pub force: bool,
    /// `-l`: detach, though it be in use.
    pub lazy: bool,
    /// `-r`: where it is busy, make it read-only instead.
    pub read_only: bool,
    /// `-v`: tell what is done.
    pub verbose: bool,
    /// `-N`: a file of the mount namespace to unmount in.
    pub namespace: Option<PathBuf>,
}

/// The role that a program of this name plays; `None` for `haosfs` itself. A leading `@` marks the daemon of a root file system.
fn role(program: &OsStr) -> Option<Role> {
    let name = Path::new(program).file_name()?.as_bytes();
    let name = name.strip_prefix(b"@").unwrap_or(name);
    if name.starts_with(b"umount.") {
        Some(Role::Umount)
    } else if name.starts_with(b"mount.fuse") {
        Some(Role::MountFuse)
    } else if name.starts_with(b"mount.") || name == b"mount-haosfs" {
        Some(Role::Mount)
    } else {
        None
    }
}

/// What a program is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Mount,
    MountFuse,
    Umount,
}

/// Reads a call, the first word of which is the program's name; `None` where it is none, but one of the subcommands.
///
/// # Errors
/// [`Error::Refused`] with what is wrong about it, and how it should look.
pub fn read(arguments: &[OsString]) -> Option<Result<Call>> {
    let (program, given) = arguments.split_first()?;
    match role(program) {
        Some(role) => Some(read_as(role, given)),
        None if has_no_subcommand(given) => Some(read_as(Role::MountFuse, given)),
        None => None,
    }
}

/// Reads a call of a program that is nothing but a helper, whatever its name.
///
/// # Errors
/// As for [`read`].
pub fn read_helper(arguments: &[OsString]) -> Result<Call> {
    let (program, given) = arguments.split_first().ok_or_else(|| Error::Refused(format!("usage: {MOUNT_USAGE}")))?;
    read_as(role(program).unwrap_or(Role::Mount), given)
}

/// `SPEC DIR ...`.
fn has_no_subcommand(given: &[OsString]) -> bool {
    let [spec, dir, ..] = given else { return false };
    let is_subcommand = spec == "help" || super::command_line().find_subcommand(spec).is_some();
    !is_subcommand && !is_flag(spec) && !is_flag(dir)
}

fn read_as(role: Role, given: &[OsString]) -> Result<Call> {
    let (usage, flags) = match role {
        Role::Mount | Role::MountFuse => (MOUNT_USAGE, "fnsv"),
        Role::Umount => (UMOUNT_USAGE, "flnrv"),
    };
    let words = Words::read(given, flags, usage)?;
    if let Some(other) = words.valued(b't').find(|&name| !TYPES.iter().any(|known| name == OsStr::new(known))) {
        return Err(Error::Refused(format!("type {}: expected {}", other.display(), TYPES.join(", "))));
    }
    let namespace = words.valued(b'N').last().map(PathBuf::from);
    match (role, words.positional.as_slice()) {
        (Role::Mount | Role::MountFuse, [spec, dir]) => Ok(Call::Mount(MountCall {
            spec: spec.clone(),
            dir: dir.into(),
            options: words.valued(b'o').map(OsStr::to_owned).collect(),
            sloppy: words.has(b's'),
            fake: words.has(b'f'),
            verbose: words.has(b'v'),
            fuse: role == Role::MountFuse || words.valued(b't').any(|name| name.as_bytes().starts_with(b"fuse")),
            namespace,
        })),
        (Role::Umount, [dir]) => Ok(Call::Umount(UmountCall {
            dir: dir.into(),
            force: words.has(b'f'),
            lazy: words.has(b'l'),
            read_only: words.has(b'r'),
            verbose: words.has(b'v'),
            namespace,
        })),
        _ => Err(Error::Refused(format!("usage: {usage}"))),
    }
}

fn is_flag(argument: &OsStr) -> bool {
    argument.as_bytes().starts_with(b"-")
}

/// Arguments by getopt(3)'s rules: flags bundle, and stand anywhere before `--`.
#[derive(Default)]
struct Words {
    positional: Vec<OsString>,
    flags: Vec<u8>,
    valued: Vec<(u8, OsString)>,
}

impl Words {
    fn read(given: &[OsString], flags: &str, usage: &str) -> Result<Self> {
        let mut words = Self::default();
        let mut given = given.iter();
        while let Some(word) = given.next() {
            match word.as_bytes() {
                b"--" => words.positional.extend(given.by_ref().cloned()),
                [b'-', bundle @ ..] if !bundle.is_empty() => words.bundle(bundle, &mut given, flags, usage)?,
                _ => words.positional.push(word.clone()),
            }
        }
        Ok(words)
    }

    /// `-fv`, `-o ro`, `-oro`.
    fn bundle<'a>(
        &mut self,
        mut bundle: &[u8],
        given: &mut impl Iterator<Item = &'a OsString>,
        flags: &str,
        usage: &str,
    ) -> Result<()> {
        while let Some((&flag, rest)) = bundle.split_first() {
            bundle = rest;
            if matches!(flag, b't' | b'N') || (flag == b'o' && usage == MOUNT_USAGE) {
                let value = if rest.is_empty() { given.next().cloned() } else { Some(OsString::from_vec(rest.to_vec())) };
                let missing = || Error::Refused(format!("-{} needs a value; usage: {usage}", char::from(flag)));
                self.valued.push((flag, value.ok_or_else(missing)?));
                return Ok(());
            }
            if !flags.as_bytes().contains(&flag) {
                return Err(Error::Refused(format!("unknown flag -{}; usage: {usage}", char::from(flag))));
            }
            self.flags.push(flag);
        }
        Ok(())
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.contains(&flag)
    }

    fn valued(&self, flag: u8) -> impl Iterator<Item = &OsStr> {
        self.valued.iter().filter(move |(name, _)| *name == flag).map(|(_, value)| value.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Option<Result<Call, String>> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        read(&arguments).map(|answer| answer.map_err(|e| e.to_string()))
    }

    fn mount(options: &[&str]) -> MountCall {
        let options = options.iter().map(OsString::from).collect();
        MountCall { spec: "/img".into(), dir: "/mnt".into(), options, ..MountCall::default() }
    }

    #[test]
    fn what_mount_8_passes_is_read() {
        let namespace = Some("/proc/7/fd/4".into());
        for (line, expected) in [
            ("/sbin/mount.haosfs /img /mnt -o rw", mount(&["rw"])),
            ("/sbin/mount.haosfs /img /mnt", mount(&[])),
            ("mount.fuse.haosfs /img /mnt -o rw,nosuid", MountCall { fuse: true, ..mount(&["rw,nosuid"]) }),
            ("mount.haosfs /img /mnt -f -o rw", MountCall { fake: true, ..mount(&["rw"]) }),
            ("mount.haosfs /img /mnt -s -n -v -o a", MountCall { sloppy: true, verbose: true, ..mount(&["a"]) }),
            (
                "mount.haosfs /img /mnt -o rw -t fuse.haosfs -N /proc/7/fd/4",
                MountCall { fuse: true, namespace, ..mount(&["rw"]) },
            ),
            ("mount.haosfs -fv /img -oro /mnt -o x", MountCall { fake: true, verbose: true, ..mount(&["ro", "x"]) }),
            ("@mount.haosfs /img /mnt -o rootfs", mount(&["rootfs"])),
            ("mount-haosfs /img /mnt", mount(&[])),
            ("/usr/bin/haosfs /img /mnt -o rw,dev,suid", MountCall { fuse: true, ..mount(&["rw,dev,suid"]) }),
            ("@haosfs /img /mnt -o rw", MountCall { fuse: true, ..mount(&["rw"]) }),
        ] {
            assert_eq!(call(line), Some(Ok(Call::Mount(expected))), "{line}");
        }
    }

    #[test]
    fn what_umount_8_passes_is_read() {
        let umount = UmountCall { dir: "/mnt".into(), ..UmountCall::default() };
        let all = UmountCall { force: true, lazy: true, read_only: true, verbose: true, ..umount.clone() };
        let elsewhere = UmountCall { namespace: Some("/proc/7/fd/4".into()), ..umount.clone() };
        for (line, expected) in [
            ("/sbin/umount.fuse.haosfs /mnt", umount.clone()),
            ("/sbin/umount.haosfs /mnt -n -l -f -v -r -t fuse.haosfs", all),
            ("umount.fuse.haosfs /mnt -N /proc/7/fd/4", elsewhere),
            ("umount.haosfs -- /mnt", umount),
        ] {
            assert_eq!(call(line), Some(Ok(Call::Umount(expected))), "{line}");
        }
    }

    #[test]
    fn subcommands_are_no_such_calls() {
        for line in ["haosfs mount /img /mnt -f", "haosfs umount /mnt", "haosfs image ls x", "haosfs check u w", "haosfs demo"] {
            assert_eq!(call(line), None, "{line}");
        }
        for line in ["haosfs config show x", "haosfs --help", "haosfs typo", "haosfs", "@haosfs mount /img /mnt"] {
            assert_eq!(call(line), None, "{line}");
        }
    }

    #[test]
    fn wrong_calls_say_how_it_should_look() {
        for (line, words) in [
            ("mount.haosfs /img", "usage: mount.haosfs SPEC DIR"),
            ("mount.haosfs a b c", "usage: mount.haosfs SPEC DIR"),
            ("mount.haosfs a b -o", "-o needs a value"),
            ("mount.haosfs a b -x", "unknown flag -x"),
            ("mount.haosfs a b --upper x", "unknown flag --"),
            ("mount.haosfs a b -t haosfs.sub", "type haosfs.sub: expected haosfs"),
            ("umount.haosfs a b", "usage: umount.haosfs DIR"),
            ("umount.haosfs a -o x", "unknown flag -o"),
        ] {
            let message = call(line).unwrap().unwrap_err();
            assert!(message.contains(words), "{line}: {message}");
        }
    }
}
