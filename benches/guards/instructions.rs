//! Instructions of one operation, by callgrind: two runs that differ in nothing but how often it is done.

use std::process::Command;

/// How often, of what is dear and of what is cheap: the preparation, which is the same but for some thousands, must not show.
const DEAR: [u64; 2] = [10, 40];
const CHEAP: [u64; 2] = [1_000, 41_000];
/// Instructions of what is cheap.
const FEW: u64 = 20_000;

pub fn of(name: &str) -> u64 {
    let cost = difference(name, DEAR);
    if cost < FEW { difference(name, CHEAP) } else { cost }
}

fn difference(name: &str, [few, many]: [u64; 2]) -> u64 {
    count(name, many).saturating_sub(count(name, few)) / (many - few)
}

fn count(name: &str, times: u64) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe().unwrap());
    let output = valgrind.args(["--work", name, &times.to_string()]).output().unwrap_or_else(|e| panic!("valgrind: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{said}"));
    collected.1.trim().parse().unwrap()
}
