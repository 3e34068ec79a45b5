//! The layer table of ARCHITECTURE.md.

use std::collections::BTreeMap;

/// What a module may use.
pub struct Row {
    /// Modules of smaller numbers may be used.
    pub layer: u32,
    /// Outside crates that may be used, as they are written in code.
    pub crates: Vec<String>,
}

/// Rows by module.
pub fn read(architecture: &str) -> BTreeMap<String, Row> {
    let section = architecture.split("\n## Layers\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [layer, module, crates] = cells[..] else { return None };
        let crates = crates.split(',').map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect();
        Some((module.to_owned(), Row { layer: layer.parse().ok()?, crates }))
    });
    rows.collect()
}

/// Names of `[dependencies]` as they are written in code.
pub fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    section.lines().filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_"))).collect()
}
