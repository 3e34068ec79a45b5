//! The program under the names that mount(8) and umount(8) look for.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const TEST: &str = "its_name_says_what_it_does";

fn run(program: &Path, arguments: &[&Path]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

#[test]
fn its_name_says_what_it_does() {
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        println!("SKIPPED {TEST}: needs root");
        assert!(std::env::var_os("HAOSFS_NO_SKIP").is_none_or(|v| v != "1"), "{TEST} was skipped: needs root");
        return;
    }
    let scratch = tempfile::Builder::new().prefix("haosfs-test-").tempdir().unwrap();
    let [lower, mnt, mount, umount] =
        ["lower", "mnt", "mount.haosfs", "umount.fuse.haosfs"].map(|name| scratch.path().canonicalize().unwrap().join(name));
    [&lower, &mnt].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
    fs::write(lower.join("hello"), "hello\n").unwrap();
    [&mount, &umount].into_iter().for_each(|link| symlink(env!("CARGO_BIN_EXE_mount-haosfs"), link).unwrap());

    let mounted = run(&mount, &[&lower, &mnt, Path::new("-o"), Path::new("rw,nofail")]);
    assert_eq!((mounted.status.code(), mounted.stderr.as_slice()), (Some(0), &b""[..]), "{mounted:?}");
    assert_eq!(fs::read_to_string(mnt.join("hello")).unwrap(), "hello\n");
    let unmounted = run(&umount, &[&mnt]);
    assert_eq!((unmounted.status.code(), unmounted.stderr.as_slice()), (Some(0), &b""[..]), "{unmounted:?}");
    assert!(fs::read_dir(&mnt).unwrap().next().is_none());

    // Under its own name it mounts, and knows no subcommands.
    let own = run(Path::new(env!("CARGO_BIN_EXE_mount-haosfs")), &[Path::new("demo")]);
    assert_eq!(own.status.code(), Some(1), "{own:?}");
    assert!(String::from_utf8_lossy(&own.stderr).starts_with("haosfs: usage: mount.haosfs SPEC DIR"), "{own:?}");
}
