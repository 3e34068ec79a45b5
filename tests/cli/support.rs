//! A scratch directory with images and mounts; whatever is mounted beneath it goes when the test ends, also by a panic.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use backhand::{FilesystemWriter, NodeHeader};

/// The program under test.
pub const HAOSFS: &str = env!("CARGO_BIN_EXE_haosfs");

/// The user that stands for every ordinary one.
pub const NOBODY: u32 = 65534;

/// Prints why a test cannot run; where a skip counts as a failure (HAOSFS_NO_SKIP=1), fails. Returns whether it can.
pub fn can_run(test: &str, possible: bool, reason: &str) -> bool {
    if !possible {
        println!("SKIPPED {test}: {reason}");
        assert!(std::env::var_os("HAOSFS_NO_SKIP").is_none_or(|v| v != "1"), "{test} was skipped: {reason}");
    }
    possible
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn has_tool(name: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|d| d.join(name).is_file())
}

/// Whether an ordinary user may make user namespaces here.
pub fn has_user_namespaces() -> bool {
    let unshare = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "unshare", "-Urm", "true"];
    is_root() && Command::new("setpriv").args(unshare).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// A temporary directory, readable by everyone.
pub struct Scratch {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Scratch {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("haosfs-test-").tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        Self { directory, path }
    }

    /// One with `image.sqfs` (see [`pack`]) and the directories `mnt`, `upper` and `work`.
    pub fn with_image() -> Self {
        let scratch = Self::new();
        pack(&scratch.path("image.sqfs"));
        ["mnt", "upper", "work"].into_iter().for_each(|name| scratch.mkdir(name));
        scratch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn mkdir(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    /// `haosfs` with these arguments, in the scratch directory.
    pub fn haosfs(&self, arguments: &[&str]) -> Finished {
        self.run(HAOSFS, arguments)
    }

    /// `haosfs umount`, which succeeds. A child that another test is just starting has our descriptors until it executes its program,
    /// those of files of the union, too: that is waited for.
    #[track_caller]
    pub fn umount(&self, name: &str) {
        let mut finished = self.haosfs(&["umount", name]);
        for _ in 0..100 {
            if !finished.stderr.contains(" is busy: ") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            finished = self.haosfs(&["umount", name]);
        }
        finished.succeeded();
    }

    /// The same as [`NOBODY`].
    pub fn haosfs_as_nobody(&self, arguments: &[&str]) -> Finished {
        let program = self.public_haosfs();
        self.as_nobody(&[&[program.as_str()], arguments].concat())
    }

    /// Any program as [`NOBODY`].
    pub fn as_nobody(&self, program: &[&str]) -> Finished {
        self.run("setpriv", &[&["--reuid", "65534", "--regid", "65534", "--clear-groups"], program].concat())
    }

    /// Makes [`NOBODY`] the owner of everything that stands in the scratch directory.
    pub fn give_to_nobody(&self) {
        for entry in fs::read_dir(&self.path).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// A copy of the program that everyone can reach; the build may lie in somebody's home.
    pub fn public_haosfs(&self) -> String {
        let copy = self.path("haosfs");
        if !copy.exists() {
            // By another process: a child that another test is starting could hold our descriptor, and make the copy busy.
            assert!(Command::new("cp").arg(HAOSFS).arg(&copy).status().unwrap().success());
        }
        copy.into_os_string().into_string().unwrap()
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.path).stdin(Stdio::null()).env("TMPDIR", &self.path);
        Finished::from(command.output().unwrap())
    }

    /// The line of mountinfo for a mountpoint in this directory.
    pub fn mountinfo(&self, name: &str) -> Option<String> {
        let mountpoint = self.path(name).into_os_string().into_string().unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().rev().find(|line| line.split(' ').nth(4) == Some(&mountpoint)).map(str::to_owned)
    }

    /// Processes that were started with a path of this directory among their arguments, without children that they have for a moment.
    pub fn daemons(&self) -> Vec<i32> {
        let own = self.path.to_str().unwrap();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
        let of_here = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(own));
        without_children(pids.filter(of_here).collect())
    }
}

/// Processes whose parent is none of them, and that have not ended meanwhile.
pub fn without_children(all: Vec<i32>) -> Vec<i32> {
    all.iter().copied().filter(|&pid| parent(pid).is_some_and(|parent| !all.contains(&parent))).collect()
}

/// Field 4 of proc_pid_stat(5).
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = self.path.to_str().unwrap_or_default();
        for mountpoint in table.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|m| m.starts_with(own)) {
            let _ = rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::DETACH);
        }
        // An ordinary user's mount, when this is an ordinary user.
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(self.directory.path()).stderr(Stdio::null()).status();
    }
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Finished {
    /// Asserts success without a word on standard error.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    /// Asserts this exit code and one line on standard error that contains `words`.
    #[track_caller]
    pub fn failed(self, code: i32, words: &str) {
        assert_ne!(code, 0);
        self.ended(code, words);
    }

    /// Asserts success with one line on standard error that contains `words`.
    #[track_caller]
    pub fn succeeded_saying(self, words: &str) {
        self.ended(0, words);
    }

    /// Asserts success with one line of the log on standard error that contains `words`.
    #[track_caller]
    pub fn succeeded_warning(self, words: &str) {
        assert_eq!((self.code, self.stderr.lines().count()), (Some(0), 1), "{self:?}");
        assert!(self.stderr.contains("WARN") && self.stderr.contains(words), "{words:?} not in {:?}", self.stderr);
    }

    #[track_caller]
    fn ended(self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("haosfs: ") && self.stderr.contains(words), "{words:?} not in {:?}", self.stderr);
    }
}

/// Files of the image that [`pack`] makes.
pub const FILES: [(&str, &str, u16); 4] = [
    ("hello", "hello\n", 0o644),
    ("etc/config", "from the image\n", 0o640),
    ("usr/bin/tool", "#!/bin/sh\necho tool\n", 0o755),
    ("usr/share/long name", "x", 0o444),
];

/// Packs an image with [`FILES`] and a link `usr/bin/alias` to `tool`.
pub fn pack(path: &Path) {
    let header = |permissions| NodeHeader { permissions, uid: 0, gid: 0, mtime: 1_700_000_000 };
    let mut writer = FilesystemWriter::default();
    writer.set_root_mode(0o755);
    for (path, content, permissions) in FILES {
        if let Some(parent) = Path::new(path).parent() {
            writer.push_dir_all(parent, header(0o755)).unwrap();
        }
        writer.push_file(Cursor::new(content.as_bytes()), path, header(permissions)).unwrap();
    }
    writer.push_symlink("tool", "usr/bin/alias", header(0o777)).unwrap();
    writer.write(&mut fs::File::create_new(path).unwrap()).unwrap();
}

/// Waits up to a minute for something to become true: other tests may have all of a machine for seconds.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "waited a minute in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
