//! Little memory: what is read is right and what is written is there, and the daemon keeps to its bounds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use mounted::daemon::daemon;
use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::union::Driver;
use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes that all may have together: the daemon, who reads and writes, what they read, and who else wants memory.
const MOST: u64 = 160 << 20;
/// kB of the daemon, resident and anonymous.
const RESIDENT: u64 = 48 << 10;
const ANONYMOUS: u64 = 32 << 10;
const FILES: usize = 1200;

/// A control group for memory, by either version of the interface.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let name = format!("haosfs-test-{}", std::process::id());
        let old = Path::new("/sys/fs/cgroup/memory");
        let (dir, limit) = if old.join("memory.limit_in_bytes").exists() {
            (old.join(name), "memory.limit_in_bytes")
        } else {
            fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
            (Path::new("/sys/fs/cgroup").join(name), "memory.max")
        };
        fs::create_dir(&dir).unwrap();
        let group = Self(dir);
        fs::write(group.0.join(limit), MOST.to_string()).unwrap();
        group
    }

    fn members(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// A shell in it, which leads a group of processes.
    fn shell(&self, script: &str, dir: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg("-ec").arg(format!("echo $$ > {}\n{script}", self.members().display())).current_dir(dir).process_group(0);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was in it is about to end.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        eprintln!("{} stays", self.0.display());
    }
}

/// Ends with all its processes.
struct Hungry(Child);

impl Drop for Hungry {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.0);
        let _ended = kill_process_group(group, Signal::KILL);
        let _status = self.0.wait();
    }
}

/// Text that no two files share, and that compresses.
fn grow(tree: &Path) {
    for n in 0..FILES {
        let dir = tree.join(format!("{:02}", n / 40));
        fs::create_dir_all(&dir).unwrap();
        let line = format!("line of file {n} {:x}\n", n * 0x9e37_79b9);
        let lines = if n % 100 == 0 { 400_000 } else { 200 + n * 7 % 3000 };
        fs::write(dir.join(n.to_string()), line.repeat(lines)).unwrap();
    }
}

fn kilobytes(pid: Pid, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn output(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Names of one directory, kB that its nodes and one listing of it take, and who reads it at the same time.
const NAMES: usize = 60_000;
const ONE_LISTING: u64 = 42 << 10;
const READERS: usize = 8;

/// Those who come together list a directory once, not each for himself.
#[test]
fn readers_of_one_directory_share_its_listing() {
    let needs = [Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
    if !can_run("readers_of_one_directory_share_its_listing", &needs) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        fs::create_dir(tree.join("dir")).unwrap();
        (0..NAMES).for_each(|n| drop(fs::File::create_new(tree.join(format!("dir/a-name-of-some-length-{n}"))).unwrap()));
    });
    let union = ground.mount_with(Driver::Haosfs, &ground.home(), &[&format!("threads={READERS}")]);
    let (daemon, dir) = (daemon(union.path()).unwrap(), union.path().join("dir"));
    let (begins, done) = (Barrier::new(READERS), AtomicUsize::new(0));
    let most = thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                begins.wait();
                assert_eq!(fs::read_dir(&dir).unwrap().count(), NAMES);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut most = 0;
        while done.load(Ordering::Relaxed) < READERS {
            most = most.max(kilobytes(daemon, "RssAnon"));
            sleep(Duration::from_millis(1));
        }
        most
    });
    assert!(most <= ONE_LISTING, "{most} kB are anonymous");
}

#[test]
fn little_memory_makes_nothing_wrong() {
    let needs = [Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse, Requirement::Tool("stress-ng")];
    if !can_run("little_memory_makes_nothing_wrong", &needs) {
        return;
    }
    // The last to go: it can when nobody is in it.
    let group = Group::new();
    let ground = Ground::image(&[], grow);
    let union = ground.mount_with(Driver::Haosfs, &ground.home(), &[]);
    let daemon = daemon(union.path()).unwrap();
    fs::write(group.members(), daemon.as_raw_nonzero().to_string()).unwrap();
    let hungry = "exec stress-ng --quiet --vm 1 --vm-bytes 64M --vm-method flip --timeout 300";
    let hungry = Hungry(group.shell(hungry, Path::new("/")).stdout(Stdio::null()).spawn().unwrap());

    let sums = "find . -type f -print0 | xargs -0 -n 40 -P 4 sha256sum | sort";
    let mut outside = Command::new("sh");
    outside.arg("-ec").arg(sums).current_dir(ground.tree());
    let expected = output(outside);
    assert_eq!(expected.lines().count(), FILES);
    for turn in 0..2 {
        assert!(output(group.shell(sums, union.path())) == expected, "turn {turn}: what is read differs");
    }

    // Every third file is appended to, which copies it up, in the union and in the tree.
    let change = "for f in */*; do case $f in */*0|*/*3|*/*7) echo more >> $f;; esac; done; sync -f .";
    output(group.shell(change, union.path()));
    let mut outside = Command::new("sh");
    outside.arg("-ec").arg(format!("{change}; {sums}")).current_dir(ground.tree());
    let expected = output(outside);
    assert!(output(group.shell(sums, union.path())) == expected, "what was written differs");

    let (resident, anonymous) = (kilobytes(daemon, "VmHWM"), kilobytes(daemon, "RssAnon"));
    assert!(resident <= RESIDENT && anonymous <= ANONYMOUS, "{resident} kB are resident, {anonymous} of them anonymous");
    drop(hungry);
}
