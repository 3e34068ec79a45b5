//! Runs of many steps, and, where one fails, the shortest history that still does.

use std::fs::{create_dir, remove_dir_all};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::generate::Generator;
use super::pair::{Pair, Setup};
use super::step::{Action, Actor, Step};

/// Steps of one run: then both unions begin anew, with the next seed.
const STEPS: usize = 1200;
/// The seed in the gate.
const SEED: u64 = 1;
/// How long a failing history is shortened.
const SHRINKING: Duration = Duration::from_secs(120);
/// Steps before the failure that are shown when it could not be shortened.
const TRAIL: usize = 40;

/// A step that went wrong.
struct Failure {
    history: Vec<Step>,
    why: String,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// One run with a fixed seed; with `HAOSFS_DIFF_SECONDS` as many as fit into that time, from a random seed or from
/// `HAOSFS_DIFF_SEED` on. Panics at the first difference.
pub fn run(setup: &Setup, scratch: &Path) {
    let seconds = number("HAOSFS_DIFF_SECONDS");
    let random = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000_000;
    let first = number("HAOSFS_DIFF_SEED").unwrap_or_else(|| if seconds.is_some() { random() } else { SEED });
    let (began, mut seed) = (Instant::now(), first);
    loop {
        run_seed(setup, scratch, seed);
        seed += 1;
        if began.elapsed() >= Duration::from_secs(seconds.unwrap_or(0)) {
            break;
        }
    }
    println!("seeds {first} to {}, {STEPS} steps each, in {:?}", seed - 1, began.elapsed());
}

fn run_seed(setup: &Setup, scratch: &Path, seed: u64) {
    let home = Home::new(scratch, &format!("seed-{seed}"));
    let mut generator = Generator::new(seed, setup.rights);
    let mut history = Vec::new();
    let mut pair = Pair::new(setup, &home.0);
    let outcome = (0..STEPS).try_for_each(|_| {
        let step = generator.next(|| pair.landscape());
        history.push(step.clone());
        pair.take(&step)
    });
    drop(pair);
    if let Err(why) = outcome {
        let number = history.len();
        panic!("seed {seed}, step {number}: {why}\n{}", explain(setup, scratch, Failure { history, why: why.clone() }));
    }
}

/// A directory that goes when this is dropped.
struct Home(PathBuf);

impl Home {
    fn new(scratch: &Path, name: &str) -> Self {
        let home = scratch.join(name);
        create_dir(&home).unwrap();
        Self(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(e) = remove_dir_all(&self.0) {
            eprintln!("{} stays: {e}", self.0.display());
        }
    }
}

/// Takes all steps on fresh unions and compares at the end.
pub fn replay(setup: &Setup, scratch: &Path, history: &[Step]) -> Result<(), String> {
    let home = Home::new(scratch, "replay");
    let mut pair = Pair::new(setup, &home.0);
    let outcome = history.iter().try_for_each(|step| pair.take(step));
    outcome.and_then(|()| pair.take(&Step { actor: Actor::Itself, action: Action::Compare }))
}

fn explain(setup: &Setup, scratch: &Path, failure: Failure) -> String {
    let trail: Vec<String> = failure.history.iter().rev().take(TRAIL).rev().map(Step::to_string).collect();
    let trail = format!("the last steps:\n  {}", trail.join("\n  "));
    let Err(why) = replay(setup, scratch, &failure.history) else {
        return format!("{trail}\nThe same steps do not fail again.");
    };
    let shrunk = shrink(setup, scratch, Failure { why, ..failure });
    let steps: Vec<String> = shrunk.history.iter().map(Step::to_string).collect();
    format!("{trail}\nshortened to {} steps:\n  {}\nwhich give: {}", steps.len(), steps.join("\n  "), shrunk.why)
}

/// What kind of difference it is: which trees, and what of the first name; or both answers.
fn class(why: &str) -> (&str, &str) {
    let mut lines = why.lines();
    let first = lines.next().unwrap_or_default();
    let what = lines.next().and_then(|line| line.split(": ").nth(1)).unwrap_or_default();
    match first.rsplit_once(": ") {
        Some((trees, _count)) if !what.is_empty() => (trees, what.split(" should").next().unwrap_or_default()),
        _ => (first, ""),
    }
}

/// Leaves out runs of steps, halving their length, as long as a difference of the same kind remains (delta debugging).
fn shrink(setup: &Setup, scratch: &Path, mut failure: Failure) -> Failure {
    let began = Instant::now();
    let mut length = failure.history.len().div_ceil(2);
    loop {
        let before = failure.history.len();
        let mut from = 0;
        while from < failure.history.len() {
            if began.elapsed() > SHRINKING {
                return failure;
            }
            let mut shorter = failure.history.clone();
            shorter.drain(from..(from + length).min(failure.history.len()));
            match replay(setup, scratch, &shorter) {
                Err(why) if class(&why) == class(&failure.why) => failure = Failure { history: shorter, why },
                _ => from += length,
            }
        }
        match length {
            1 if failure.history.len() == before => return failure,
            1 => {}
            _ => length = length.div_ceil(2),
        }
    }
}
