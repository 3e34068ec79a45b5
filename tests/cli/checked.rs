//! An upper to be checked, over a small lower.

#![allow(dead_code)]

use std::fs::{self, create_dir, create_dir_all};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, lsetxattr, mkdirat, mknodat, openat};
use serde_json::Value;
use tempfile::TempDir;

use crate::mounted::mount::Mount;
use crate::mounted::scratch::open_temp_dir;
use crate::mounted::user::NOBODY;

/// Content of every file of the lower.
pub const LOWER: &str = "from the lower\n";

/// A directory with `lower`, `upper`, `work` and `mnt`.
pub struct Checked {
    dir: TempDir,
}

/// What a check said.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub findings: Vec<Value>,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let findings = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { code: output.status.code().unwrap(), findings }
    }
}

impl Run {
    #[track_caller]
    pub fn found(&self, path: &str, severity: &str, id: &str, outcome: &str) {
        let is_it = |f: &&Value| f["path"] == path && f["severity"] == severity && f["finding"] == id && f["outcome"] == outcome;
        assert_eq!(self.findings.iter().filter(is_it).count(), 1, "{severity} {id} {outcome} of {path} in {self:#?}");
    }

    pub fn repaired(&self) -> usize {
        self.findings.iter().filter(|f| f["outcome"] == "repaired").count()
    }

    /// The worst that was found.
    pub fn above_notes(&self) -> Vec<&Value> {
        self.findings.iter().filter(|f| f["severity"] != "note").collect()
    }
}

impl Checked {
    pub fn new() -> Self {
        let this = Self { dir: open_temp_dir() };
        for name in ["upper", "work", "mnt", "lower/etc", "lower/home", "lower/tmp", "lower/usr", "lower/var"] {
            create_dir_all(this.path(name)).unwrap();
        }
        for name in ["etc/motd", "etc/hosts", "home/user", "tmp/keep", "var/log", "top"] {
            fs::write(this.path("lower").join(name), LOWER).unwrap();
        }
        create_dir(this.path("lower/usr/bin")).unwrap();
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn upper(&self, name: &str) -> PathBuf {
        self.path("upper").join(name)
    }

    pub fn dirs(&self, names: &[&str]) {
        names.iter().for_each(|name| create_dir_all(self.upper(name)).unwrap());
    }

    /// Empty ones.
    pub fn files(&self, names: &[&str]) {
        names.iter().for_each(|name| fs::write(self.upper(name), "").unwrap());
    }

    pub fn mark(&self, name: &str, attribute: &str, value: &[u8]) {
        lsetxattr(self.upper(name), attribute, value, XattrFlags::empty()).unwrap();
    }

    pub fn whiteout(&self, name: &str) {
        mknodat(CWD, self.upper(name), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    /// Directories within each other, more than one call can name, with a foreign mark in the last.
    pub fn chain(&self, depth: usize) {
        let mut at = openat(CWD, self.upper(""), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&at, "chained", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, "chained", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        openat(&at, ".wh..wh..opq", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_haosfs")).args(arguments).current_dir(self.dir.path()).output().unwrap()
    }

    pub fn check(&self, more: &[&str]) -> Run {
        Run::from(self.run(&[&["check", "upper", "work", "--json"], more].concat()))
    }

    /// The program is copied to where everyone can reach it.
    pub fn as_nobody(&self, arguments: &[&str]) -> Output {
        let program = self.path("haosfs");
        // By another process: a child that another test is starting could hold our descriptor, and make the copy busy.
        assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_haosfs")).arg(&program).status().unwrap().success());
        let id = NOBODY.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program).args(arguments);
        command.current_dir(self.dir.path()).output().unwrap()
    }

    pub fn mount_kernel(&self, options: &[&str]) -> Mount {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| self.path(name).display().to_string());
        let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let options = [&[layers.as_str()], options].concat().join(",");
        Mount::new(&["-t", "overlay", "-o", options.as_str()], Path::new("checked"), &self.path("mnt"))
    }

    /// Every name below the kernel's mount of it, sorted; each can be looked up.
    pub fn kernel_shows(&self, options: &[&str]) -> Vec<String> {
        let mount = self.mount_kernel(options);
        let mut names = Vec::new();
        let mut waiting = vec![mount.path().to_path_buf()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).is_dir() {
                    waiting.push(path.clone());
                }
                names.push(path.strip_prefix(mount.path()).unwrap().to_str().unwrap().to_owned());
            }
        }
        names.sort();
        names
    }
}

impl Drop for Checked {
    /// rm(1) goes as deep as there is something.
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg(self.path("upper")).status();
    }
}
