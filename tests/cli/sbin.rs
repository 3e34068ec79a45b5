//! A mount namespace whose /sbin holds the helpers under test alone; the machine's own stays as it is.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::support::{Finished, Scratch, wait_until, without_children};

/// The names by which mount(8) and umount(8) look for helpers.
pub const NAMES: [&str; 4] = ["mount.haosfs", "mount.fuse.haosfs", "umount.haosfs", "umount.fuse.haosfs"];

/// What stands under those names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// Links to haosfs.
    Haosfs,
    /// A script that writes down its arguments, each in brackets, and succeeds.
    Recorder,
    /// Nothing; mount.fuse3 alone.
    None,
}

/// A scratch directory as [`Scratch::with_image`] makes it, and the namespace.
pub struct Sbin {
    pub scratch: Scratch,
    /// Whose namespace it is; it ends with its standard input.
    keeper: Child,
}

impl Sbin {
    pub fn new(helper: Helper) -> Self {
        let scratch = Scratch::with_image();
        scratch.mkdir("sbin");
        scratch.mkdir("outside");
        let script = "#!/bin/sh\nprintf '%s' \"${0##*/}\" >> LOG\nprintf '[%s]' \"$@\" >> LOG\necho >> LOG\n";
        let log = scratch.path("log").into_os_string().into_string().unwrap();
        for name in NAMES {
            match helper {
                Helper::Haosfs => symlink(scratch.public_haosfs(), scratch.path("sbin").join(name)).unwrap(),
                Helper::Recorder => write_program(&scratch.path("sbin").join(name), &script.replace("LOG", &log)),
                Helper::None => {}
            }
        }
        // Where mount.fuse3 looks for it whatever the search path.
        symlink(scratch.public_haosfs(), scratch.path("sbin/haosfs")).unwrap();
        fs::write(scratch.path("fstab"), "").unwrap();
        let keeper = keep(&scratch);
        Self { scratch, keeper }
    }

    /// A path of the scratch directory as text.
    pub fn path(&self, name: &str) -> String {
        self.scratch.path(name).into_os_string().into_string().unwrap()
    }

    /// Runs a shell script in the namespace and in the scratch directory. `$IMG`, `$MNT`, `$UP` (the options of a writable mount)
    /// and `$D` (the directory) are set.
    pub fn sh(&self, script: &str) -> Finished {
        let d = self.path("");
        let d = d.trim_end_matches('/');
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.keeper.id());
        let mut command = Command::new("nsenter");
        command.arg(namespace).args(["sh", "-c", &format!("cd {d} || exit 99\n{script}")]);
        command.env("D", d).env("IMG", format!("{d}/image.sqfs")).env("MNT", format!("{d}/mnt"));
        command.env("UP", format!("upperdir={d}/upper,workdir={d}/work")).env("LC_ALL", "C");
        command.env("PATH", format!("{d}:/usr/local/bin:/usr/bin:/bin"));
        // A daemon that holds the pipe would never let it end.
        Finished::from(command.stdin(Stdio::null()).output().unwrap())
    }

    /// The same as [`NOBODY`](super::support::NOBODY).
    pub fn sh_as_nobody(&self, script: &str) -> Finished {
        let quoted = script.replace('\'', "'\\''");
        self.sh(&format!("setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '{quoted}'"))
    }

    /// Makes [`NOBODY`](super::support::NOBODY) the owner of the mountpoint, the upper and its work directory.
    pub fn give_to_nobody(&self) {
        self.sh("chown 65534:65534 mnt upper work").succeeded();
    }

    /// What /etc/fstab is within the namespace.
    pub fn fstab(&self, lines: &str) {
        fs::write(self.scratch.path("fstab"), lines).unwrap();
    }

    /// The line of mountinfo for a mountpoint in the scratch directory.
    pub fn mountinfo(&self, name: &str) -> Option<String> {
        let mountpoint = self.path(name);
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.keeper.id())).unwrap();
        table.lines().rev().find(|line| line.split(' ').nth(4) == Some(&mountpoint)).map(str::to_owned)
    }

    /// Asserts that the last mount is gone with its daemon.
    #[track_caller]
    pub fn is_clean(&self) {
        assert_eq!(self.mountinfo("mnt"), None);
        wait_until("no daemon is left", || self.daemons().is_empty());
    }

    /// Daemons of this test, without children that they have for a moment.
    pub fn daemons(&self) -> Vec<i32> {
        let haosfs = self.path("haosfs");
        let is_own = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(&haosfs));
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
        without_children(pids.filter(is_own).collect())
    }

    /// What the recorder wrote since the last call, with the scratch directory as `$D`.
    pub fn recorded(&self) -> String {
        let log = self.scratch.path("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        fs::write(&log, "").unwrap();
        fs::set_permissions(&log, PermissionsExt::from_mode(0o666)).unwrap();
        text.replace(self.path("").trim_end_matches('/'), "$D").trim_end().to_owned()
    }
}

impl Drop for Sbin {
    /// The namespace would live on in the daemons.
    fn drop(&mut self) {
        self.sh("for m in $(awk '{print $5}' /proc/self/mountinfo | grep ^$D/); do umount -i -l $m; done");
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn keep(scratch: &Scratch) -> Child {
    let [sbin, fstab] = ["sbin", "fstab"].map(|name| scratch.path(name).into_os_string().into_string().unwrap());
    let system = fs::canonicalize("/sbin").unwrap();
    for name in ["mount.fuse", "mount.fuse3"].iter().filter(|name| system.join(name).exists()) {
        fs::copy(system.join(name), Path::new(&sbin).join(name)).unwrap();
    }
    let fstab_here = if Path::new("/etc/fstab").exists() { format!("mount --bind {fstab} /etc/fstab") } else { ":".to_owned() };
    // libmount keeps notes of mounts with options of user space there.
    let notes = "mkdir -p /run/mount && mount -t tmpfs none /run/mount";
    let script = format!("mount --bind {sbin} {} && {fstab_here} && {notes} && echo ready && exec cat", system.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = command.spawn().unwrap();
    let mut ready = [0; 6];
    keeper.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    keeper
}

/// A script that anybody may run.
pub fn write_program(path: &PathBuf, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Whether this machine can run these tests; says what is missing.
pub fn possible(test: &str) -> bool {
    let tools = ["mount", "unshare", "nsenter"].into_iter().all(super::support::has_tool);
    super::support::can_run(test, super::support::is_root() && tools, "needs root, mount, unshare and nsenter")
}
