//! The steps of the demo.

use std::fs;
use std::io;
use std::path::Path;

use super::image::{self, FILES, LINK};
use super::script::Script;
use super::stage::Stage;
use super::upper_listing::{self, Meaning};
use crate::error::{Error, Result};
use crate::mount::haosfs_at;

/// The new content of a file of the image.
const HOSTNAME: &str = "living-room\n";

/// The content of a file that the image does not have.
const WIFI: &str = "ssid=home\n";

/// Plays all steps.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn run(stage: &Stage, script: &mut Script) -> Result<()> {
    pack(stage, script)?;
    let packed = read(&stage.path("system.sqfs"))?;
    mount(stage, script, "Mount it under an empty upper directory")?;
    read_through(stage, script)?;
    change(stage, script)?;
    verify_changes(stage, script)?;
    show_upper(stage, script)?;
    unmount(stage, script)?;
    mount(stage, script, "Mount the same image and upper again")?;
    script.step("The changes have stayed")?;
    verify_changes(stage, script)?;
    show(stage, script, "cat union/etc/hostname", "etc/hostname")?;
    show(stage, script, "cat union/etc/wifi.conf", "etc/wifi.conf")?;
    unmount(stage, script)?;
    script.step("The image itself was never written")?;
    script.check("the image after all this", &(read(&stage.path("system.sqfs"))? == packed), &true)?;
    script.output("byte for byte as it was packed")
}

fn pack(stage: &Stage, script: &mut Script) -> Result<()> {
    script.step("Pack a squashfs image")?;
    let path = stage.path("system.sqfs");
    image::pack(&path)?;
    let size = fs::metadata(&path).map_err(|e| Error::sys("stat", &path, e))?.len();
    script.output(&format!("system.sqfs: {} files in {size} bytes", FILES.len()))?;
    FILES.iter().try_for_each(|(path, _)| script.output(&format!("  {path}")))?;
    script.output(&format!("  {} -> {}", LINK.0, LINK.1))
}

fn mount(stage: &Stage, script: &mut Script, title: &str) -> Result<()> {
    script.step(title)?;
    script.command("haosfs mount system.sqfs union --upper upper --work work")?;
    stage.haosfs(&["mount", "system.sqfs", "union", "--upper", "upper", "--work", "work"])?;
    let mounted = haosfs_at(&stage.path("union"))?;
    script.check("a haosfs mount at union", &mounted.is_some(), &true)?;
    let Some(mount) = mounted else { return Ok(()) };
    script.output(&format!("union is now a mount of type {}", mount.fs_type.display()))
}

fn unmount(stage: &Stage, script: &mut Script) -> Result<()> {
    script.step("Unmount")?;
    script.command("haosfs umount union")?;
    stage.haosfs(&["umount", "union"])?;
    script.check("a haosfs mount at union", &haosfs_at(&stage.path("union"))?.is_some(), &false)?;
    script.check("files at the mountpoint", &names(&stage.path("union"))?, &Vec::new())
}

fn read_through(stage: &Stage, script: &mut Script) -> Result<()> {
    script.step("Read the image through the union")?;
    for (path, content) in FILES {
        script.check(path, &text(stage, path)?, &content.to_owned())?;
    }
    let link = stage.path("union").join(LINK.0);
    let target = fs::read_link(&link).map_err(|e| Error::sys("read", &link, e))?;
    script.check(LINK.0, &target.as_path(), &Path::new(LINK.1))?;
    show(stage, script, "cat union/etc/hostname", "etc/hostname")?;
    show(stage, script, "cat union/etc/motd", "etc/motd")
}

fn change(stage: &Stage, script: &mut Script) -> Result<()> {
    script.step("Edit, add and delete as in any directory")?;
    let union = stage.path("union");
    let done = |doing, path: &str, answer: io::Result<()>| answer.map_err(|e| Error::sys(doing, union.join(path), e));
    script.command("echo living-room > union/etc/hostname")?;
    done("write", "etc/hostname", fs::write(union.join("etc/hostname"), HOSTNAME))?;
    script.command("echo ssid=home > union/etc/wifi.conf")?;
    done("write", "etc/wifi.conf", fs::write(union.join("etc/wifi.conf"), WIFI))?;
    script.command("rm union/etc/motd")?;
    done("remove", "etc/motd", fs::remove_file(union.join("etc/motd")))?;
    script.command("mv union/usr/bin/hello union/usr/bin/hi")?;
    done("rename", "usr/bin/hello", fs::rename(union.join("usr/bin/hello"), union.join("usr/bin/hi")))?;
    script.command("rm -r union/var/cache && mkdir union/var/cache")?;
    done("remove", "var/cache", fs::remove_dir_all(union.join("var/cache")))?;
    done("make", "var/cache", fs::create_dir(union.join("var/cache")))
}

/// What the union must show after [`change`], in this mount and in every later one.
fn verify_changes(stage: &Stage, script: &mut Script) -> Result<()> {
    let union = stage.path("union");
    script.check("etc/hostname", &text(stage, "etc/hostname")?, &HOSTNAME.to_owned())?;
    script.check("etc/wifi.conf", &text(stage, "etc/wifi.conf")?, &WIFI.to_owned())?;
    for (directory, must_be) in [
        ("", &["etc", "usr", "var"][..]),
        ("etc", &["hostname", "manual", "wifi.conf"]),
        ("usr/bin", &["hi"]),
        ("var/cache", &[]),
    ] {
        let must_be = must_be.iter().map(|name| (*name).to_owned()).collect();
        script.check(&format!("names in {directory}/"), &names(&union.join(directory))?, &must_be)?;
    }
    let (_, hello) = FILES.iter().find(|(path, _)| path.ends_with("hello")).copied().unwrap_or_default();
    script.check("usr/bin/hi", &text(stage, "usr/bin/hi")?, &hello.to_owned())?;
    script.check("etc/manual", &text(stage, "etc/manual")?, &text(stage, "usr/share/doc/manual.txt")?)
}

fn show_upper(stage: &Stage, script: &mut Script) -> Result<()> {
    script.step("Only the changes are in the upper, in kernel overlayfs' own format")?;
    let upper = upper_listing::list(&stage.path("upper"))?;
    for (path, meaning) in &upper {
        script.output(&format!("{:<16} {}", path.display(), meaning.words()))?;
    }
    let size = |text: &str| Meaning::File(text.len() as u64);
    for (path, must_be) in [
        ("etc", Meaning::Directory),
        ("etc/hostname", size(HOSTNAME)),
        ("etc/wifi.conf", size(WIFI)),
        ("etc/motd", Meaning::Whiteout),
        ("usr/bin/hello", Meaning::Whiteout),
        ("var/cache", Meaning::Opaque),
    ] {
        let found = upper.iter().find(|(at, _)| at == Path::new(path)).map(|(_, meaning)| meaning.clone());
        script.check(&format!("upper/{path}"), &found, &Some(must_be))?;
    }
    let untouched = upper.iter().any(|(path, _)| path.ends_with("manual.txt"));
    script.check("a copy of the untouched manual in the upper", &untouched, &false)
}

fn show(stage: &Stage, script: &mut Script, command: &str, path: &str) -> Result<()> {
    script.command(command)?;
    script.output(&text(stage, path)?)
}

fn text(stage: &Stage, path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(&stage.path("union").join(path))?).into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::sys("read", path, e))
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = |e: io::Error| Error::sys("list", directory, e);
    let entries = fs::read_dir(directory).map_err(failed)?;
    let mut names = entries
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    names.sort();
    Ok(names)
}
