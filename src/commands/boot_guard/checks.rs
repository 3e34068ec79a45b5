//! Check scripts: programs in directories, one after the other in the order of their names.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};

use super::watch::Watch;
use crate::error::{Error, Result};
use crate::sys::signals::unblock_in;

/// How often it is looked whether a check has ended.
const GLANCE: Duration = Duration::from_millis(50);

/// So much of what a check has said last is looked at, in bytes.
const END: u64 = 4096;

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exit status 0.
    Green,
    /// Anything else, and what it said last.
    Red(String),
    /// It had not ended when the time was over.
    Late,
    /// This process shall end, so it was ended.
    Ended,
}

/// The programs in these directories: executable files whose names are of letters, digits, dashes, underscores and dots, and begin
/// with none of the latter. One that comes again in a later directory is taken from that.
///
/// # Errors
/// The first of those of [`look`]: what cannot be checked is not green.
pub fn programs(directories: &[PathBuf]) -> Result<Vec<PathBuf>> {
    look(directories).into_iter().collect()
}

/// The same, with an error in the place of each directory, or each file of such a name, that is there and cannot be read, or is a link
/// that leads nowhere.
pub fn look(directories: &[PathBuf]) -> Vec<Result<PathBuf>> {
    let mut found: Vec<(OsString, Result<PathBuf>)> = Vec::new();
    for directory in directories {
        let failed = |e| Error::sys("look for checks in", directory, e);
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !directory.is_symlink() => continue,
            Err(e) => {
                found.push((OsString::new(), Err(failed(e))));
                continue;
            }
        };
        for entry in entries {
            let (path, name) = match entry {
                Ok(entry) => (entry.path(), entry.file_name()),
                Err(e) => {
                    found.push((OsString::new(), Err(failed(e))));
                    break;
                }
            };
            if !is_name(&name) {
                continue;
            }
            let program = match is_program(&path) {
                Ok(false) => continue,
                known => known.map(|_| path),
            };
            found.retain(|(other, _)| *other != name);
            found.push((name, program));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, program)| program).collect()
}

/// What is not executable is there for others.
fn is_program(path: &Path) -> Result<bool> {
    let at = fs::metadata(path).map_err(|e| Error::sys("look at the check", path, e))?;
    Ok(at.is_file() && at.permissions().mode() & 0o111 != 0)
}

/// Editors and package managers leave others.
fn is_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let is_backup = [&b".bak"[..], b".dpkg-old", b".dpkg-new", b".dpkg-dist", b".rpmsave", b".rpmnew"];
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !bytes.starts_with(b".") && bytes.iter().all(plain) && !is_backup.iter().any(|end| bytes.ends_with(end))
}

/// Runs one until it ends, or the time is over; then it is killed with all that it has started in its process group.
///
/// # Errors
/// Where it cannot be started.
pub fn run(program: &Path, watch: &mut Watch) -> Result<Answer> {
    let ended = follow(&mut Command::new(program), watch).map_err(|e| Error::sys("run the check", program, e))?;
    Ok(match ended {
        Some((status, _)) if status.success() => Answer::Green,
        Some((status, line)) => Answer::Red(told(status, &line)),
        None if watch.is_over() => Answer::Late,
        None => Answer::Ended,
    })
}

/// Starts a program and waits for its end: how it ended, and the last line that it has said. `None` where it was killed, because the
/// time was over or this process shall end.
pub fn follow(command: &mut Command, watch: &mut Watch) -> io::Result<Option<(ExitStatus, String)>> {
    let said = File::from(memfd_create("said", MemfdFlags::CLOEXEC)?);
    command.current_dir("/").stdin(Stdio::null()).process_group(0);
    command.stdout(said.try_clone()?).stderr(said.try_clone()?);
    let mut child = unblock_in(command).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            // What it has said cannot be read where it has said nothing.
            return Ok(Some((status, last_line(said).unwrap_or_default())));
        }
        if watch.is_over() || !watch.pause(GLANCE) {
            end(&mut child);
            return Ok(None);
        }
    }
}

fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // It may have ended meanwhile.
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    let _ = child.wait();
}

fn told(status: ExitStatus, line: &str) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    if line.is_empty() { how } else { format!("{how}: {line}") }
}

fn last_line(mut said: File) -> io::Result<String> {
    let size = said.metadata()?.len();
    said.seek(SeekFrom::Start(size.saturating_sub(END)))?;
    let mut end = Vec::new();
    said.take(END).read_to_end(&mut end)?;
    let line = end.trim_ascii_end().rsplit(|&b| b == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Instant;

    fn program(directory: &Path, name: &str, text: &str, mode: u32) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(directory.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn programs_are_found_in_order() {
        let scratch = tempfile::tempdir().unwrap();
        let (first, second) = (scratch.path().join("a"), scratch.path().join("b"));
        for (name, mode) in [("20-b.sh", 0o755), ("10-a", 0o755), ("30", 0o644), (".x", 0o755), ("c~", 0o755), ("d.bak", 0o755)] {
            program(&first, name, "", mode);
        }
        program(&second, "10-a", "", 0o755);
        fs::create_dir(second.join("40")).unwrap();
        let found = programs(&[first.clone(), second.clone(), scratch.path().join("none")]).unwrap();
        assert_eq!(found, [second.join("10-a"), first.join("20-b.sh")]);
        assert!(programs(&[first.join("10-a")]).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_told_of() {
        let scratch = tempfile::tempdir().unwrap();
        let (first, second) = (scratch.path().join("a"), scratch.path().join("b"));
        [&first, &second].into_iter().for_each(|directory| fs::create_dir(directory).unwrap());
        symlink("nowhere", first.join("c~")).unwrap();
        let one = [first];
        assert!(programs(&one).unwrap().is_empty(), "nobody would run it");
        symlink("nowhere", one[0].join("10-a")).unwrap();
        symlink("20-b", one[0].join("20-b")).unwrap();
        let why = |directories: &[PathBuf]| programs(directories).unwrap_err().to_string();
        assert!(why(&one).contains("look at the check"), "{}", why(&one));
        program(&second, "10-a", "", 0o755);
        let [first] = one;
        let both = [first, second.clone()];
        assert!(why(&both).contains("20-b"), "{}", why(&both));
        program(&second, "20-b", "", 0o755);
        assert_eq!(programs(&both).unwrap(), [second.join("10-a"), second.join("20-b")], "what is hidden is not run");
        symlink("nowhere", scratch.path().join("c")).unwrap();
        assert!(programs(&[scratch.path().join("c")]).is_err());
    }

    #[test]
    fn answers_say_why() {
        let scratch = tempfile::tempdir().unwrap();
        for (text, answer) in [
            ("exit 0", Answer::Green),
            ("echo one; echo two >&2; exit 3", Answer::Red("exit status 3: two".to_owned())),
            ("exit 1", Answer::Red("exit status 1".to_owned())),
            ("kill -9 $$", Answer::Red("signal 9".to_owned())),
            // It can be ended.
            ("kill -TERM $$; sleep 5", Answer::Red("signal 15".to_owned())),
            // Whatever stays behind is not waited for.
            ("sleep 5 & exit 0", Answer::Green),
        ] {
            program(scratch.path(), "x", text, 0o755);
            let mut watch = Watch::new(Some(Duration::from_secs(10))).unwrap();
            assert_eq!(run(&scratch.path().join("x"), &mut watch).unwrap(), answer, "{text}");
        }
        program(scratch.path(), "x", "sleep 60 & sleep 60", 0o755);
        let begun = Instant::now();
        let mut watch = Watch::new(Some(Duration::from_millis(200))).unwrap();
        assert_eq!(run(&scratch.path().join("x"), &mut watch).unwrap(), Answer::Late);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
