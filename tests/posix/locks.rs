//! flock(2) and record locks (fcntl(2)), between open file descriptions and between processes.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::assertions::refused;
use super::case::cases;
use super::raw::{Owner, record_lock};

cases![
    flock_excludes, flock_shares, flock_ends_with_its_descriptor, flock_between_processes, record_locks_exclude_by_range,
    record_locks_share_reading, record_locks_need_access, record_locks_split;
];

const READ: i32 = libc::F_RDLCK;
const WRITE: i32 = libc::F_WRLCK;
const NONE: i32 = libc::F_UNLCK;

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn flock_excludes(dir: &Path) {
    let (a, b) = (open(&dir.join("f")), open(&dir.join("f")));
    flock(&a, FlockOperation::LockExclusive).unwrap();
    refused(flock(&b, FlockOperation::NonBlockingLockExclusive), Errno::WOULDBLOCK);
    refused(flock(&b, FlockOperation::NonBlockingLockShared), Errno::WOULDBLOCK);
    flock(&a, FlockOperation::Unlock).unwrap();
    flock(&b, FlockOperation::NonBlockingLockExclusive).unwrap();
}

fn flock_shares(dir: &Path) {
    let (a, b, c) = (open(&dir.join("f")), open(&dir.join("f")), open(&dir.join("f")));
    flock(&a, FlockOperation::LockShared).unwrap();
    flock(&b, FlockOperation::NonBlockingLockShared).unwrap();
    refused(flock(&c, FlockOperation::NonBlockingLockExclusive), Errno::WOULDBLOCK);
}

fn flock_ends_with_its_descriptor(dir: &Path) {
    let (a, b) = (open(&dir.join("f")), open(&dir.join("f")));
    flock(&a, FlockOperation::LockExclusive).unwrap();
    drop(a);
    flock(&b, FlockOperation::NonBlockingLockExclusive).unwrap();
}

fn flock_between_processes(dir: &Path) {
    let held = open(&dir.join("f"));
    let try_lock = || Command::new("flock").args(["--nonblock", "f", "true"]).current_dir(dir).status().unwrap().success();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    assert!(!try_lock());
    flock(&held, FlockOperation::Unlock).unwrap();
    assert!(try_lock());
}

fn record_locks_exclude_by_range(dir: &Path) {
    let (a, b) = (open(&dir.join("f")), open(&dir.join("f")));
    record_lock(&a, Owner::Process, WRITE, 0, 100).unwrap();
    refused(record_lock(&b, Owner::Description, WRITE, 50, 100), Errno::AGAIN);
    refused(record_lock(&b, Owner::Description, READ, 99, 1), Errno::AGAIN);
    record_lock(&b, Owner::Description, WRITE, 100, 0).unwrap();
    refused(record_lock(&a, Owner::Process, WRITE, 1 << 40, 1), Errno::AGAIN);
    record_lock(&a, Owner::Process, NONE, 0, 0).unwrap();
    record_lock(&b, Owner::Description, WRITE, 0, 0).unwrap();
}

fn record_locks_share_reading(dir: &Path) {
    let (a, b) = (open(&dir.join("f")), open(&dir.join("f")));
    record_lock(&a, Owner::Description, READ, 0, 10).unwrap();
    record_lock(&b, Owner::Description, READ, 0, 10).unwrap();
    refused(record_lock(&b, Owner::Description, WRITE, 5, 1), Errno::AGAIN);
}

fn record_locks_need_access(dir: &Path) {
    open(&dir.join("f"));
    let reader = File::open(dir.join("f")).unwrap();
    refused(record_lock(&reader, Owner::Process, WRITE, 0, 1), Errno::BADF);
    record_lock(&reader, Owner::Process, READ, 0, 1).unwrap();
}

fn record_locks_split(dir: &Path) {
    let (a, b) = (open(&dir.join("f")), open(&dir.join("f")));
    record_lock(&a, Owner::Description, WRITE, 0, 30).unwrap();
    record_lock(&a, Owner::Description, NONE, 10, 10).unwrap();
    refused(record_lock(&b, Owner::Description, WRITE, 9, 1), Errno::AGAIN);
    record_lock(&b, Owner::Description, WRITE, 10, 10).unwrap();
    refused(record_lock(&b, Owner::Description, WRITE, 20, 1), Errno::AGAIN);
}
