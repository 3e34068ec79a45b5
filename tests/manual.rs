//! The manual pages: sound, complete, and true in every example. An example follows a comment `test: run` (commands after a prompt
//! and what they print), `test: fstab` or `test: file NAME`.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/sbin.rs"]
mod sbin;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sbin::{Helper, Sbin, possible};
use support::{Finished, can_run, has_tool, pack};

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
fn run(sbin: &Sbin, example: &str) {
    let here = |text: &str| ["/haos", "/data", "/mnt", "/app"].iter().fold(text.to_owned(), |text, place| place_in(&text, place));
    let mut lines = example.lines().peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")).unwrap_or_else(|| panic!("{line}"));
        let mut expected = String::new();
        while let Some(said) = lines.next_if(|line| !line.starts_with("# ") && !line.starts_with("$ ")) {
            expected += &format!("{said}\n");
        }
        let finished = sbin.sh(&format!("exec 2>&1; {}", here(command)));
        let said = finished.stdout.replace(sbin.path("").trim_end_matches('/'), "");
        assert_eq!(said, expected, "{command}");
    }
}

/// Moves a directory of the root into the scratch directory: `/haos/x` to `$D/haos/x`.
fn place_in(text: &str, place: &str) -> String {
    [" ", "=", ":"]
        .iter()
        .fold(text.to_owned(), |text, before| text.replace(&format!("{before}{place}"), &format!("{before}$D{place}")))
}

#[test]
fn examples_are_true() {
    if !possible("examples_are_true") {
        return;
    }
    let mut ran = 0;
    for path in pages() {
        let sbin = Sbin::new(Helper::Haosfs);
        sbin.sh("mkdir -p haos data/upper data/work app && cp image.sqfs haos/system.sqfs && cp image.sqfs haos/app.sqfs")
            .succeeded();
        pack(&sbin.scratch.path("haos-x86_64_7.1.0.0.squashfs"));
        for (kind, body) in examples(&fs::read_to_string(&path).unwrap()) {
            match kind.split_once(' ') {
                None if kind == "run" => run(&sbin, &body),
                None if kind == "fstab" => fstab(&sbin, &body),
                Some(("file", name)) => fs::write(sbin.scratch.path(name), body).unwrap(),
                _ => panic!("{}: test: {kind}", path.display()),
            }
            ran += 1;
        }
        sbin.is_clean();
    }
    assert_eq!(ran, 7);
}

/// Every line mounts, and what it mounts can be unmounted.
fn fstab(sbin: &Sbin, lines: &str) {
    let d = sbin.path("");
    let d = d.trim_end_matches('/');
    let lines: String = lines
        .lines()
        .map(|line| format!(" {line}\n"))
        .map(|line| ["/haos", "/data", "/mnt", "/app"].iter().fold(line, |line, place| place_in(&line, place)).replace("$D", d))
        .collect();
    sbin.fstab(&lines);
    sbin.sh("mount -a -t haosfs").succeeded();
    for name in ["mnt", "app"] {
        assert!(sbin.mountinfo(name).is_some(), "{name} is not mounted");
        sbin.sh(&format!("umount $D/{name}")).succeeded();
    }
}
