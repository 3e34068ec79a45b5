//! Changes a tree step by step, and tells of each step once it is durable; and finds out afterwards, from what it has told, whether
//! the tree is one that it can be. It runs in a guest, so it is one static program that needs nothing but the standard library.
//!
//! `writer run DIR SEED FROM FILE-SYSTEM` prints the number of each step; `writer verify DIR SEED TOLD FILE-SYSTEM` prints the number of
//! steps that are there.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "the tests use the model alone, the program all of it")]

mod act;
mod file_system;
mod found;
mod model;
mod step;

pub use model::grow;

use std::io::Write;
use std::path::Path;

use file_system::FileSystem;
use found::Found;
use model::Model;

/// Steps that may have been durable when their news was still on its way.
const UNTOLD: u64 = 2000;

/// What the program does.
pub fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, dir, seed, number, file_system] = arguments.as_slice() else {
        panic!("usage: writer run|verify DIR SEED NUMBER FILE-SYSTEM")
    };
    let (dir, seed, number, file_system) =
        (Path::new(dir), seed.parse().unwrap(), number.parse().unwrap(), file_system.parse().unwrap());
    match what.as_str() {
        "run" => run(dir, seed, number, file_system),
        "verify" => verify(dir, seed, number, file_system),
        other => panic!("{other}: expected run or verify"),
    }
}

fn run(dir: &Path, seed: u64, from: u64, file_system: FileSystem) {
    act::clear(dir);
    let mut model = Model::after(seed, from, file_system);
    for number in from.. {
        let step = model.step(seed, number);
        act::carry_out(dir, &step, &model).unwrap_or_else(|e| panic!("{number} {step:?}: {e}"));
        model.apply(&step);
        let mut output = std::io::stdout().lock();
        writeln!(output, "@told {}", number + 1).unwrap();
        output.flush().unwrap();
    }
}

/// Each step changes the tree at once or not at all, but for what [`FileSystem::between`] says of the one that was interrupted, and is
/// durable before the next begins: so the tree is as after some number of steps, and not fewer than were told of. A step that was
/// interrupted is not there; taken again it comes to the same.
fn verify(dir: &Path, seed: u64, told: u64, file_system: FileSystem) {
    let found = Found::below(dir);
    let mut model = Model::after(seed, told, file_system);
    let first = found.differences(&model);
    for number in told..told + UNTOLD {
        let step = model.step(seed, number);
        let is = |model: &Model| found.differences(model).is_empty();
        if is(&model) || file_system.between(&model, &step).iter().any(is) {
            println!("@there {number}");
            return;
        }
        model.apply(&step);
    }
    println!("the tree is not that after {told} steps, nor any later one; after {told}:");
    first.iter().for_each(|line| println!("{line}"));
    let mut model = Model::after(seed, told.saturating_sub(3), file_system);
    for number in told.saturating_sub(3)..told + 3 {
        let step = model.step(seed, number);
        println!("{number}: {step:?}");
        model.apply(&step);
        println!("  then {} differences", found.differences(&model).len());
    }
    std::process::exit(1);
}
