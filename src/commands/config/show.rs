//! `haosfs config show`.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use crate::commands::output::{Output, add_bytes, printable};
use crate::config::data_partition::{DataPartition, Identity, Place};
use crate::config::image_source::ImageSource;
use crate::config::ini::Entry;
use crate::config::store::{self, Stored};
use crate::error::Result;
use crate::mount::image_choice;

/// Prints what is configured; where nothing is, the image that is used then.
///
/// # Errors
/// Where the file says nothing valid, or there is neither a file nor an image.
pub fn run(file: &Path, json: bool) -> Result<()> {
    if let Some(stored) = store::read(file)? {
        return print(&stored, json);
    }
    let newest = image_choice::newest(&store::directory_of(&store::target(file)?))?;
    let mut output = Output::open();
    if json {
        let mut object = json!({ "configured": false });
        add_bytes(&mut object, "file", file.as_os_str());
        add_bytes(&mut object, "newest_image", newest.as_os_str());
        output.line(&object.to_string())?;
    } else {
        output.line("nothing is configured")?;
        output.line(&format!("newest image    {}", printable(newest.as_os_str())))?;
    }
    output.finish()
}

/// Prints what is configured.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(stored: &Stored, json: bool) -> Result<()> {
    let mut output = Output::open();
    if json {
        output.line(&object(stored).to_string())?;
        return output.finish();
    }
    let config = &stored.config;
    output.line(&format!("data partition  {}", data_line(&config.data_partition)))?;
    output.line(&format!("system image    {}", config.system_image))?;
    output.line(&format!("update image    {}", config.update_image.as_ref().map_or("none", ImageSource::as_str)))?;
    if let Some(previous) = &config.previous_image {
        output.line(&format!("previous image  {previous}"))?;
    }
    if let Some(failed) = &config.failed_image {
        let why = config.failed_reason.as_ref().map_or_else(String::new, |why| format!(": {}", printable(OsStr::new(why))));
        output.line(&format!("failed image    {failed}{why}"))?;
    }
    let line = |entry: &Entry| format!("{} = {}", entry.key, entry.value);
    for entry in &config.unknown {
        output.line(&format!("unknown         {}", line(entry)))?;
    }
    for section in &config.extensions {
        output.line("")?;
        output.line(&format!("[{}]", section.name))?;
        for entry in &section.entries {
            output.line(&line(entry))?;
        }
    }
    output.finish()
}

/// `PARTUUID=..., disk=..., fs btrfs, options a,b`.
fn data_line(data: &DataPartition) -> String {
    let mut parts = vec![data.place.to_string()];
    parts.extend(data.also.iter().map(ToString::to_string));
    parts.extend(data.fs.as_ref().map(|fs| format!("fs {fs}")));
    if !data.options.is_empty() {
        parts.push(format!("options {}", data.options.join(",")));
    }
    parts.join(", ")
}

fn object(stored: &Stored) -> Value {
    let config = &stored.config;
    let entry = |entry: &Entry| json!({ "key": entry.key, "value": entry.value, "line": entry.line });
    let entries = |entries: &[Entry]| entries.iter().map(entry).collect::<Vec<Value>>();
    let sections: Vec<Value> = config
        .extensions
        .iter()
        .map(|section| json!({ "name": section.name, "line": section.line, "entries": entries(&section.entries) }))
        .collect();
    let mut object = json!({
        "configured": true,
        "data_partition": data_object(&config.data_partition),
        "system_image": config.system_image.as_str(),
        "update_image": config.update_image.as_ref().map(ImageSource::as_str),
        "previous_image": config.previous_image.as_ref().map(ImageSource::as_str),
        "failed_image": config.failed_image.as_ref().map(ImageSource::as_str),
        "failed_reason": config.failed_reason,
        "unknown": entries(&config.unknown),
        "sections": sections,
    });
    add_bytes(&mut object, "file", stored.path.as_os_str());
    object
}

fn data_object(data: &DataPartition) -> Value {
    let identity = |identity: &Identity| {
        let (kind, value) = identity.parts();
        json!({ "kind": kind, "value": value })
    };
    let place = match &data.place {
        Place::Partition(found) => identity(found),
        Place::Path(path) => json!({ "kind": "path", "value": path.to_string_lossy() }),
    };
    json!({
        "place": place,
        "also": data.also.iter().map(identity).collect::<Vec<Value>>(),
        "fs": data.fs,
        "options": data.options,
    })
}
