//! The life of a mount as root: 0 once it answers, a daemon behind, gone after umount or a signal.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Signal, Uid, kill_process};
use support::{HAOSFS, NOBODY, Scratch, can_run, is_root, wait_until};

const ROOT: &str = "needs root";

/// Mounts `image.sqfs` with an upper, by absolute paths so that the daemon can be told from others.
fn mount(scratch: &Scratch, more: &[&str]) {
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "upper", "work"].map(|name| scratch.path(name));
    let paths = [&image, &mnt, &upper, &work].map(|p| p.to_str().unwrap());
    let arguments = ["mount", paths[0], paths[1], "--upper", paths[2], "--work", paths[3]];
    scratch.haosfs(&[&arguments, more].concat()).succeeded();
}

#[test]
fn the_union_answers_when_the_command_returns() {
    if !can_run("the_union_answers_when_the_command_returns", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    mount(&scratch, &[]);
    let line = scratch.mountinfo("mnt").unwrap();
    let image = scratch.path("image.sqfs");
    for part in [" - fuse.haosfs ", image.to_str().unwrap(), " rw,", "allow_other", "default_permissions"] {
        assert!(line.contains(part), "{part:?} not in {line:?}");
    }
    assert_eq!(fs::read_to_string(scratch.path("mnt/hello")).unwrap(), "hello\n");
    scratch.umount("mnt");
    assert_eq!(scratch.mountinfo("mnt"), None);
    assert_eq!(scratch.daemons(), []);
}

/// Fields 6 and 7 of proc_pid_stat(5).
fn session_and_terminal(stat: &str) -> [i32; 2] {
    let stat = fs::read_to_string(stat).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields: Vec<i32> = after_name.split(' ').skip(3).take(2).map(|f| f.parse().unwrap()).collect();
    fields.try_into().unwrap()
}

#[test]
fn the_daemon_holds_nothing_of_the_terminal() {
    if !can_run("the_daemon_holds_nothing_of_the_terminal", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    mount(&scratch, &[]);
    let daemons = scratch.daemons();
    let [pid] = daemons[..] else { panic!("one daemon, not {daemons:?}") };
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    for fd in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap().to_str(), Some("/dev/null"));
    }
    let [session, terminal] = session_and_terminal(&format!("/proc/{pid}/stat"));
    // Read from the same place: getsid() has no answer for a leader outside of this pid namespace, where stat says 0.
    assert_ne!(session, session_and_terminal("/proc/self/stat")[0]);
    assert_ne!(session, pid, "a session leader could gain a terminal");
    assert_eq!(terminal, 0);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Umask:\t0000"), "{status}");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let open_files: Vec<&str> = limits.lines().find(|l| l.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(open_files[3], open_files[4], "the soft limit is raised to the hard one");
    scratch.umount("mnt");
}

#[test]
fn who_ignores_the_end_of_his_children_mounts_as_well() {
    if !can_run("who_ignores_the_end_of_his_children_mounts_as_well", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    let haosfs = ["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_haosfs"), "mount", "--backend", "fuse", "image.sqfs", "mnt"];
    scratch.run("env", &haosfs).succeeded();
    assert_eq!(fs::read_to_string(scratch.path("mnt/hello")).unwrap(), "hello\n");
    scratch.umount("mnt");
}

