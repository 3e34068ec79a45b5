//! The results as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::contender::Contender;
use crate::facts::Facts;
use crate::rounds::Results;
use crate::row::{Kind, MEMORY, Row};

/// A table in Markdown: the kernel's seconds, and the others' as ratios to them.
pub fn table(results: &Results, facts: &Facts) -> String {
    let mut text = String::new();
    facts.iter().for_each(|(name, value)| writeln!(text, "- {name}: {value}").unwrap());
    let head: Vec<&str> = results.drivers.iter().map(|driver| driver.name()).collect();
    writeln!(text, "\n| workload | {} | bar |\n| --- |{} --- |", head.join(" | "), " --- |".repeat(head.len())).unwrap();
    for row in &results.rows {
        let cells: Vec<String> = results.drivers.iter().map(|driver| cell(results, row, *driver)).collect();
        writeln!(text, "| {} | {} | {} |", row.title, cells.join(" | "), bars(row)).unwrap();
    }
    let peaks: Vec<String> = results.drivers.iter().map(|driver| peaks(results, *driver)).collect();
    let [resident, anonymous] = MEMORY;
    writeln!(text, "| daemons, resident / anonymous at most | {} | {resident} / {anonymous} MiB |", peaks.join(" | ")).unwrap();
    text
}

/// Of which daemons there are none for the kernel.
fn peaks(results: &Results, driver: Contender) -> String {
    let told = |(kib, bar): (&u64, u64)| {
        let told = format!("{:.1}", *kib as f64 / 1024.0);
        if has_bar(driver) && *kib > bar * 1024 { format!("**{told}**") } else { told }
    };
    let peaks = results.peaks.get(driver.name());
    peaks.map_or_else(String::new, |peaks| peaks.iter().zip(MEMORY).map(told).collect::<Vec<_>>().join(" / "))
}

const fn has_bar(driver: Contender) -> bool {
    matches!(driver, Contender::Haosfs | Contender::Rootless)
}

/// How often a row's work is done on one mount.
pub fn turns(row: &Row) -> usize {
    if row.kind == Kind::ColdAndAgain { 2 } else { 1 }
}

/// True for rows that are told in seconds.
pub fn is_mount(row: &Row) -> bool {
    matches!(row.kind, Kind::Mount | Kind::MountMillion)
}

/// Seconds for the kernel and for mounts, else ratios.
fn cell(results: &Results, row: &Row, driver: Contender) -> String {
    let kernel = Contender::Kernel.name();
    let shown = (0..turns(row)).map(|turn| {
        let Some(seconds) = results.median(row.name, driver.name(), turn) else { return "-".into() };
        let (told, compared) = match results.median(row.name, kernel, turn) {
            _ if is_mount(row) => (format!("{:.1} ms", seconds * 1000.0), seconds),
            Some(reference) if driver != Contender::Kernel => (format!("{:.2}x", seconds / reference), seconds / reference),
            _ => return format!("{seconds:.3} s"),
        };
        let bar = row.bars[turn] * if driver == Contender::Rootless { row.user_factor } else { 1.0 };
        if has_bar(driver) && compared > bar { format!("**{told}**") } else { told }
    });
    shown.collect::<Vec<_>>().join(" / ")
}

fn bars(row: &Row) -> String {
    let shown = row.bars[..turns(row)].iter();
    match is_mount(row) {
        true => shown.map(|bar| format!("{:.0} ms", bar * 1000.0)).collect::<Vec<_>>().join(" / "),
        false => shown.map(|bar| format!("{bar}x")).collect::<Vec<_>>().join(" / "),
    }
}

/// Everything that was measured.
pub fn json(results: &Results, facts: &Facts) -> String {
    let rows: Vec<Value> = results
        .rows
        .iter()
        .map(|row| {
            let drivers: serde_json::Map<String, Value> = results
                .drivers
                .iter()
                .filter_map(|driver| {
                    let seconds = results.seconds.get(&(row.name, driver.name()))?;
                    let turns: Vec<&Vec<f64>> = seconds.iter().filter(|turn| !turn.is_empty()).collect();
                    Some((driver.name().to_owned(), json!(turns)))
                })
                .collect();
            let peaks = results.peaks_of(row.name);
            json!({ "row": row.name, "title": row.title, "bars": row.bars, "seconds": drivers, "peak_kib": peaks })
        })
        .collect();
    let facts: serde_json::Map<String, Value> = facts.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    let whole = json!({ "machine": facts, "rows": rows, "peak_kib_resident_anonymous": results.peaks });
    serde_json::to_string_pretty(&whole).unwrap() + "\n"
}
