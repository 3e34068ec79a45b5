//! On what it was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::corpus::Corpus;

/// Names and values, in the order in which they are told.
pub type Facts = Vec<(&'static str, String)>;

/// The time of day.
pub fn now() -> String {
    line_with("", "date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// Looks at the machine.
pub fn gather(corpus: &Corpus, dir: &Path, rounds: usize, began: String) -> Facts {
    let [files, bytes, dirs] = corpus.counts;
    let image = corpus.image.metadata().unwrap().len() >> 20;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(": ")));
    // What an idle processor costs who wakes it.
    let idle = fs::read_to_string("/sys/devices/system/cpu/cpuidle/current_driver");
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let memory = memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim().to_owned();
    let untarred = corpus.dir.join("include.tar").metadata().unwrap().len() >> 20;
    vec![
        ("began", began),
        ("ended", now()),
        ("kernel", line_with("", "uname", &["-srm"])),
        ("processors", format!("{} x {}", std::thread::available_parallelism().unwrap(), cpu.map_or("?", |c| c.1))),
        ("idle driver", idle.map_or_else(|_| "none".to_owned(), |driver| driver.trim().to_owned())),
        ("memory", memory),
        ("upper on", line_with("", "findmnt", &["-n", "-o", "FSTYPE", "-T", dir.to_str().unwrap()])),
        ("image", format!("{files} files in {dirs} directories, {} MiB; packed {image} MiB, zstd, 128 KiB blocks", bytes >> 20)),
        ("untarred", format!("{untarred} MiB")),
        ("haosfs", format!("{}, commit {}", env!("CARGO_PKG_VERSION"), commit())),
        ("mksquashfs", line_with("mksquashfs version ", "mksquashfs", &["-version"])),
        ("squashfuse", line_with("squashfuse ", "squashfuse_ll", &["--version"])),
        ("fuse-overlayfs", line_with("fuse-overlayfs: ", "fuse-overlayfs", &["--version"])),
        ("rounds", rounds.to_string()),
    ]
}

/// What was built, if that is known where the sources are.
fn commit() -> String {
    let mut git = Command::new("git");
    let output = git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude", "*"]).output();
    let said =
        output.ok().filter(|output| output.status.success()).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    said.map_or_else(|| "unknown".to_owned(), |said| said.trim().to_owned())
}

/// The first line of what a program says that begins so, on whichever stream.
fn line_with(beginning: &str, program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return "not installed".into() };
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said).into_owned();
    text.lines().find_map(|line| line.strip_prefix(beginning)).unwrap_or("?").to_owned()
}
