//! Driving a target and the model through one history.

use std::collections::BTreeMap;

use haosfs::error::Errno;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::op::{Op, Place, history};
use super::target::{Target, View};
use super::tree::Tree;

/// What is known of a target.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// Inode numbers stay while mounted, and hard links share one.
    pub stable_inodes: bool,
    /// The history may remount.
    pub remounts: bool,
    /// Renames among the links of a file that was copied up may answer ESTALE and do nothing, as the kernel's overlayfs without
    /// an index does (seen on Linux 6.18: `link b a; rename b a` with `b` in the lower).
    pub stale_links: bool,
}

/// Applies one operation to both and compares the answers and the whole trees.
///
/// # Errors
/// What differs.
fn step(op: &Op, model: &mut Tree, target: &mut dyn Target, expectation: Expectation) -> Result<(), String> {
    let before = if matches!(op, Op::Remount) { Some(look(target)?) } else { None };
    let unchanged = model.clone();
    let (expected, found) = (op.apply(model), op.apply(target));
    if expectation.stale_links && matches!(op, Op::Rename(..)) && found == Err(Errno::ESTALE) {
        *model = unchanged;
    } else if expected != found {
        return Err(format!("should answer {expected:?}, answers {found:?}"));
    }
    let (expected, found) = (model.view().map_err(|e| e.to_string())?, look(target)?);
    compare(&expected, &found)?;
    match before {
        Some(before) => same_after_remount(&before, &found),
        None => Ok(()),
    }
}

fn look(target: &mut dyn Target) -> Result<View, String> {
    target.view().map_err(|e| format!("the tree cannot be read: {e:?}"))
}

/// Compares what the model knows.
fn compare(expected: &View, found: &View) -> Result<(), String> {
    if let Some(path) = expected.keys().find(|path| !found.contains_key(*path)) {
        return Err(format!("{path:?} is missing"));
    }
    if let Some(path) = found.keys().find(|path| !expected.contains_key(*path)) {
        return Err(format!("{path:?} should not be there"));
    }
    for ((path, a), b) in expected.iter().zip(found.values()) {
        if a.content != b.content {
            let at = a.content.iter().zip(&b.content).position(|(a, b)| a != b);
            let (a, b) = (a.content.len(), b.content.len());
            return Err(format!("content of {path:?} differs: {a} bytes should be, {b} bytes are, first difference at {at:?}"));
        }
        if (a.mode, &a.xattrs) != (b.mode, &b.xattrs) {
            return Err(format!("{path:?} should be {:o} {:?}, is {:o} {:?}", a.mode, a.xattrs, b.mode, b.xattrs));
        }
        if a.nlink != 0 && a.nlink != b.nlink {
            return Err(format!("{path:?} should have {} links, has {}", a.nlink, b.nlink));
        }
        if a.mtime.is_some() && a.mtime != b.mtime {
            return Err(format!("mtime of {path:?} should be {:?}, is {:?}", a.mtime, b.mtime));
        }
    }
    Ok(())
}

/// After a remount everything shows as before, but for inode numbers.
fn same_after_remount(before: &View, after: &View) -> Result<(), String> {
    for ((path, a), b) in before.iter().zip(after.values()) {
        if (a.mtime, a.nlink) != (b.mtime, b.nlink) {
            return Err(format!("remounting changed {path:?}: {:?} {} links, now {:?} {}", a.mtime, a.nlink, b.mtime, b.nlink));
        }
    }
    Ok(())
}

/// Every inode of the model keeps one number of the target.
fn same_numbers(model: &mut Tree, target: &mut dyn Target, numbers: &mut BTreeMap<u64, u64>) -> Result<(), String> {
    let (expected, found) = (model.view().map_err(|e| e.to_string())?, look(target)?);
    for ((path, a), b) in expected.iter().zip(found.values()) {
        let known = *numbers.entry(a.ino).or_insert(b.ino);
        if known != b.ino {
            return Err(format!("{path:?} had inode number {known}, has {}", b.ino));
        }
    }
    Ok(())
}

/// Runs a history on both.
///
/// # Errors
/// The number of the operation, itself, and what differs.
pub fn run(ops: &[Op<Place>], model: &mut Tree, target: &mut dyn Target, expectation: Expectation) -> Result<(), String> {
    let mut numbers = BTreeMap::new();
    let mut told = tell(&model.view().map_err(|e| e.to_string())?);
    for op in ops {
        let op = &op.place(model);
        told.push(format!("{op:?}"));
        let mut outcome = step(op, model, target, expectation);
        if matches!(op, Op::Remount) {
            numbers.clear();
        }
        if expectation.stable_inodes && outcome.is_ok() {
            outcome = same_numbers(model, target, &mut numbers);
        }
        outcome.map_err(|why| format!("{why}\nafter:\n  {}", told.join("\n  ")))?;
    }
    Ok(())
}

/// The tree at the beginning, a line for each name.
fn tell(view: &View) -> Vec<String> {
    let lines = view.iter().map(|(path, item)| {
        format!(
            "{path:?}: inode {}, mode {:o}, {} bytes, {} links, {:?}",
            item.ino,
            item.mode,
            item.content.len(),
            item.nlink,
            item.xattrs
        )
    });
    lines.collect()
}

/// Histories from a fixed seed; `HAOSFS_MODEL_CASES` and `HAOSFS_MODEL_SEED` (a number) run more or others. `case` gets the
/// operations that make the lower and those that happen above it.
pub fn for_histories(cases: u32, remounts: bool, case: impl Fn(&[Op<Place>], &[Op<Place>]) -> Result<(), String>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = number("HAOSFS_MODEL_CASES").map_or(cases, |cases| cases as u32);
    let seed = number("HAOSFS_MODEL_SEED").unwrap_or(1);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 1000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome =
        runner.run(&history(remounts), |(below, above)| case(&below, &above).map_err(proptest::test_runner::TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, _)) => panic!("seed {seed}: {why}"),
        Err(TestError::Abort(why)) => panic!("seed {seed}: {why}"),
    }
}
