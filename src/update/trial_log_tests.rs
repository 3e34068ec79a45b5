//! Logs are bounded, closed once, and gone in time.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;

fn image(name: &str) -> ImageSource {
    ImageSource::parse(name).unwrap()
}

fn attempt(name: &str, number: u32) -> Attempt {
    Attempt { image: image(name), number }
}

fn names(logs: &Logs) -> Vec<String> {
    let mut names: Vec<String> = attempts(&logs.look().unwrap()).iter().map(|a| a.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn names_tell_the_attempt() {
    for (name, number, file) in [("a-1.squashfs", 2, "a-1.squashfs-2.log"), ("images/b", 1, "images%2fb-1.log")] {
        assert_eq!(attempt(name, number).file_name(), file);
        assert_eq!(Attempt::parse(OsStr::new(file)), Some(attempt(name, number)));
    }
    for name in ["a.log", "a-01.log", "a-1.log.new", "-1.log", "a-.log"] {
        assert_eq!(Attempt::parse(OsStr::new(name)), None, "{name}");
    }
}

/// On FAT everybody may open a log.
#[test]
fn who_locks_a_log_is_not_waited_for_for_ever() {
    let scratch = tempfile::tempdir().unwrap();
    let logs = Logs::beside(scratch.path(), 0o644);
    logs.add(&attempt("a", 1), b"one").unwrap();
    let stranger = File::open(logs.last(&image("a")).unwrap()).unwrap();
    crate::sys::lock::shared(&stranger).unwrap();
    assert_eq!(logs.close(&attempt("a", 1), None, "done").unwrap_err().errno(), Errno::EAGAIN);
    drop(stranger);
    assert!(logs.close(&attempt("a", 1), None, "done").unwrap());
}

#[test]
fn a_log_is_closed_once_and_by_anybody() {
    let scratch = tempfile::tempdir().unwrap();
    let logs = Logs::beside(scratch.path(), 0o644);
    let first = attempt("a", 1);
    assert_eq!(logs.last(&first.image), None);
    let mut recording = logs.begin(&first, &[], "attempt 1 of\na").unwrap();
    assert_eq!(recording.record(b"one\n", false).unwrap(), Recorded::Written);
    let path = logs.last(&first.image).unwrap();
    logs.add(&first, b"more").unwrap();
    assert_eq!(recording.record(b"two\n", true).unwrap(), Recorded::Written);
    assert!(logs.close(&first, Some(b"last"), "it\nfailed").unwrap());
    let text = "== haosfs: attempt 1 of a\none\nmore\ntwo\nlast\n== haosfs: ended: it failed\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(recording.record(b"three\n", true).unwrap(), Recorded::Closed);
    assert!(!logs.close(&first, None, "again").unwrap());
    logs.add(&first, b"again").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    logs.forget(&first.image).unwrap();
    assert_eq!(recording.record(b"two\n", true).unwrap(), Recorded::Gone);
    assert!(!logs.close(&first, None, "nothing is made").unwrap());
    assert!(!path.exists());
    let recording = logs.begin(&first, &[], "x").unwrap();
    assert_eq!(recording.close("by itself").unwrap(), Recorded::Written);
    assert!(fs::read_to_string(&path).unwrap().ends_with("== haosfs: ended: by itself\n"));
}

#[test]
fn the_beginning_and_the_end_are_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let logs = Logs::beside(scratch.path(), 0o644);
    let mut recording = logs.begin(&attempt("a", 1), &[], "x").unwrap();
    for n in 0..3000 {
        assert_eq!(recording.record(format!("{n:0999}\n").as_bytes(), false).unwrap(), Recorded::Written);
    }
    assert_eq!(recording.record(&vec![b'y'; 2 << 20], false).unwrap(), Recorded::Written);
    let text = fs::read_to_string(logs.last(&image("a")).unwrap()).unwrap();
    assert!(text.len() as u64 <= LARGEST && text.len() as u64 == recording.size);
    assert!(text.starts_with("== haosfs: x\n00") && text.contains("something was left out") && text.ends_with('y'));
    logs.close(&attempt("a", 1), Some(&vec![b'z'; 2 << 20]), "x").unwrap();
    let text = fs::read_to_string(logs.last(&image("a")).unwrap()).unwrap();
    assert!(text.len() as u64 <= LARGEST && text.starts_with("== haosfs: x\n00") && text.ends_with("zz\n== haosfs: ended: x\n"));
}

#[test]
fn old_logs_go() {
    let scratch = tempfile::tempdir().unwrap();
    let logs = Logs::beside(scratch.path(), 0o644);
    for name in ["failed", "other"] {
        logs.begin(&attempt(name, 1), &[&image("failed")], "x").unwrap();
    }
    for number in 1..=5 {
        logs.begin(&attempt("a", number), &[&image("failed")], "x").unwrap();
    }
    assert_eq!(names(&logs), ["a-3.log", "a-4.log", "a-5.log", "failed-1.log"]);
    logs.begin(&attempt("a", 1), &[], "of another trial").unwrap();
    assert_eq!(names(&logs), ["a-1.log"]);
    logs.begin(&attempt("a", u32::MAX), &[], "as a name may say").unwrap();
    logs.begin(&attempt("a", 1), &[], "x").unwrap();
    assert_eq!(names(&logs), ["a-1.log"]);
}

/// Programs keep their own logs wherever they like.
#[test]
fn what_is_not_ours_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let (logs, at) = (Logs::beside(scratch.path(), 0o644), scratch.path().join(LOGS));
    fs::create_dir(&at).unwrap();
    fs::write(at.join("syslog-1.log"), "mine\n").unwrap();
    fs::write(at.join("a-2.log"), "mine\n").unwrap();
    // Power was cut when these were made.
    for (name, text) in [("gone-1.log", ""), ("gone-2.log", "== ha"), ("gone-3.log", "\0\0\0")] {
        fs::write(at.join(name), text).unwrap();
    }
    symlink("/etc/passwd", at.join("link-1.log")).unwrap();
    logs.begin(&attempt("a", 1), &[], "x").unwrap();
    logs.add(&attempt("b", 1), b"more").unwrap();
    assert_eq!(names(&logs), ["a-1.log", "b-1.log"]);
    assert!(logs.close(&attempt("b", 1), None, "it failed").unwrap());
    let text = fs::read_to_string(at.join("b-1.log")).unwrap();
    assert_eq!(text, "== haosfs: b, attempt 1\nmore\n== haosfs: ended: it failed\n");
    assert!(logs.begin(&attempt("a", 2), &[], "x").is_err() && logs.close(&attempt("a", 2), None, "x").is_err());
    assert_eq!(fs::read_to_string(at.join("a-2.log")).unwrap(), "mine\n");
    logs.forget(&image("syslog")).unwrap();
    assert_eq!((names(&logs), logs.last(&image("syslog"))), (vec!["a-1.log".to_owned()], None));
    let mine = ["syslog-1.log", "a-2.log", "link-1.log"].map(|name| at.join(name));
    assert!(mine.iter().all(|path| fs::symlink_metadata(path).is_ok()));
}

#[test]
fn a_link_in_the_place_of_the_directory_is_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let logs = Logs::beside(scratch.path(), 0o644);
    let elsewhere = scratch.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("old-1.log"), "== haosfs: x\n").unwrap();
    symlink("elsewhere", scratch.path().join(LOGS)).unwrap();
    assert!(logs.begin(&attempt("a", 1), &[], "x").unwrap_err().to_string().contains("logs: Not a directory"));
    assert!(logs.add(&attempt("a", 1), b"x").is_err() && logs.last(&image("old")).is_none());
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 1);
}
