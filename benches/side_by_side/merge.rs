//! Several measurements as one: of each the medians, and of those the median.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::contender::{self, Contender};
use crate::facts::Facts;
use crate::report;
use crate::rounds::{Results, Seconds, median, raise};
use crate::row::{self, Row};

/// Reads `results.json` of these directories.
pub fn read(dirs: &[PathBuf]) -> Vec<Results> {
    dirs.iter().map(|dir| results(dir)).collect()
}

fn results(dir: &Path) -> Results {
    let file = dir.join("results.json");
    let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut results = Results::default();
    for measured in whole["rows"].as_array().unwrap() {
        let name = measured["row"].as_str().unwrap();
        let row = row::named(name).unwrap_or_else(|| panic!("{}: no row {name}", file.display()));
        results.rows.push(row);
        for driver in contender::ALL {
            let Some(turns) = measured["seconds"][driver.name()].as_array() else { continue };
            if !results.drivers.contains(&driver) {
                results.drivers.push(driver);
            }
            let mut seconds = Seconds::default();
            for (turn, rounds) in turns.iter().zip(&mut seconds) {
                *rounds = rounds_of(turn);
            }
            results.seconds.insert((row.name, driver.name()), seconds);
        }
    }
    for driver in contender::ALL {
        let peaks = rounds_of(&whole["peak_kib_resident_anonymous"][driver.name()]);
        if let [resident, anonymous] = peaks[..] {
            results.peaks.insert(driver.name(), [resident as u64, anonymous as u64]);
        }
    }
    results
}

fn rounds_of(list: &Value) -> Vec<f64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// The measurements as if each were a round of a machine on which the kernel takes the median of its times: machines are not equally fast,
/// and what is told are multiples of the kernel's. Times to mount, which are told as they are, stay. Of the rows of the first, and of all
/// drivers.
pub fn as_one(all: &[Results]) -> Results {
    let mut one = Results { rows: all[0].rows.clone(), drivers: drivers(all), ..Results::default() };
    for row in &one.rows {
        for driver in &one.drivers {
            let kernel = |results: &Results, turn| results.median(row.name, Contender::Kernel.name(), turn);
            let medians = |turn| {
                let usual = median(all.iter().filter_map(|results| kernel(results, turn)).collect());
                let scaled = |results: &Results| {
                    let seconds = results.median(row.name, driver.name(), turn)?;
                    let scale = if report::is_mount(row) { None } else { usual.zip(kernel(results, turn)) };
                    Some(scale.map_or(seconds, |(usual, kernel)| seconds * usual / kernel))
                };
                all.iter().filter_map(scaled).collect()
            };
            one.seconds.insert((row.name, driver.name()), [medians(0), medians(1)]);
        }
    }
    for (driver, peaks) in all.iter().flat_map(|results| &results.peaks) {
        raise(one.peaks.entry(driver).or_default(), *peaks);
    }
    one
}

fn drivers(all: &[Results]) -> Vec<Contender> {
    contender::ALL.into_iter().filter(|driver| all.iter().any(|results| results.drivers.contains(driver))).collect()
}

/// What the measurements have in common, and how many they are.
pub fn facts(dirs: &[PathBuf]) -> Facts {
    vec![("measurements", dirs.len().to_string())]
}

/// The ratios of each measurement, in their order.
pub fn table(all: &[Results]) -> String {
    let drivers: Vec<Contender> = drivers(all).into_iter().filter(|driver| *driver != Contender::Kernel).collect();
    let head: Vec<&str> = drivers.iter().map(|driver| driver.name()).collect();
    let mut text = String::new();
    writeln!(text, "| workload | {} |\n| --- |{}", head.join(" | "), " --- |".repeat(head.len())).unwrap();
    for row in &all[0].rows {
        let cell = |driver: &Contender| {
            let turns = (0..report::turns(row)).map(|turn| {
                let ratios: Vec<String> = all.iter().map(|results| told(results, row, driver.name(), turn)).collect();
                ratios.join(" ")
            });
            turns.collect::<Vec<_>>().join(" / ")
        };
        writeln!(text, "| {} | {} |", row.title, drivers.iter().map(cell).collect::<Vec<_>>().join(" | ")).unwrap();
    }
    text
}

fn told(results: &Results, row: &Row, driver: &str, turn: usize) -> String {
    let kernel = results.median(row.name, Contender::Kernel.name(), turn);
    match (results.median(row.name, driver, turn), kernel) {
        (Some(seconds), _) if report::is_mount(row) => format!("{:.1} ms", seconds * 1000.0),
        (Some(seconds), Some(kernel)) => format!("{:.2}", seconds / kernel),
        _ => "-".into(),
    }
}
