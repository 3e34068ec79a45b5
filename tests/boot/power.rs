//! A machine that is switched on and off: each boot has namespaces of its own, a /run, a console and a kernel's log, and at its end
//! every process is killed.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use haosfs::update::state::State;
use haosfs::update::store::Store;

use crate::disk::{fresh_guid, run};
use crate::machine::Machine;
use crate::support::{Finished, HAOSFS, can_run, has_tool, is_root};
use crate::tree::snapshot::Snapshot;
use crate::{NEW, OLD};

/// What a boot finds.
const PREPARE: &str = "mount -t tmpfs none /run && mount --bind $KMSG /dev/kmsg && mount --bind $CONSOLE /dev/console && \
                       BOOT=\"$HAOSFS boot --ini $INI --target $MNT --json --wait 0\"\n";

pub fn possible(test: &str) -> bool {
    let tools = ["mkfs.ext4", "losetup", "partx", "mksquashfs", "unshare"];
    let found = tools.into_iter().all(|tool| has_tool(tool) || Path::new("/usr/sbin").join(tool).exists());
    can_run(test, is_root() && found, "needs root, losetup, partx, mksquashfs, unshare and mkfs.ext4")
}

pub struct Power {
    pub machine: Machine,
}

impl Power {
    pub fn with(fs_name: &str) -> Self {
        let power = Self { machine: Machine::with(fs_name) };
        [OLD, NEW].into_iter().for_each(|version| power.pack(version, 0o755));
        let ini = power.machine.ini();
        let text = fs::read_to_string(&ini).unwrap();
        fs::write(ini, format!("{text}[network]\naddress = 192.0.2.7/24\n")).unwrap();
        ["kmsg", "console"].into_iter().for_each(|name| drop(File::create(power.machine.scratch.path(name)).unwrap()));
        power
    }

    /// An image with a first program, where that has a mode.
    fn pack(&self, version: &str, mode: u32) {
        let tree = self.machine.scratch.path("tree");
        for directory in ["etc", "sbin", "bin", "run", "dev", "proc"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        fs::write(tree.join("etc/version"), version).unwrap();
        fs::write(tree.join("bin/sh"), "a shell").unwrap();
        if mode != 0 {
            fs::write(tree.join("sbin/init"), "#!/bin/sh\n").unwrap();
            fs::set_permissions(tree.join("sbin/init"), PermissionsExt::from_mode(mode)).unwrap();
        }
        let quietly = ["-noappend", "-quiet", "-no-progress"];
        run(Command::new("mksquashfs").arg(&tree).arg(self.machine.image(version)).args(quietly));
        fs::remove_dir_all(tree).unwrap();
    }

    /// Runs a script after the machine was switched on; `$BOOT` boots. At its end the power is cut.
    pub fn on(&self, script: &str) -> Finished {
        let path = |name: &str| self.machine.scratch.path(name);
        let unshare = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"];
        // Whatever hangs is ended by that.
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "120", "unshare"]).args(unshare).args(["sh", "-c", &format!("{PREPARE}{script}")]);
        command.envs([("HAOSFS", HAOSFS.into()), ("INI", self.machine.ini()), ("MNT", path("mnt")), ("SYSTEM", path("system"))]);
        command.envs([("KMSG", path("kmsg")), ("CONSOLE", path("console"))]);
        Finished::from(command.stdin(Stdio::null()).output().unwrap())
    }

    /// Stages the newer image.
    pub fn stage(&self) {
        let [ini, image] = [self.machine.ini(), self.machine.image(NEW)].map(|path| path.into_os_string().into_string().unwrap());
        let staged = self.machine.scratch.haosfs(&["update", "stage", &image, "--ini", &ini, "--again"]);
        assert_eq!(staged.code, Some(0), "{staged:?}");
    }

    pub fn state(&self) -> State {
        Store::look(&self.machine.ini()).unwrap().read().unwrap().state
    }

    pub fn upper(&self, generation: u64) -> Snapshot {
        self.machine.on_data(|data| Snapshot::read(&data.join(format!("haosfs/uppers/{generation}/upper"))).unwrap())
    }

    pub fn add_to_ini(&self, text: &str) {
        let ini = self.machine.ini();
        let old = fs::read_to_string(&ini).unwrap();
        fs::write(ini, old + text).unwrap();
    }

    pub fn log_path(&self, attempt: u32) -> PathBuf {
        let image = self.machine.image(NEW).file_name().unwrap().to_str().unwrap().to_owned();
        self.machine.scratch.path("system/logs").join(format!("{image}-{attempt}.log"))
    }

    /// The log of an attempt of the newer image.
    pub fn log(&self, attempt: u32) -> String {
        fs::read_to_string(self.log_path(attempt)).unwrap()
    }

    pub fn truncate(&self) {
        File::options().write(true).open(self.machine.image(NEW)).unwrap().set_len(200).unwrap();
    }

    /// An image that can be lived in: with these programs and their libraries, and a large file.
    pub fn pack_to_live_in(&self, programs: &[&str]) {
        let tree = self.machine.scratch.path("tree");
        for directory in ["etc", "sbin", "proc", "old", "dev"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        let needed = run(Command::new("ldd").args(programs));
        let libraries = needed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
        for file in programs.iter().copied().chain(libraries) {
            let to = tree.join(&file[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
        std::os::unix::fs::symlink("/bin/sh", tree.join("sbin/init")).unwrap();
        fs::write(tree.join("etc/version"), OLD).unwrap();
        fs::write(tree.join("big"), vec![b'x'; 20 << 20]).unwrap();
        let quietly = ["-noappend", "-quiet", "-no-progress"];
        run(Command::new("mksquashfs").arg(&tree).arg(self.machine.image(OLD)).args(quietly));
        fs::remove_dir_all(tree).unwrap();
    }

    pub fn pack_without_init(&self) {
        self.pack(NEW, 0);
    }

    pub fn pack_with_plain_init(&self) {
        self.pack(NEW, 0o644);
    }

    pub fn pack_another(&self, version: &str) {
        self.pack(version, 0o755);
    }

    /// The partition table has another disk's id.
    pub fn lose_data(&self) {
        let ini = self.machine.ini();
        let text = fs::read_to_string(&ini).unwrap();
        fs::write(ini, text.replace(&self.machine.guid, &fresh_guid())).unwrap();
    }
}
