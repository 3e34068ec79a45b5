//! Where the examples of the manual happen: a machine with one disk, whose system partition is /haos. What a page calls by other
//! names than this machine does is put in place of each other, in commands and in what they print.

use std::process::Command;

use crate::disk::{Disk, run};
use crate::machine::{Machine, architecture};
use crate::sbin::{Helper, Sbin};
use crate::support::wait_until;

/// Directories of a page, which stand in the scratch directory.
const DIRECTORIES: [&str; 4] = ["/haos", "/data", "/mnt", "/app"];

/// What stands before a path.
const BEFORE: [&str; 3] = [" ", "=", ":"];

pub struct Place {
    pub sbin: Sbin,
    machine: Machine,
}

impl Place {
    pub fn new() -> Self {
        let machine = Machine::with("ext4");
        let sbin = Sbin::new(Helper::Haosfs);
        let system = machine.scratch.path("system");
        sbin.sh(&format!("mkdir -p haos data/upper data/work app && mount --bind {} haos", system.display())).succeeded();
        sbin.sh("cp image.sqfs haos/system.sqfs && cp image.sqfs haos/app.sqfs").succeeded();
        sbin.sh(&format!("cp image.sqfs haos-{}_7.1.0.0.squashfs", architecture())).succeeded();
        Self { sbin, machine }
    }

    /// The haos.ini of a page that begins anew.
    pub fn configure(&self) {
        self.machine.configure(&format!("{{{}}},fs=ext4,noatime", self.machine.guid), "7.1.0.0");
    }

    /// A second disk that is a copy of the first.
    pub fn copy_disk(&self) -> Disk {
        let copy = self.machine.scratch.path("copy");
        run(Command::new("cp").arg("--sparse=always").arg(self.machine.scratch.path("disk")).arg(&copy));
        Disk::new(&copy, 2)
    }

    /// From the words of a page to this machine's.
    pub fn here(&self, text: &str, copy: Option<&Disk>) -> String {
        let text = DIRECTORIES.iter().fold(text.to_owned(), |text, directory| {
            BEFORE.iter().fold(text, |text, before| {
                text.replace(&format!("{before}{directory}"), &format!("{before}{}", self.sbin.path(&directory[1..])))
            })
        });
        self.names(copy).iter().fold(text, |text, (there, here)| text.replace(there, here))
    }

    /// From this machine's words to those of a page.
    pub fn there(&self, text: &str, copy: Option<&Disk>) -> String {
        let text = text.replace(self.sbin.path("").trim_end_matches('/'), "");
        let text = self.names(copy).iter().fold(text, |text, (there, here)| text.replace(here, there));
        without_unread(&text)
    }

    /// Words of a page with those of this machine. Of two disks the page calls that one sda which is told of first: they are told
    /// of by their names.
    fn names(&self, copy: Option<&Disk>) -> Vec<(&'static str, String)> {
        let mut names = vec![
            ("a52a4597-fa3a-4851-aefd-2fbe9f849079", self.machine.guid.clone()),
            ("haos-x86_64_", format!("haos-{}_", architecture())),
        ];
        let mut disks = vec![(&self.machine.disk.device, "disk")];
        disks.extend(copy.map(|copy| (&copy.device, "copy")));
        disks.sort();
        for ((device, file), [partition, disk]) in disks.iter().zip([["/dev/sda2", "disk sda"], ["/dev/sdb2", "disk sdb"]]) {
            names.push((partition, format!("{}p2", device.display())));
            let (name, file) = (device.file_name().unwrap().to_str().unwrap(), self.machine.scratch.path(file));
            names.push((disk, format!("disk {name} of {}", file.display())));
        }
        names
    }

    /// umount(8) does not wait for a daemon, and nobody types as fast as a test.
    pub fn settle(&self) {
        if self.sbin.mountinfo("mnt").is_none() {
            wait_until("the daemon ends", || self.sbin.daemons().is_empty());
        }
    }

    /// The last mounts are gone, with all that they held.
    pub fn is_clean(&self) {
        self.sbin.is_clean();
        self.machine.assert_nothing_is_left();
    }
}

/// Without what other disks of this machine have to do with it.
fn without_unread(text: &str) -> String {
    let ends = |line: &str| {
        line.split_once("; /dev/").filter(|(_, rest)| rest.contains(" could not be read: ")).map(|(said, _)| said.to_owned())
    };
    text.lines().map(|line| ends(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// Numbers that are never the same: processes, and room on a file system.
pub fn masked(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for n in 0..words.len() {
        let is_room = words.get(n + 1).is_some_and(|unit| unit == "MiB");
        let is_pid = n > 0 && words[n - 1].ends_with("pid");
        if is_room || is_pid {
            words[n].retain(|c| !c.is_ascii_digit());
        }
    }
    words.join(" ")
}
