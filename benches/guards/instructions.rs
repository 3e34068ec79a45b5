//! Instructions of one operation, by callgrind: two runs that differ in nothing but how often it is done.

use std::path::Path;
use std::process::Command;

/// How often, of what is dear and of what is cheap: the preparation, which is the same but for some thousands, must not show.
const DEAR: [u64; 2] = [10, 40];
const CHEAP: [u64; 2] = [1_000, 41_000];
/// Instructions of what is cheap.
const FEW: u64 = 20_000;

pub fn of(name: &str, images: &Path) -> u64 {
    let cost = difference(name, images, DEAR);
    if cost < FEW { difference(name, images, CHEAP) } else { cost }
}

fn difference(name: &str, images: &Path, [few, many]: [u64; 2]) -> u64 {
    count(name, images, many).saturating_sub(count(name, images, few)) / (many - few)
}

fn count(name: &str, images: &Path, times: u64) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe().unwrap());
    let output =
        valgrind.args(["--work", name, &times.to_string()]).arg(images).output().unwrap_or_else(|e| panic!("valgrind: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{said}"));
    collected.1.trim().parse().unwrap()
}
