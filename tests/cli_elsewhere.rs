//! Mounts that other mount namespaces see: beside these tests no others run, whose mounts such a namespace would have as well.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{HAOSFS, Scratch, can_run, has_tool, is_root, wait_until};

/// The daemon goes on for whoever sees the union at another place, and nobody waits for that.
#[test]
fn umount_does_not_wait_for_other_mounts() {
    if !can_run("umount_does_not_wait_for_other_mounts", is_root() && has_tool("unshare"), "needs root and unshare") {
        return;
    }
    let scratch = Scratch::with_image();
    // By its absolute path, so that the daemon can be told from others.
    scratch.haosfs(&["mount", "image.sqfs", scratch.path("mnt").to_str().unwrap()]).succeeded();
    assert_eq!(scratch.daemons().len(), 1);
    // It says so when it has its own mounts, and ends with its standard input.
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "echo ready; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut other = command.spawn().unwrap();
    let mut ready = [0; 6];
    other.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let began = Instant::now();
    let finished = scratch.haosfs(&["umount", "mnt"]);
    let took = began.elapsed();
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    finished.succeeded_saying("still sees the union at");
    assert!(took < Duration::from_secs(20), "{took:?}");
    wait_until("the daemon ends with the other namespace", || scratch.daemons().is_empty());
}

#[test]
fn in_the_background_it_logs_to_the_system_log() {
    let possible = is_root() && has_tool("unshare");
    if !can_run("in_the_background_it_logs_to_the_system_log", possible, "needs root and unshare") {
        return;
    }
    let scratch = Scratch::with_image();
    let log = UnixDatagram::bind(scratch.path("log")).unwrap();
    let script = format!(
        "mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/fuse c 10 229; touch /dev/log\n\
         mount --bind log /dev/log; {HAOSFS} mount image.sqfs mnt; {HAOSFS} umount mnt"
    );
    scratch.run("unshare", &["-m", "sh", "-e", "-c", &script]).succeeded();
    log.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for word in ["mounted", "unmounted"] {
        let mut datagram = [0; 1024];
        let length = log.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        // Facility daemon, severity info.
        assert!(text.starts_with("<30>haosfs[") && text.contains(&format!("]: {word}")), "{text:?}");
    }
}
