//! Keeps the house in order: the layer table of ARCHITECTURE.md, the places where `unsafe` may stand, sizes and names.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "layers/lexer.rs"]
mod lexer;
#[path = "layers/table.rs"]
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use lexer::{blank, words};

const LONGEST_FILE: usize = 600;
const LONGEST_MAIN: usize = 40;
const LONGEST_FUNCTION: usize = 60;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Every Rust file below a folder of the package, relative to the package.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.map(|e| e.unwrap().path()) {
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// `src/union/merge.rs` belongs to `union`, `src/error.rs` to `error`.
fn module_of(file: &Path) -> String {
    let name = file.iter().nth(1).unwrap().to_str().unwrap();
    name.strip_suffix(".rs").unwrap_or(name).to_owned()
}

/// Unit tests, which may use anything, stand at the end of a file or in a file of their own.
fn without_unit_tests(file: &Path, mut blanked: String) -> String {
    let tests_only = file.to_str().unwrap().ends_with("tests.rs");
    let end = if tests_only { Some(0) } else { blanked.find("#[cfg(test)]\nmod tests {") };
    blanked.truncate(end.unwrap_or(blanked.len()));
    blanked
}

/// Modules named right after `crate::` (also in braces) or `haosfs::`.
fn used_modules(blanked: &str) -> Vec<String> {
    let mut used = Vec::new();
    for prefix in ["crate", "haosfs"] {
        for (at, _) in words(blanked).filter(|(_, word)| *word == prefix) {
            let Some(after) = blanked[at + prefix.len()..].strip_prefix("::") else { continue };
            match after.strip_prefix('{') {
                Some(group) => used.extend(group_heads(group)),
                None => used.extend(words(after).next().map(|(_, word)| word.to_owned())),
            }
        }
    }
    used
}

/// First names of the items of `{a::b, c::{d, e}, f}`, without the opening brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut items = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ => {}
        }
        items.last_mut().unwrap().push(c);
    }
    items.iter().filter_map(|item| words(item).next().map(|(_, word)| word.to_owned())).collect()
}

#[test]
fn modules_use_only_lower_layers() {
    let table = table::read(&read(&root().join("ARCHITECTURE.md")));
    assert!(table.len() >= 10, "the layer table of ARCHITECTURE.md could not be read");
    let mut wrong = Vec::new();
    for file in rust_files("src").iter().filter(|f| !f.ends_with("lib.rs")) {
        let module = module_of(file);
        let Some(own) = table.get(&module) else {
            wrong.push(format!("{}: module {module} is not in the layer table", file.display()));
            continue;
        };
        for used in used_modules(&blank(&read(&root().join(file)))).iter().filter(|used| **used != module) {
            if table.get(used).is_some_and(|row| row.layer >= own.layer) {
                wrong.push(format!("{}: {module} (layer {}) may not use {used}", file.display(), own.layer));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn outside_crates_stay_in_their_modules() {
    let table = table::read(&read(&root().join("ARCHITECTURE.md")));
    let dependencies = table::dependencies(&read(&root().join("Cargo.toml")));
    assert!(dependencies.contains(&"fuser".to_owned()));
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let module = module_of(&file);
        let blanked = without_unit_tests(&file, blank(&read(&root().join(&file))));
        for (at, word) in words(&blanked).filter(|(_, word)| *word != "tracing") {
            let is_path = blanked[at + word.len()..].starts_with("::") && !blanked[..at].ends_with("::");
            let allowed = table.get(&module).is_some_and(|row| row.crates.iter().any(|c| c == word));
            if is_path && !allowed && dependencies.iter().any(|d| d == word) {
                wrong.push(format!("{}: {module} may not use the crate {word}", file.display()));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_is_used() {
    let table = table::read(&read(&root().join("ARCHITECTURE.md")));
    let dependencies = table::dependencies(&read(&root().join("Cargo.toml")));
    let code: Vec<String> = rust_files("src").iter().map(|file| blank(&read(&root().join(file)))).collect();
    for dependency in dependencies {
        let listed = dependency == "tracing" || table.values().any(|row| row.crates.contains(&dependency));
        assert!(listed, "{dependency} is in Cargo.toml, but in no row of the layer table");
        let used = code.iter().any(|text| words(text).any(|(_, word)| word == dependency));
        assert!(used, "{dependency} is in Cargo.toml, but nothing uses it");
    }
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let text = read(&root().join(&file));
        let has_unsafe = words(&blank(&text)).any(|(_, word)| word == "unsafe");
        let may = file.starts_with("src/sys") || file == Path::new("src/image/map.rs");
        if has_unsafe && !(may && text.contains("#![allow(unsafe_code)]")) {
            wrong.push(file.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "unsafe code in {}", wrong.join(", "));
}

#[test]
fn files_stay_short() {
    let files = ["src", "tests", "benches", "mount-helper"].into_iter().flat_map(rust_files);
    let too_long: Vec<String> = files
        .map(|file| (read(&root().join(&file)).lines().count(), file))
        .filter(|(lines, file)| *lines > if file == Path::new("src/main.rs") { LONGEST_MAIN } else { LONGEST_FILE })
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
}

#[test]
fn functions_stay_short() {
    let mut too_long = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let blanked = blank(&read(&root().join(&file)));
        for (at, _) in words(&blanked).filter(|(_, word)| *word == "fn") {
            let lines = function_lines(&blanked[at..]);
            if lines > LONGEST_FUNCTION {
                let name = words(&blanked[at..]).nth(1).map_or("", |(_, word)| word);
                too_long.push(format!("{}: fn {name} has {lines} lines", file.display()));
            }
        }
    }
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
}

/// Lines from `fn` to the closing brace; 0 for declarations and function types, which end before any brace.
fn function_lines(text: &str) -> usize {
    if text.trim_start_matches("fn").trim_start().starts_with('(') {
        return 0;
    }
    let mut braces = 0_usize;
    let mut brackets = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' if brackets == 0 => return 0,
            ')' | ']' => brackets -= 1,
            ';' if braces == 0 && brackets == 0 => return 0,
            '{' => braces += 1,
            '}' if braces <= 1 => return if braces == 1 { text[..at].matches('\n').count() + 1 } else { 0 },
            '}' => braces -= 1,
            _ => {}
        }
    }
    0
}

#[test]
fn names_say_what_is_in_a_file() {
    let vague = ["util", "utils", "helper", "helpers", "common", "misc"];
    for file in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        for part in file.iter().map(|p| p.to_str().unwrap().trim_end_matches(".rs")) {
            let bad = vague.contains(&part) || part.ends_with("_manager") || part.ends_with("_handler");
            assert!(!bad, "{}: {part} says nothing", file.display());
        }
    }
}

#[test]
fn the_scanner_sees_what_it_should() {
    let code = blank("use crate::{a::b, c::{d, e}, f};\nuse crate::g::h; // crate::no\nlet x = \"crate::no\"; crate::i::j()");
    assert_eq!(used_modules(&code), ["a", "c", "f", "g", "i"]);
    assert_eq!(function_lines("fn f(x: [u8; 2]) -> u8 {\n if x { 1 } else { 2 }\n}\n"), 3);
    assert_eq!(function_lines("fn f(&self);\nfn g() {\n}\n"), 0);
    assert_eq!(function_lines("fn(u8) -> u8, x: u8 }"), 0);
    assert_eq!(function_lines("fn h<A, B>() where A: C, B: D\n{\n}"), 3);
}
