//! Mounting as an ordinary user: through fusermount3, and in a user namespace.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use support::{Scratch, can_run, has_tool, has_user_namespaces, is_root, wait_until};

/// Whether root has given everyone /dev/fuse, as distributions do.
fn device_is_open() -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata("/dev/fuse").is_ok_and(|m| m.permissions().mode() & 0o666 == 0o666)
}

#[test]
fn fusermount3_mounts_for_an_ordinary_user() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open();
    if !can_run("fusermount3_mounts_for_an_ordinary_user", possible, "needs root, fusermount3, setpriv and /dev/fuse 0666") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.give_to_nobody();
    for _ in 0..5 {
        scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work"]).succeeded();
        let line = scratch.mountinfo("mnt").unwrap();
        for part in ["nosuid,nodev", " - fuse.haosfs ", "user_id=65534", "default_permissions"] {
            assert!(line.contains(part), "{part:?} not in {line:?}");
        }
        assert!(!line.contains("allow_other"), "{line:?}");
        assert_eq!(scratch.as_nobody(&["cat", "mnt/hello"]).succeeded().stdout, "hello\n");
        scratch.haosfs_as_nobody(&["umount", "mnt"]).succeeded();
        assert_eq!(scratch.mountinfo("mnt"), None);
    }
}

#[test]
fn a_user_s_mount_in_use_is_busy_unless_detached() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open();
    if !can_run("a_user_s_mount_in_use_is_busy_unless_detached", possible, "needs root, fusermount3, setpriv and /dev/fuse 0666")
    {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.give_to_nobody();
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt"]).succeeded();
    let haosfs = scratch.public_haosfs();
    let script = format!("exec 5<mnt/hello; {haosfs} umount mnt; echo $?; {haosfs} umount -l mnt; echo $?; cat <&5");
    let finished = scratch.as_nobody(&["sh", "-c", &script]);
    assert_eq!(finished.stdout, "32\n0\nhello\n", "{finished:?}");
    assert!(finished.stderr.contains("mnt is busy: sh (pid "), "{finished:?}");
    assert_eq!(scratch.mountinfo("mnt"), None);
}

/// What the kernel keeps for root's daemon, it keeps for others' where they may make user namespaces.
#[test]
fn an_ordinary_user_s_blocks_are_kept_by_the_kernel() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open() && has_user_namespaces();
    let needs = "needs root, fusermount3, setpriv, /dev/fuse 0666 and user namespaces";
    if !can_run("an_ordinary_user_s_blocks_are_kept_by_the_kernel", possible, needs) {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("tree");
    let text: String = (0_u64..150_000).map(|n| format!("{n} {:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    fs::write(scratch.path("tree/long"), text).unwrap();
    scratch.run("mksquashfs", &["tree", "long.sqfs", "-quiet", "-no-progress"]).succeeded();
    scratch.give_to_nobody();
    let read = |file: &str| {
        let script = "for n in $(seq 0 499); do dd if=$0 bs=4096 skip=$((n * 211 % 800)) count=1 status=none; done | cksum";
        scratch.as_nobody(&["sh", "-c", script, file]).succeeded().stdout
    };
    let expected = read("tree/long");
    let mount = ["mount", "long.sqfs", "mnt", "--upper", "upper", "--work", "work", "-o", "data_cache=0"];
    wait_until("blocks are kept", || {
        scratch.haosfs_as_nobody(&mount).succeeded();
        // They come a moment after the mount.
        thread::sleep(Duration::from_millis(500));
        assert_eq!(read("mnt/long"), expected);
        let status = scratch.haosfs_as_nobody(&["status", "--json", "mnt"]).succeeded().stdout;
        scratch.haosfs_as_nobody(&["umount", "mnt"]).succeeded();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["blocks"]["found"].as_u64().unwrap() > 0
    });
}

/// A mount that goes, whatever becomes of the test.
struct Mounted<'a>(&'a Scratch, PathBuf);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        self.0.run("umount", &["--lazy", self.1.to_str().unwrap()]);
    }
}

