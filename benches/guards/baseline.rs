//! What the operations cost when the baseline was written.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guards/baseline");
/// Instructions may grow by this factor, times by that.
const INSTRUCTIONS: f64 = 1.1;
const TIMES: f64 = 2.0;

/// The cost of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Instructions of one.
    pub instructions: u64,
    /// Its time as a multiple of its reference's.
    pub ratio: f64,
}

/// By the names of the operations.
pub type Baseline = BTreeMap<String, Cost>;

pub fn read() -> Baseline {
    let text = fs::read_to_string(FILE).unwrap_or_else(|e| panic!("{FILE}: {e}; write it with --bless"));
    let line = |line: &str| {
        let [name, instructions, ratio] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{FILE}: {line}") };
        (name.to_owned(), Cost { instructions: instructions.parse().unwrap(), ratio: ratio.parse().unwrap() })
    };
    text.lines().filter(|text| !text.starts_with('#')).map(line).collect()
}

/// Of the multiples the greatest of all machines where it was written stays; a line that is taken out begins anew.
pub fn write(found: &Baseline) {
    let mut text = String::from("# operation, instructions, time as a multiple of the reference's; written by --bless\n");
    let known = if Path::new(FILE).exists() { read() } else { Baseline::new() };
    for (name, cost) in found {
        let ratio = known.get(name).map_or(cost.ratio, |known| known.ratio.max(cost.ratio));
        writeln!(text, "{name} {} {ratio:.2}", cost.instructions).unwrap();
    }
    fs::write(FILE, text).unwrap();
}

/// What costs as much as it did passes, and what costs more than it may does not: of each operation, by either measure.
pub fn check_bounds(known: &Baseline) {
    let times = |instructions: f64, ratio: f64| -> Baseline {
        let grown =
            |cost: &Cost| Cost { instructions: (cost.instructions as f64 * instructions) as u64, ratio: cost.ratio * ratio };
        known.iter().map(|(name, cost)| (name.clone(), grown(cost))).collect()
    };
    assert_eq!(worse(known, &times(1.0, 1.0)), [""; 0]);
    assert_eq!(worse(known, &times(1.09, 1.9)), [""; 0]);
    for grown in [times(1.11, 1.0), times(1.0, 2.1)] {
        assert_eq!(worse(known, &grown).len(), known.len());
    }
}

/// A line for each operation that costs too much, or that only one of both knows.
pub fn worse(known: &Baseline, found: &Baseline) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, now) in found {
        let Some(then) = known.get(name) else {
            lines.push(format!("{name}: not in the baseline"));
            continue;
        };
        if now.instructions as f64 > then.instructions as f64 * INSTRUCTIONS {
            lines.push(format!("{name}: {} instructions, {} in the baseline", now.instructions, then.instructions));
        }
        if now.ratio > then.ratio * TIMES {
            lines.push(format!("{name}: {:.2} times its reference, {:.2} in the baseline", now.ratio, then.ratio));
        }
    }
    lines.extend(known.keys().filter(|name| !found.contains_key(*name)).map(|name| format!("{name}: in the baseline alone")));
    lines
}
