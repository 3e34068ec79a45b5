//! `haosfs status`.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use super::output::{Output, add, add_bytes, printable};
use crate::error::{Errno, Result};
use crate::mount::boot_record::{self, BootRecord, Mode};
use crate::mount::{self, GenerationRecord, Record, Room, Status};

/// Prints what is mounted here, or at one mountpoint.
///
/// # Errors
/// As for [`mount::status`], and when standard output cannot be written.
pub fn run(mountpoint: Option<&Path>, json: bool) -> Result<()> {
    let found = mount::status(mountpoint)?;
    let booted = boot_record::read()?;
    let mut output = Output::open();
    if json {
        found.iter().try_for_each(|status| output.line(&object(status, booted.as_ref()).to_string()))?;
    } else {
        warning(booted.as_ref()).iter().try_for_each(|line| output.line(line))?;
        for (number, status) in found.iter().enumerate() {
            if number > 0 {
                output.line("")?;
            }
            lines(status).iter().try_for_each(|line| output.line(line))?;
        }
        if found.is_empty() {
            output.line("no union is mounted here")?;
        }
    }
    output.finish()
}

/// What must not be overlooked.
fn warning(booted: Option<&BootRecord>) -> Vec<String> {
    let Some(booted) = booted else { return Vec::new() };
    let why = booted.why.as_ref().map_or_else(String::new, |why| printable(OsStr::new(why)));
    let word = match booted.mode {
        Mode::System => return Vec::new(),
        Mode::Trial => return vec![format!("TRIAL      {} is tried", printable(OsStr::new(&booted.image))), String::new()],
        Mode::Setup => "SET-UP     ",
        Mode::Safe => "SAFE MODE  ",
    };
    vec![format!("{word}{why}"), "           nothing that is written to the root is kept".to_owned(), String::new()]
}

fn lines(status: &Status) -> Vec<String> {
    let mut lines = vec![printable(status.mount.mountpoint.as_os_str())];
    let mut say = |name: &str, value: String| lines.push(format!("  {name:<11} {value}"));
    match &status.record {
        None => say("source", printable(&status.mount.source)),
        Some(record) => {
            say("backend", format!("{}: {}", record.backend.name(), record.reason));
            record.lowers.iter().for_each(|lower| say("lower", printable(lower.as_os_str())));
            say("upper", upper(record));
            if let Some(generation) = &record.generation {
                say("generation", format!("{}, made on {}", generation.number, printable(&generation.base)));
            }
        }
    }
    if let Some(pid) = status.daemon {
        say("daemon", format!("pid {pid}"));
    }
    say("use", room(status));
    lines
}

fn upper(record: &Record) -> String {
    let upper = record.upper.as_ref().map(|upper| printable(upper.as_os_str()));
    match (upper, &record.generation) {
        (None, _) => "none: read-only".to_owned(),
        (Some(upper), Some(GenerationRecord { data, driver: Some(driver), .. })) => {
            format!("{upper} on {} ({driver})", printable(data.as_os_str()))
        }
        (Some(upper), _) => upper,
    }
}

fn room(status: &Status) -> String {
    let has_upper = status.record.as_ref().is_none_or(|record| record.upper.is_some());
    match status.room {
        Err(Errno::ENOTCONN) => "its daemon has died; clear it with `haosfs umount -l`".to_owned(),
        Err(e) => e.to_string(),
        Ok(_) if !has_upper => "nothing can be written".to_owned(),
        Ok(Room { size, used, available }) => {
            format!("{} of {} used, {} free", mebibytes(used), mebibytes(size), mebibytes(available))
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn object(status: &Status, booted: Option<&BootRecord>) -> Value {
    let mut object = json!({ "type": status.mount.fs_type.to_string_lossy(), "device": status.mount.device });
    add_bytes(&mut object, "mountpoint", status.mount.mountpoint.as_os_str());
    add_bytes(&mut object, "source", &status.mount.source);
    if let Some(record) = &status.record {
        add(&mut object, "backend", json!(record.backend.name()));
        add(&mut object, "reason", json!(record.reason));
        let lowers: Vec<Value> = record.lowers.iter().map(|lower| path_object(lower)).collect();
        add(&mut object, "lowers", json!(lowers));
        if let Some(upper) = &record.upper {
            add_bytes(&mut object, "upper", upper.as_os_str());
        }
        if let Some(generation) = &record.generation {
            add(&mut object, "generation", generation_object(generation));
        }
    }
    if let Some(booted) = booted {
        add(&mut object, "boot", json!({ "mode": booted.mode.name(), "image": booted.image, "why": booted.why }));
    }
    add(&mut object, "daemon", json!(status.daemon));
    if !status.requests.is_empty() {
        let requests: serde_json::Map<String, Value> =
            status.requests.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        add(&mut object, "requests", json!(requests));
    }
    if let Some([decompressed, found]) = status.blocks {
        add(&mut object, "blocks", json!({ "decompressed": decompressed, "found": found }));
    }
    match status.room {
        Ok(Room { size, used, available }) => {
            add(&mut object, "room", json!({ "size": size, "used": used, "available": available }));
        }
        Err(e) => add(&mut object, "error", json!(e.to_string())),
    }
    object
}

fn generation_object(generation: &GenerationRecord) -> Value {
    let mut object = json!({ "number": generation.number, "fs": generation.driver, "writable": generation.writable });
    add_bytes(&mut object, "base", &generation.base);
    add_bytes(&mut object, "data", generation.data.as_os_str());
    object
}

fn path_object(path: &Path) -> Value {
    let mut object = json!({});
    add_bytes(&mut object, "path", path.as_os_str());
    object
}