/// The daemon of an ordinary user was in a mount namespace of its own for a moment, where everything was mounted, too.
#[test]
fn a_user_s_mount_keeps_no_other_one() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open() && has_user_namespaces();
    let needs = "needs root, fusermount3, setpriv, /dev/fuse 0666 and user namespaces";
    if !can_run("a_user_s_mount_keeps_no_other_one", possible, needs) {
        return;
    }
    let scratch = Scratch::with_image();
    // Below /dev, from where the daemon has its device.
    let at = tempfile::tempdir_in("/dev/shm").unwrap();
    let (disk, name) = (scratch.path("disk"), at.path().to_str().unwrap());
    fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
    scratch.run("mkfs.ext4", &["-q", "disk"]).succeeded();
    scratch.run("mount", &["-o", "loop", "disk", name]).succeeded();
    let mounted = Mounted(&scratch, at.path().to_owned());
    scratch.give_to_nobody();
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work"]).succeeded();
    drop(mounted);
    wait_until("the disk is let go", || scratch.run("losetup", &["-j", "disk"]).succeeded().stdout.is_empty());
    scratch.haosfs_as_nobody(&["umount", "mnt"]).succeeded();
}

/// Whether there are two processors, no halves of one, and both for us.
fn are_two() -> bool {
    let says = |file: &str, what: &[u8]| fs::read(Path::new("/sys/devices/system/cpu").join(file)).is_ok_and(|list| list == what);
    let usable = thread::available_parallelism().unwrap().get();
    usable == 2 && says("online", b"0-1\n") && says("cpu0/topology/thread_siblings_list", b"0\n")
}

/// The thread of a daemon that keeps a processor busy.
struct Beside(PathBuf);

impl Beside {
    /// The one of whatever serves `scratch`, if there is one.
    fn of(scratch: &Scratch) -> Option<Self> {
        let tasks =
            |pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(|task| Some(task.ok()?.path()));
        let is_it = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "beside\n");
        scratch.daemons().into_iter().flat_map(tasks).find(is_it).map(Self)
    }

    /// How long it was on a processor so far, and how often.
    fn runs(&self) -> (Duration, u64) {
        let line = fs::read_to_string(self.0.join("schedstat")).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        (Duration::from_nanos(numbers[0]), numbers[2])
    }

    /// Field 19 of proc_pid_stat(5).
    fn nice(&self) -> String {
        fs::read_to_string(self.0.join("stat")).unwrap().split(' ').nth(18).unwrap().to_owned()
    }

    /// Of the time that a program takes so much percent.
    fn share(&self, run: impl FnOnce()) -> u128 {
        let ((before, _), begun) = (self.runs(), Instant::now());
        run();
        (self.runs().0 - before).as_micros() * 100 / begun.elapsed().as_micros()
    }
}

/// Tests that want both processors.
static BOTH: Mutex<()> = Mutex::new(());

fn both() -> MutexGuard<'static, ()> {
    BOTH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who may not keep processors from halting answers where is asked, and sees to it that nobody moves.
#[test]
fn of_two_processors_the_other_one_is_kept_busy_in_a_user_s_burst() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open() && are_two();
    let needs = "needs root, fusermount3, setpriv, /dev/fuse 0666 and two processors";
    if !can_run("of_two_processors_the_other_one_is_kept_busy_in_a_user_s_burst", possible, needs) {
        return;
    }
    let (_turn, scratch) = (both(), Scratch::with_image());
    scratch.give_to_nobody();
    // Names that are not there, each a request.
    let ask = |name: &str| {
        let script = format!("seq -f mnt/{name}-%g 1 4000 | xargs ls 2>&1 | grep -c 'No such'");
        assert_eq!(scratch.as_nobody(&["sh", "-c", &script]).succeeded().stdout, "4000\n");
    };
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt", "-o", "cpu_latency=0"]).succeeded();
    // It gives itself its name.
    wait_until("there is a thread for it", || Beside::of(&scratch).is_some());
    let beside = Beside::of(&scratch).unwrap();
    let (mut round, mut shares) = (0, Vec::new());
    // Where others need the processors it gives way.
    wait_until("it stays awake in a burst", || {
        round += 1;
        shares.push(beside.share(|| ask(&round.to_string())));
        shares.iter().any(|&share| share >= 20)
    });
    assert_eq!(beside.nice(), "19");
    wait_until("it sleeps for a second when nobody asks", || {
        let before = beside.runs();
        thread::sleep(Duration::from_secs(1));
        beside.runs() == before
    });
    scratch.haosfs_as_nobody(&["umount", "mnt"]).succeeded();
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt", "-o", "cpu_latency=any"]).succeeded();
    ask("any");
    assert!(!scratch.daemons().is_empty() && Beside::of(&scratch).is_none());
    scratch.haosfs_as_nobody(&["umount", "mnt"]).succeeded();
}

