//! The same work on every driver that this machine has, side by side: the kernel's squashfs and overlayfs, squashfuse under
//! fuse-overlayfs, haosfs as root and as an ordinary user.
//!
//! The drivers take turns within every round, so that a noisy machine is noisy for all of them; what counts are the ratios of
//! the medians. Each row is measured in a process of its own on a union that was mounted for it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod act;
mod big_file;
mod change;
mod chart;
mod contender;
mod corpus;
mod facts;
mod footprint;
mod merge;
#[allow(dead_code)]
#[path = "../../tests/posix/raw.rs"]
mod raw;
mod read;
mod report;
mod rounds;
mod row;

use std::path::PathBuf;

use clap::Parser;

use contender::Contender;
use corpus::{Corpus, Recipe};
use facts::Facts;
use rounds::Results;
use row::Row;

/// Measures the drivers side by side. As root; what is not installed is left out, and said so.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the corpus is kept and the uppers are made; should be on ext4. Everything but the corpus is removed at the end.
    #[arg(long, default_value = "/var/tmp/haosfs-side-by-side")]
    dir: PathBuf,
    /// Rounds; the median of each row is taken.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Files of the image.
    #[arg(long, default_value_t = 60_000)]
    files: usize,
    /// MiB of the image's files, without the big one.
    #[arg(long, default_value_t = 1_780)]
    mib: u64,
    /// Only these rows, by name; `--rows list` shows them.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Only these drivers: kernel, two-daemons, haosfs, rootless.
    #[arg(long, value_delimiter = ',')]
    drivers: Vec<String>,
    /// Options of haosfs' mounts.
    #[arg(long, default_value = "")]
    options: String,
    /// Writes results.json, table.md and chart.svg into this directory.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measures nothing, and makes one table of what measurements have written into these directories: of their medians.
    #[arg(long, value_delimiter = ',')]
    merge: Vec<PathBuf>,
    /// Given by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Does one row's work on a mounted union: ROW, UNION, PLANS.
    #[arg(long, hide = true, num_args = 3)]
    act: Option<Vec<String>>,
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(act) = &arguments.act {
        return act::perform(&act[0], act[1].as_ref(), act[2].as_ref());
    }
    if !arguments.merge.is_empty() {
        let all = merge::read(&arguments.merge);
        let one = merge::as_one(&all);
        return tell(&arguments, &one, &merge::facts(&arguments.merge), &format!("\n{}", merge::table(&all)));
    }
    let rows: Vec<Row> = match arguments.rows.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => row::ALL.to_vec(),
        ["list"] => return row::ALL.iter().for_each(|row| println!("{:<12} {}", row.name, row.title)),
        ref names => names.iter().map(|name| row::named(name).unwrap_or_else(|| panic!("no row {name}"))).collect(),
    };
    assert!(rustix::process::geteuid().is_root(), "the kernel's drivers are mounted by root alone: run this as root");
    let corpus = Corpus::make(&arguments.dir, Recipe { files: arguments.files, bytes: arguments.mib << 20 });
    let drivers: Vec<Contender> = contender::ALL
        .into_iter()
        .filter(|driver| arguments.drivers.is_empty() || arguments.drivers.iter().any(|name| name == driver.name()))
        .filter(|driver| driver.is_there().inspect_err(|why| println!("{}: left out, {why}", driver.name())).is_ok())
        .collect();
    let began = facts::now();
    let results = rounds::run(&corpus, &rows, &drivers, arguments.rounds, &arguments.options);
    let facts = facts::gather(&corpus, &arguments.dir, arguments.rounds, began);
    tell(&arguments, &results, &facts, "");
}

/// Prints the table with what follows it, and writes everything where it is wanted.
fn tell(arguments: &Arguments, results: &Results, facts: &Facts, more: &str) {
    let table = report::table(results, facts) + more;
    println!("\n{table}");
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).unwrap();
        std::fs::write(out.join("results.json"), report::json(results, facts)).unwrap();
        std::fs::write(out.join("table.md"), table).unwrap();
        std::fs::write(out.join("chart.svg"), chart::svg(results)).unwrap();
    }
}
