//! The manual pages: sound, complete, and true in every example. An example follows a comment `test: run` (commands after a prompt
//! and what they print; `test: run with the disk twice`: while a copy of the disk is there), `test: fstab` or `test: file NAME`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[allow(dead_code)]
#[path = "appliance/machine.rs"]
mod machine;
#[path = "manual/place.rs"]
mod place;
#[path = "cli/sbin.rs"]
mod sbin;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::Disk;
use place::{Place, masked};
use sbin::possible;
use support::{Finished, can_run, has_tool};

fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man");
    let mut pages: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

fn page(name: &str) -> String {
    fs::read_to_string(pages().into_iter().find(|page| page.ends_with(name)).unwrap()).unwrap()
}

/// The examples of a page with the word after `test: `, as they are shown.
fn examples(text: &str) -> Vec<(String, String)> {
    let blocks: Vec<&str> = text.split(".\\\" test: ").skip(1).collect();
    assert_eq!(blocks.len(), text.matches("\n.EX\n").count(), "an example without a test");
    let shown = |block: &str| {
        let (kind, rest) = block.split_once('\n').unwrap();
        let body = rest.strip_prefix(".EX\n").unwrap().split("\n.EE").next().unwrap();
        (kind.to_owned(), body.replace("\\-", "-").replace("\\e", "\\") + "\n")
    };
    blocks.into_iter().map(shown).collect()
}

#[test]
fn pages_are_sound() {
    if !can_run("pages_are_sound", has_tool("mandoc"), "needs mandoc") {
        return;
    }
    let checked = Finished::from(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(pages()).output().unwrap());
    assert_eq!((checked.code, checked.stdout.as_str(), checked.stderr.as_str()), (Some(0), "", ""), "{checked:?}");
}

/// What the README lists as options of `-o`, and the command line as commands and flags, stands in the manual, too.
#[test]
fn pages_leave_nothing_out() {
    let plain = |name| page(name).replace("\\-", "-").replace("\\fR", "").replace("\\fI", "").replace("\\fB", "");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let table = readme.split("\n### Options of `-o`\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let manual = plain("mount.haosfs.8");
    let options = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut seen = 0;
    for option in options.flat_map(|cell| cell.split('`')).flat_map(|word| word.split(['=', ' ', ','])) {
        let is_name = option.len() > 1 && option.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if is_name && !["nfs_export", "verity", "default_permissions", "squash_to_uid", "squash_to_gid"].contains(&option) {
            assert!(manual.contains(option), "mount.haosfs(8) says nothing of {option}");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} options were found in the README");
    let manual = plain("haosfs.1");
    for command in haosfs::cli::command_line().get_subcommands() {
        assert!(manual.contains(&format!("haosfs {}", command.get_name())), "haosfs(1) says nothing of {}", command.get_name());
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()).filter_map(|flag| flag.get_long()) {
            assert!(manual.contains(&format!("--{flag}")), "haosfs(1) says nothing of --{flag} of {}", command.get_name());
        }
    }
}

/// The commands of one example after another, as a prompt shows them; what they say on standard error shows, too.
fn run(place: &Place, example: &str, copy: Option<&Disk>) {
    let mut lines = example.lines().peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")).unwrap_or_else(|| panic!("{line}"));
        let mut expected = String::new();
        while let Some(said) = lines.next_if(|line| !line.starts_with("# ") && !line.starts_with("$ ")) {
            expected += &format!("{said}\n");
        }
        let finished = place.sbin.sh(&format!("exec 2>&1; {}", place.here(command, copy)));
        place.settle();
        let said = place.there(&finished.stdout, copy);
        assert_eq!(masked(&said), masked(&expected), "{command}: {said}");
    }
}

#[test]
fn examples_are_true() {
    let tools = ["mkfs.ext4", "losetup", "partx", "mksquashfs"];
    let found = tools.into_iter().all(|tool| has_tool(tool) || Path::new("/usr/sbin").join(tool).exists());
    let reason = "needs losetup, partx, mksquashfs and mkfs.ext4";
    if !possible("examples_are_true") || !can_run("examples_are_true", found, reason) {
        return;
    }
    let mut ran = 0;
    let place = Place::new();
    for path in pages() {
        place.configure();
        for (kind, body) in examples(&fs::read_to_string(&path).unwrap()) {
            match kind.split_once(' ') {
                None if kind == "run" => run(&place, &body, None),
                Some(("run", "with the disk twice")) => run(&place, &body, Some(&place.copy_disk())),
                None if kind == "fstab" => fstab(&place, &body),
                Some(("file", name)) => fs::write(place.sbin.scratch.path(name), body).unwrap(),
                _ => panic!("{}: test: {kind}", path.display()),
            }
            ran += 1;
        }
        place.is_clean();
    }
    assert_eq!(ran, 21);
}

/// Every line mounts, and what it mounts can be unmounted.
fn fstab(place: &Place, lines: &str) {
    let sbin = &place.sbin;
    sbin.fstab(&lines.lines().map(|line| place.here(&format!(" {line}\n"), None)).collect::<String>());
    sbin.sh("mount -a -t haosfs").succeeded();
    for name in lines.lines().filter_map(|line| line.split(' ').nth(1)).map(|mountpoint| &mountpoint[1..]) {
        assert!(sbin.mountinfo(name).is_some(), "{name} is not mounted");
        sbin.sh(&format!("umount $D/{name}")).succeeded();
    }
}