/// While one reads files in order, the next ones are decompressed on the other processor.
#[test]
fn of_two_processors_the_other_one_decompresses_ahead() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open() && are_two();
    let needs = "needs root, fusermount3, setpriv, /dev/fuse 0666 and two processors";
    if !can_run("of_two_processors_the_other_one_decompresses_ahead", possible, needs) {
        return;
    }
    let (_turn, scratch) = (both(), Scratch::new());
    ["tree", "mnt"].iter().for_each(|name| scratch.mkdir(name));
    for file in 100..140_u64 {
        let text: String = (0..12_000_u64).map(|n| format!("{n} {:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15 + file))).collect();
        fs::write(scratch.path(&format!("tree/{file}")), text).unwrap();
    }
    scratch.run("mksquashfs", &["tree", "image.sqfs", "-quiet", "-no-progress"]).succeeded();
    scratch.give_to_nobody();
    // One process: names that are not there, for a burst, and between them half of the files.
    let script = "cat $(for n in $(seq 100 120); do seq -f mnt/absent-$n-%g 1 100; echo mnt/$n; done) 2>/dev/null | cksum";
    let decompressed = |latency: &str| {
        scratch.haosfs_as_nobody(&["mount", "image.sqfs", "mnt", "-o", latency]).succeeded();
        scratch.as_nobody(&["sh", "-c", script]).succeeded();
        let status = scratch.haosfs_as_nobody(&["status", "--json", "mnt"]).succeeded().stdout;
        scratch.haosfs_as_nobody(&["umount", "mnt"]).succeeded();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["blocks"]["decompressed"].as_u64().unwrap()
    };
    let before = decompressed("cpu_latency=any");
    // Where others need the processors it gives way.
    wait_until("something is decompressed ahead", || decompressed("cpu_latency=0") >= before + 3);
    assert_eq!(decompressed("cpu_latency=any"), before);
}

#[test]
fn a_signal_unmounts_through_fusermount3() {
    let possible = is_root() && has_tool("fusermount3") && has_tool("setpriv") && device_is_open();
    if !can_run("a_signal_unmounts_through_fusermount3", possible, "needs root, fusermount3, setpriv and /dev/fuse 0666") {
        return;
    }
    let scratch = Scratch::with_image();
    let mnt = scratch.path("mnt").into_os_string().into_string().unwrap();
    scratch.give_to_nobody();
    scratch.haosfs_as_nobody(&["mount", "image.sqfs", &mnt]).succeeded();
    let pid = rustix::process::Pid::from_raw(scratch.daemons()[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_until("the daemon ends", || scratch.daemons().is_empty());
    assert_eq!(scratch.mountinfo("mnt"), None);
}

#[test]
fn a_user_namespace_needs_no_helper() {
    let possible = has_user_namespaces() && device_is_open();
    if !can_run("a_user_namespace_needs_no_helper", possible, "needs root, user namespaces and /dev/fuse 0666") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.give_to_nobody();
    let haosfs = scratch.public_haosfs();
    let script = format!(
        "set -e\n{haosfs} mount image.sqfs mnt --upper upper --work work\ncat mnt/hello\n\
         grep -c \" $PWD/mnt .* - fuse.haosfs \" /proc/self/mountinfo\n{haosfs} umount mnt\n! grep \" $PWD/mnt \" /proc/self/mountinfo"
    );
    let finished = scratch.as_nobody(&["unshare", "-Urm", "sh", "-c", &script]).succeeded();
    assert_eq!(finished.stdout, "hello\n1\n");
}
