//! Which partition is meant: pure, and never a guess.

use super::partition::{Content, DeviceNumber, Partition};
use super::signature::{LUKS, RAID};
use crate::config::data_partition::{DataPartition, Identity, Place};
use crate::error::{Error, Result};

/// The one partition that `data_partition` means. `named` is the device that its path leads to, where it is a path.
///
/// # Errors
/// Where none does, or several do: then all of them are named; and where it has another file system than `fs=` says.
pub fn resolve<'a>(data: &DataPartition, named: Option<DeviceNumber>, partitions: &'a [Partition]) -> Result<&'a Partition> {
    let is_placed = |partition: &&Partition| match &data.place {
        Place::Partition(identity) => partition.answers_to(identity),
        Place::Path(_) => named == Some(partition.number),
    };
    let placed: Vec<&Partition> = partitions.iter().filter(is_placed).collect();
    let meant: Vec<&Partition> =
        placed.iter().copied().filter(|partition| data.also.iter().all(|identity| partition.answers_to(identity))).collect();
    match meant.as_slice() {
        [one] => check_type(data, one),
        [] => Err(none(data, &placed, partitions)),
        several => Err(ambiguous(data, several)),
    }
}

fn check_type<'a>(data: &DataPartition, partition: &'a Partition) -> Result<&'a Partition> {
    match (&data.fs, partition.file_system()) {
        (_, Some(found)) if found.kind == RAID => refused(
            data,
            &format!(
                "{partition}, or its disk, is part of a RAID, which has the data; assemble that and name what is on it, or \
                 `mdadm --zero-superblock` where there is none any more"
            ),
        ),
        (_, Some(found)) if found.kind == LUKS => refused(
            data,
            &format!(
                "{partition} is locked by encryption; unlock it before, and name what is on it (UUID=, LABEL=, /dev/mapper/NAME)"
            ),
        ),
        (Some(asked), Some(found)) if family(asked) != family(found.kind) => {
            refused(data, &format!("{partition} has the file system {}, not {asked} as fs= says", found.kind))
        }
        _ => Ok(partition),
    }
}

/// One driver mounts them all.
fn family(kind: &str) -> &str {
    if matches!(kind, "ext2" | "ext3") { "ext4" } else { kind }
}

fn refused<T>(data: &DataPartition, why: &str) -> Result<T> {
    Err(Error::Refused(format!("data_partition {}: {why}", data.place)))
}

fn none(data: &DataPartition, placed: &[&Partition], all: &[Partition]) -> Error {
    let why = match placed {
        [] => match &data.place {
            Place::Partition(_) => format!("no partition of this machine has it{}", hint(data, all)),
            Place::Path(_) => "it is a disk with partitions, or something else lies on it, such as RAID".to_owned(),
        },
        placed => {
            let lacks = |partition: &&Partition| {
                let missing = data.also.iter().find(|identity| !partition.answers_to(identity));
                format!("{partition} is not {}", missing.map_or_else(String::new, Identity::to_string))
            };
            placed.iter().map(lacks).collect::<Vec<_>>().join("; ")
        }
    };
    Error::Refused(format!("data_partition {}: {why}", data.place))
}

/// The commonest mistakes: an id of another kind, and devices that could not be read.
fn hint(data: &DataPartition, all: &[Partition]) -> String {
    let mut hint = String::new();
    let other = match &data.place {
        Place::Partition(Identity::PartUuid(id)) => Some(Identity::Uuid(id.clone())),
        Place::Partition(Identity::Uuid(id)) => Some(Identity::PartUuid(id.clone())),
        Place::Partition(Identity::Label(name)) => Some(Identity::PartLabel(name.clone())),
        Place::Partition(Identity::PartLabel(name)) => Some(Identity::Label(name.clone())),
        Place::Partition(Identity::Disk(_)) | Place::Path(_) => None,
    };
    if let Some(other) = other
        && let Some(found) = all.iter().find(|partition| partition.answers_to(&other))
    {
        hint.push_str(&format!(", but {found} is {other}"));
    }
    let mut unread = all.iter().filter_map(|partition| match partition.content {
        Content::Unread(errno) => Some((partition, errno)),
        _ => None,
    });
    if let Some((first, errno)) = unread.next() {
        let more = match unread.count() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        hint.push_str(&format!("; {}{more} could not be read: {errno}", first.device.display()));
    }
    hint
}

fn ambiguous(data: &DataPartition, several: &[&Partition]) -> Error {
    let told: Vec<String> = several.iter().map(ToString::to_string).collect();
    // A second identity helps only if it tells them apart.
    let serials: Vec<&Option<String>> = several.iter().map(|partition| &partition.disk.serial).collect();
    let apart = serials.iter().all(|serial| serial.is_some() && serials.iter().filter(|other| *other == serial).count() == 1);
    let remedy =
        if apart { "add ,disk=SERIAL to data_partition, or take one away" } else { "take one away, or name it by its device" };
    Error::Refused(format!(
        "data_partition {}: {} partitions answer to it: {}; {remedy}",
        data.place,
        several.len(),
        told.join(" and ")
    ))
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
