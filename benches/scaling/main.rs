//! What an operation costs as the work grows: directories, images, layers, threads, caches.
//!
//! `cargo bench --bench scaling -- --out DIR` writes a table and a chart; without `--out` it prints the table. It fails where something
//! grows faster than it may.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod axis;
mod chart;
#[path = "../image/mod.rs"]
mod image;
mod layered;
mod packed;
mod timing;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use axis::Axis;
use clap::Parser;

/// Measures how costs grow.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the table and the chart go.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Leaves the image of a million inodes out, and the directory of 100,000 names.
    #[arg(long)]
    quick: bool,
    /// Given by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let largest = if arguments.quick { 10_000 } else { 1_000_000 };
    let axes: Vec<Axis> = vec![
        packed::directories(largest.min(100_000)),
        layered::directories(largest.min(100_000)),
        packed::inodes(largest),
        layered::layers(),
        packed::threads(),
        packed::caches(),
    ];
    let table: String = axes.iter().map(Axis::table).collect();
    println!("{table}");
    if let Some(out) = &arguments.out {
        fs::create_dir_all(out).unwrap();
        fs::write(out.join("scaling.md"), table).unwrap();
        fs::write(out.join("scaling.svg"), chart::svg(&axes)).unwrap();
    }
    let worse: Vec<String> = axes.iter().flat_map(Axis::worse).collect();
    worse.iter().for_each(|line| println!("{line}"));
    if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
