//! Guards of the hot paths that a noisy machine does not upset: instructions as callgrind counts them, and times as multiples of
//! reference work done beside them. Both are compared with `baseline`, which `--bless` writes anew.
//!
//! `cargo guards` fails where an operation takes over 10 % more instructions, or over twice the multiple.
//! The multiple is the greatest of all machines where the baseline was written: on others it may grow by more before that.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod baseline;
#[path = "../image/mod.rs"]
mod image;
mod instructions;
mod ratios;
mod work;

use std::path::Path;
use std::process::ExitCode;

use baseline::Baseline;
use clap::Parser;
use work::Subject;

/// Measures the hot paths and compares them with the baseline.
#[derive(Debug, Parser)]
struct Arguments {
    /// Writes what was measured as the baseline.
    #[arg(long)]
    bless: bool,
    /// Given by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Does one operation so many times, on the images of a directory: NAME, TIMES, DIRECTORY.
    #[arg(long, hide = true, num_args = 3)]
    work: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(work) = &arguments.work {
        let subject = Subject::of(work[2].as_ref());
        let mut operation = work::operation(&subject, &work[0]);
        (0..work[1].parse().unwrap()).for_each(|_| operation());
        return ExitCode::SUCCESS;
    }
    let images = tempfile::tempdir().unwrap();
    let subject = Subject::pack(images.path());
    let measured = |name: &str| (name.to_owned(), measure(name, images.path(), &subject));
    let found: Baseline = work::NAMES.into_iter().map(measured).collect();
    if arguments.bless {
        baseline::write(&found);
        return ExitCode::SUCCESS;
    }
    let known = baseline::read();
    baseline::check_bounds(&known);
    let worse = baseline::worse(&known, &found);
    worse.iter().for_each(|line| println!("{line}"));
    if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(name: &str, images: &Path, subject: &Subject) -> baseline::Cost {
    let cost = baseline::Cost { instructions: instructions::of(name, images), ratio: ratios::of(name, subject) };
    println!("{name:<24} {:>10} instructions, {:>7.2} times {}", cost.instructions, cost.ratio, work::reference_name(name));
    cost
}