#[test]
fn umount_leaves_the_upper_free() {
    if !can_run("umount_leaves_the_upper_free", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    for _ in 0..20 {
        mount(&scratch, &[]);
        scratch.umount("mnt");
    }
}

#[test]
fn a_mount_in_use_is_busy_unless_detached() {
    if !can_run("a_mount_in_use_is_busy_unless_detached", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    mount(&scratch, &[]);
    let open = fs::File::open(scratch.path("mnt/hello")).unwrap();
    let busy = scratch.haosfs(&["umount", "mnt"]);
    // A program that another test is just starting has it open for a moment, too.
    assert!(busy.stderr.ends_with("; -l detaches it at once\n"), "{busy:?}");
    busy.failed(32, &format!("(pid {}) uses {}", std::process::id(), scratch.path("mnt/hello").display()));
    scratch.haosfs(&["umount", "-l", "mnt"]).succeeded();
    assert_eq!(scratch.mountinfo("mnt"), None);
    let daemons = scratch.daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    drop(open);
    wait_until("the daemon ends with the last user", || scratch.daemons().is_empty());
}

/// A name that bears a union's device number, as the kernel lists it (unix(7)).
fn shown_as(line: &str) -> Vec<u8> {
    let beginning = format!("@haosfs/{}/", line.split(' ').nth(2).unwrap());
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let name = table.lines().filter_map(|line| line.rsplit(' ').next()).find(|name| name.starts_with(&beginning));
    name.unwrap().trim_start_matches('@').as_bytes().to_vec()
}

/// As somebody without rights: asks until no more can.
fn ask_as_nobody(name: Vec<u8>) {
    let asker = std::thread::spawn(move || {
        let nobody = Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let address = SocketAddrUnix::new_abstract_name(&name).unwrap();
        loop {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            match connect(&socket, &address) {
                Ok(()) => {}
                Err(e) => return e,
            }
        }
    });
    assert_eq!(asker.join().unwrap(), rustix::io::Errno::AGAIN);
}

#[test]
fn a_daemon_that_cannot_be_asked_is_waited_for() {
    if !can_run("a_daemon_that_cannot_be_asked_is_waited_for", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    mount(&scratch, &[]);
    let pid = Pid::from_raw(scratch.daemons()[0]).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    ask_as_nobody(shown_as(&scratch.mountinfo("mnt").unwrap()));
    let mut umount = Command::new(HAOSFS).arg("umount").arg(scratch.path("mnt")).spawn().unwrap();
    wait_until("it is unmounted", || scratch.mountinfo("mnt").is_none());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(umount.try_wait().unwrap(), None, "it does not wait");
    kill_process(pid, Signal::CONT).unwrap();
    assert!(umount.wait().unwrap().success());
    assert_eq!(scratch.daemons(), []);
}

/// What is mounted on a directory above lies on top, though its line is not the last with that path.
#[test]
fn a_union_out_of_sight_is_in_nobody_s_way() {
    if !can_run("a_union_out_of_sight_is_in_nobody_s_way", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("above/mnt");
    for backend in ["fuse", "kernel"] {
        let mount = ["mount", "image.sqfs", "above/mnt", "--backend", backend];
        scratch.haosfs(&mount).succeeded();
        scratch.haosfs(&mount).failed(32, "it is already a haosfs mount");
        scratch.run("mount", &["-t", "tmpfs", "none", "above"]).succeeded();
        scratch.mkdir("above/mnt");
        scratch.haosfs(&["umount", "above/mnt"]).failed(32, "above/mnt is not a haosfs mount");
        scratch.haosfs(&["status", "above/mnt"]).failed(1, "above/mnt is not a haosfs mount");
        scratch.haosfs(&mount).succeeded();
        scratch.umount("above/mnt");
        scratch.run("umount", &["above"]).succeeded();
        assert_eq!(fs::read_to_string(scratch.path("above/mnt/hello")).unwrap(), "hello\n");
        scratch.umount("above/mnt");
    }
}

#[test]
fn signals_unmount() {
    if !can_run("signals_unmount", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        mount(&scratch, &[]);
        let daemons = scratch.daemons();
        let [pid] = daemons[..] else { panic!("one daemon, not {daemons:?}") };
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        wait_until("the daemon ends", || scratch.daemons().is_empty());
        assert_eq!(scratch.mountinfo("mnt"), None);
    }
}

#[test]
fn a_signal_ends_a_mount_that_is_in_use() {
    if !can_run("a_signal_ends_a_mount_that_is_in_use", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    mount(&scratch, &[]);
    let _open = fs::File::open(scratch.path("mnt/hello")).unwrap();
    let pid = scratch.daemons()[0];
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    wait_until("the mount goes", || scratch.mountinfo("mnt").is_none());
    wait_until("the daemon ends", || scratch.daemons().is_empty());
}

#[test]
fn a_second_signal_ends_a_union_that_stands_elsewhere() {
    if !can_run("a_second_signal_ends_a_union_that_stands_elsewhere", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("elsewhere");
    mount(&scratch, &[]);
    rustix::mount::mount_bind(scratch.path("mnt"), scratch.path("elsewhere")).unwrap();
    let pid = Pid::from_raw(scratch.daemons()[0]).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    wait_until("the mount goes", || scratch.mountinfo("mnt").is_none());
    assert_eq!(fs::read_to_string(scratch.path("elsewhere/hello")).unwrap(), "hello\n");
    kill_process(pid, Signal::TERM).unwrap();
    wait_until("the daemon ends", || scratch.daemons().is_empty());
}

#[test]
fn in_the_foreground_it_logs_to_standard_error() {
    if !can_run("in_the_foreground_it_logs_to_standard_error", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    let child = Command::new(HAOSFS)
        .args(["mount", "--foreground", "image.sqfs", "mnt"])
        .current_dir(scratch.path(""))
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_until("the union is mounted", || scratch.mountinfo("mnt").is_some());
    assert!(scratch.mountinfo("mnt").unwrap().contains(" ro,"), "without an upper it is read-only");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let log = String::from_utf8(output.stderr).unwrap();
    for words in ["mounted", "SIGINT: unmounting", "unmounted"] {
        assert!(log.contains(words), "{words:?} not in {log:?}");
    }
}

/// What is made beside the mount takes a tenth of a second more, and has no part in what is said.
#[test]
fn the_end_of_what_it_says_comes_at_once() {
    if !can_run("the_end_of_what_it_says_comes_at_once", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    let shortest = (0..10).map(|_| {
        let began = Instant::now();
        mount(&scratch, &[]);
        let took = began.elapsed();
        scratch.umount("mnt");
        took
    });
    let shortest = shortest.min().unwrap();
    assert!(shortest < Duration::from_millis(100), "{shortest:?}");
}

#[test]
fn a_log_file_takes_what_the_daemon_says() {
    if !can_run("a_log_file_takes_what_the_daemon_says", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    mount(&scratch, &["--log", "log"]);
    scratch.umount("mnt");
    let log = fs::read_to_string(scratch.path("log")).unwrap();
    assert!(log.contains("mounted") && log.contains("unmounted"), "{log:?}");
}

#[test]
fn it_answers_to_the_call_of_mount_8() {
    if !can_run("it_answers_to_the_call_of_mount_8", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    let layers = format!(
        "lowerdir={},upperdir={},workdir={},nosuid,noatime,nofail,_netdev,x-systemd.automount",
        scratch.path("image.sqfs").display(),
        scratch.path("upper").display(),
        scratch.path("work").display()
    );
    scratch.haosfs(&["none", "mnt", "-n", "-o", &layers, "-t", "fuse.haosfs"]).succeeded();
    let line = scratch.mountinfo("mnt").unwrap();
    assert!(line.contains(" rw,nosuid,noatime ") && line.contains(" - fuse.haosfs none rw,"), "{line:?}");
    scratch.umount("mnt");
    scratch.haosfs(&["image.sqfs", "mnt", "-f", "-o", "ro"]).succeeded();
    assert_eq!(scratch.mountinfo("mnt"), None, "-f mounts nothing");
}

#[test]
fn sloppy_mounts_pass_over_what_is_unknown() {
    if !can_run("sloppy_mounts_pass_over_what_is_unknown", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    let sloppy = ["image.sqfs", "mnt", "-s", "-f", "-N", "/proc/self/ns/mnt", "-o"];
    let finished = scratch.haosfs(&[&sloppy[..], &["ro,frobnicate,colour=red"]].concat());
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for name in ["frobnicate", "colour"] {
        assert!(finished.stderr.contains(&format!("unknown option {name} is passed over")), "{finished:?}");
    }
    scratch.haosfs(&[&sloppy[..], &["threads=none"]].concat()).failed(1, "option threads=none");
}
