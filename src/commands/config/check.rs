//! `haosfs config check`: the file, the images it names, and the data partition.

use std::path::Path;

use super::finding::{Finding, Severity};
use super::not_configured;
use crate::commands::output::{Output, printable};
use crate::config::haos_ini::{Config, HAOS};
use crate::config::ini::{self, Flaw};
use crate::config::store;
use crate::config::update_rules::{UPDATE, UpdateRules};
use crate::error::{Error, Result};
use crate::mount::data::{self, DataPlace};
use crate::mount::image_choice;
use crate::update::signature;

/// Prints what is wrong; returns the exit code, 1 where something will not work.
///
/// # Errors
/// Where there is no file, or it cannot be read.
pub fn run(file: &Path, json: bool) -> Result<u8> {
    let text = store::read_text(file)?.ok_or_else(|| not_configured(file))?;
    let mut findings = Vec::new();
    match Config::parse(&text) {
        Ok(config) => {
            judge_text(&text, &config, &mut findings);
            judge_rules(&config, &mut findings);
            judge_machine(&text, &config, &store::directory_of(&store::target(file)?), &mut findings);
        }
        Err(flaws) => findings.extend(flaws.into_iter().map(|flaw| Finding { severity: Severity::Error, flaw })),
    }
    let mut output = Output::open();
    for finding in &findings {
        output.line(&if json { finding.json(file).to_string() } else { finding.line(file) })?;
    }
    if findings.is_empty() && !json {
        output.line(&format!("{}: sound, and this machine has what it names", printable(file.as_os_str())))?;
    }
    output.finish()?;
    Ok(u8::from(findings.iter().any(|finding| finding.severity == Severity::Error)))
}

/// What only people can know.
fn judge_text(text: &str, config: &Config, findings: &mut Vec<Finding>) {
    let mut warn = |flaw| findings.push(Finding { severity: Severity::Warning, flaw });
    for entry in &config.unknown {
        warn(Flaw::of(entry.line, &entry.key, format!("this version knows no such key in [{HAOS}]; it is kept")));
    }
    if config.update_image.is_some() && config.update_image == config.failed_image {
        let why = "it has failed, and is not tried again: `haosfs update stage --again` has it tried";
        warn(Flaw { line: line_of(text, "update_image"), key: Some("update_image".to_owned()), why: why.to_owned() });
    }
    if !text.ends_with('\n') {
        warn(Flaw::at(text.lines().count(), "the last line does not end: the file may be cut off"));
    }
}

/// `[update]` is checked here, since a mistake in it keeps nobody from mounting.
fn judge_rules(config: &Config, findings: &mut Vec<Finding>) {
    let mut add = |severity, flaw| findings.push(Finding { severity, flaw });
    match UpdateRules::of(config) {
        Ok(rules) => {
            for entry in &rules.unknown {
                let why = format!("this version knows no such key in [{UPDATE}]; it is kept");
                add(Severity::Warning, Flaw::of(entry.line, &entry.key, why));
            }
            let flaw = |why| Flaw { line: None, key: Some("public_key".to_owned()), why };
            let sound = rules.public_key.map(|key| signature::public_key(&key));
            if let Some(Err(e)) = sound {
                add(Severity::Error, flaw(e.to_string()));
            }
        }
        Err(flaws) => flaws.into_iter().for_each(|flaw| add(Severity::Error, flaw)),
    }
}

/// What is named must be there.
fn judge_machine(text: &str, config: &Config, directory: &Path, findings: &mut Vec<Finding>) {
    let mut fail = |key: &str, e: &Error| {
        // The key stands before it already.
        let why = e.to_string();
        let why = why.strip_prefix(&format!("{key} ")).unwrap_or(&why).to_owned();
        findings
            .push(Finding { severity: Severity::Error, flaw: Flaw { line: line_of(text, key), key: Some(key.to_owned()), why } });
    };
    if let Err(e) = judge_data(config, directory) {
        fail("data_partition", &e);
    }
    for (key, source) in [("system_image", Some(&config.system_image)), ("update_image", config.update_image.as_ref())] {
        if let Some(Err(e)) = source.map(|source| image_choice::find_sound(source, directory)) {
            fail(key, &e);
        }
    }
}

fn judge_data(config: &Config, directory: &Path) -> Result<()> {
    let partition = match data::locate(&config.data_partition, directory)? {
        DataPlace::Directory(path) => return data::refuse_unfit(&path),
        DataPlace::Partition(partition) => partition,
    };
    match partition.file_system().filter(|found| !found.may_hold_uppers()) {
        Some(found) => Err(Error::Refused(format!("{partition} has the file system {}, which cannot hold an upper", found.kind))),
        None => Ok(()),
    }
}

fn line_of(text: &str, key: &str) -> Option<usize> {
    let sections = ini::read(text).ok()?;
    let ours = sections.iter().find(|section| section.name == HAOS)?;
    ours.entries.iter().find(|entry| entry.key == key).map(|entry| entry.line)
}
