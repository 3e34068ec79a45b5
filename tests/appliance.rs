//! A mount by haos.ini on a real disk: the right image with its upper, by every backend.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[path = "backends/kernel.rs"]
mod kernel;
#[path = "appliance/machine.rs"]
mod machine;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use disk::{Disk, run};
use kernel::Lacking;
use machine::{Machine, architecture};
use support::{can_run, has_tool, is_root};
use tree::compare::{Tolerance, assert_same};

const BACKENDS: [&str; 3] = ["kernel", "fuse", "hybrid"];

/// At the same time, as who is refused waits a moment first.
fn each_backend(judge: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for backend in BACKENDS {
            let thread = std::thread::Builder::new().name(backend.to_owned());
            thread.spawn_scoped(scope, || judge(backend)).unwrap();
        }
    });
}

fn possible(test: &str, fs: &str) -> bool {
    let mkfs = format!("mkfs.{fs}");
    let tools = [&mkfs, "mkfs.ext4", "losetup", "partx", "mksquashfs"];
    let found = tools.into_iter().all(|tool| has_tool(tool) || Path::new("/usr/sbin").join(tool).exists());
    can_run(test, is_root() && found, &format!("needs root, losetup, partx, mksquashfs and {mkfs}"))
}

/// One round of what people and programs do to a system.
fn work(root: &Path, round: usize) {
    let at = |name: &str| root.join(name);
    fs::write(at(&format!("new-{round}")), vec![b'n'; round * 5000]).unwrap();
    fs::write(at(&format!("etc/conf.d/{round}")), "changed\n").unwrap();
    fs::remove_file(at(&format!("etc/conf.d/1{round}"))).unwrap();
    fs::create_dir(at(&format!("dir-{round}"))).unwrap();
    fs::rename(at(&format!("usr/lib/deep/er/{round}")), at(&format!("dir-{round}/moved"))).unwrap();
    symlink("moved", at(&format!("dir-{round}/link"))).unwrap();
    fs::hard_link(at(&format!("new-{round}")), at(&format!("dir-{round}/again"))).unwrap();
    chown(at(&format!("dir-{round}/moved")), Some(1000), Some(100)).unwrap();
    fs::set_permissions(at(&format!("usr/lib/deep/er/1{round}")), PermissionsExt::from_mode(0o4711)).unwrap();
    let (name, value) = (format!("user.round{round}"), b"v");
    rustix::fs::setxattr(at("usr/lib"), &*name, value, rustix::fs::XattrFlags::empty()).unwrap();
    if round == 2 {
        fs::remove_dir_all(at("usr/lib/deep")).unwrap();
        fs::create_dir_all(at("usr/lib/deep/er")).unwrap();
        for n in 0..20 {
            fs::write(at(&format!("usr/lib/deep/er/{n}")), "again").unwrap();
        }
    }
}

/// Six mounts, each by another backend than the one before: what one leaves is what the next shows.
fn backends_take_turns(test: &str, fs: &str) {
    if !possible(test, fs) {
        return;
    }
    let machine = Machine::with(fs);
    let mut before = None;
    for (round, backend) in BACKENDS.into_iter().cycle().take(6).enumerate() {
        machine.mount(&format!("backend={backend}")).succeeded();
        let line = machine.scratch.mountinfo("mnt").unwrap();
        assert!(line.contains(if backend == "fuse" { " - fuse.haosfs " } else { " - overlay " }), "{line}");
        let found = machine.seen();
        if let Some(before) = before {
            assert_same(&format!("{fs}, round {round}, {backend}"), &before, &found, Tolerance::default());
        }
        assert_eq!(fs::read_to_string(machine.scratch.path("mnt/etc/version")).unwrap(), "7.1.0.0");
        work(&machine.scratch.path("mnt"), round);
        before = Some(machine.seen());
        machine.umount();
        let kept = if backend == "fuse" { "fuse" } else { "kernel" };
        assert_eq!((machine.meta("backend").as_str(), machine.meta("clean").as_str()), (kept, "yes"));
    }
    machine.on_data(|data| {
        for name in ["haosfs/uppers", "haosfs/uppers/1"] {
            let mode = fs::metadata(data.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{fs}: nobody else gets at what is in {name}");
        }
    });
}

#[test]
fn backends_take_turns_on_ext4() {
    backends_take_turns("backends_take_turns_on_ext4", "ext4");
}

#[test]
fn backends_take_turns_on_btrfs() {
    backends_take_turns("backends_take_turns_on_btrfs", "btrfs");
}

#[test]
fn backends_take_turns_on_xfs() {
    backends_take_turns("backends_take_turns_on_xfs", "xfs");
}

#[test]
fn a_plain_umount_takes_everything_down() {
    if !possible("a_plain_umount_takes_everything_down", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for backend in BACKENDS {
        machine.mount(&format!("backend={backend}")).succeeded();
        fs::write(machine.scratch.path("mnt/new"), backend).unwrap();
        // A program that another test has just forked may have the file open still.
        let umount = || Command::new("umount").arg(machine.scratch.path("mnt")).output().unwrap().status.success();
        support::wait_until("it is unmounted", umount);
        support::wait_until("the daemon ends", || machine.scratch.daemons().is_empty());
        machine.assert_nothing_is_left();
        // Nobody of ours was there to note it when the kernel's union went.
        assert_eq!(machine.meta("clean"), if backend == "kernel" { "no" } else { "yes" });
    }
}

#[test]
fn a_daemon_that_died_leaves_nothing_either() {
    if !possible("a_daemon_that_died_leaves_nothing_either", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for backend in ["fuse", "hybrid"] {
        machine.mount(&format!("backend={backend}")).succeeded();
        fs::write(machine.scratch.path("mnt/new"), backend).unwrap();
        let [pid] = machine.scratch.daemons()[..] else { panic!("{:?}", machine.scratch.daemons()) };
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
        support::wait_until("the daemon ends", || machine.scratch.daemons().is_empty());
        machine.umount();
        assert_eq!(machine.meta("clean"), "no");
        machine.mount("backend=fuse").succeeded();
        assert_eq!(fs::read_to_string(machine.scratch.path("mnt/new")).unwrap(), backend);
        machine.umount();
        assert_eq!(machine.meta("clean"), "yes");
    }
}

#[test]
fn an_upper_in_use_is_not_taken_twice() {
    if !possible("an_upper_in_use_is_not_taken_twice", "ext4") {
        return;
    }
    each_backend(|first| {
        let machine = Machine::with("ext4");
        machine.scratch.mkdir("other");
        machine.mount(&format!("backend={first}")).succeeded();
        for second in BACKENDS {
            let option = format!("backend={second}");
            let again = machine.scratch.haosfs(&["mount", "system/haos.ini", "other", "-o", &option]);
            again.failed(32, "in use by");
            assert_eq!(machine.scratch.mountinfo("other"), None);
        }
        machine.mount("rw").failed(32, "is busy: it is already a haosfs mount");
        machine.umount();
        assert_eq!(machine.meta("clean"), "yes", "a refused mount changes nothing");
    });
}

/// Lazily unmounted, an overlay is in nobody's table of mounts, and writes all the same while a file of it is open.
#[test]
fn an_upper_in_use_out_of_sight_is_not_taken() {
    if !possible("an_upper_in_use_out_of_sight_is_not_taken", "ext4") {
        return;
    }
    each_backend(|backend| {
        let machine = Machine::with("ext4");
        for umount in [&["umount", "-l"][..], &[support::HAOSFS, "umount", "-l"]] {
            machine.mount(&format!("backend={backend}")).succeeded();
            let open = fs::File::create(machine.scratch.path("mnt/open")).unwrap();
            run(Command::new(umount[0]).args(&umount[1..]).arg(machine.scratch.path("mnt")));
            assert_eq!(machine.scratch.mountinfo("mnt"), None);
            for second in BACKENDS {
                machine.mount(&format!("backend={second}")).failed(32, "in use by");
            }
            drop(open);
            support::wait_until("the daemon ends", || machine.scratch.daemons().is_empty());
            machine.assert_nothing_is_left();
            assert_eq!(machine.meta("clean"), if backend == "kernel" { "no" } else { "yes" });
        }
    });
}

/// On older kernels, which take no directory of a mount that stands nowhere, and those without fsopen(2).
#[test]
fn an_upper_in_use_out_of_sight_is_not_taken_on_older_kernels() {
    if !possible("an_upper_in_use_out_of_sight_is_not_taken_on_older_kernels", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    let mount = |lacking: Lacking, backend: &str| {
        let line = ["mount", "system/haos.ini", "mnt", "-o", &format!("backend={backend}")];
        lacking.run(Command::new(support::HAOSFS).args(line).current_dir(machine.scratch.path("")))
    };
    let older = [
        (Lacking::Descriptors, "kernel"),
        (Lacking::Descriptors, "fuse"),
        (Lacking::Descriptors, "hybrid"),
        (Lacking::MountApi, "kernel"),
        (Lacking::MountApi, "fuse"),
    ];
    machine.mount("backend=kernel").succeeded();
    let open = fs::File::create(machine.scratch.path("mnt/open")).unwrap();
    run(Command::new("umount").arg("-l").arg(machine.scratch.path("mnt")));
    for (lacking, backend) in older {
        mount(lacking, backend).failed(32, "the upper is in use by the kernel's overlayfs, which is mounted out of sight");
        assert_eq!(machine.scratch.mountinfo("mnt"), None);
    }
    drop(open);
    machine.assert_nothing_is_left();
    for (lacking, backend) in older {
        mount(lacking, backend).succeeded();
        fs::write(machine.scratch.path("mnt/new"), backend).unwrap();
        machine.umount();
    }
}

/// The daemon below the kernel's overlayfs can be ended; what the kernel writes to goes on.
#[test]
fn ending_the_reader_does_not_end_the_writer() {
    if !possible("ending_the_reader_does_not_end_the_writer", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    machine.mount("backend=hybrid").succeeded();
    let open = fs::File::create(machine.scratch.path("mnt/open")).unwrap();
    let [pid] = machine.scratch.daemons()[..] else { panic!("{:?}", machine.scratch.daemons()) };
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    support::wait_until("the daemon ends", || machine.scratch.daemons().is_empty());
    machine.mount("backend=kernel").failed(32, "in use by");
    drop(open);
    machine.assert_nothing_is_left();
    assert_eq!(machine.meta("clean"), "no");
}

/// What a daemon that is ended leaves behind was written to until then.
#[test]
fn an_upper_that_is_in_use_to_the_end_is_not_noted_as_clean() {
    if !possible("an_upper_that_is_in_use_to_the_end_is_not_noted_as_clean", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for (is_in_use, clean) in [(true, "no"), (false, "yes")] {
        machine.mount("backend=fuse").succeeded();
        let open = is_in_use.then(|| fs::File::create(machine.scratch.path("mnt/open")).unwrap());
        let [pid] = machine.scratch.daemons()[..] else { panic!("{:?}", machine.scratch.daemons()) };
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
        support::wait_until("the daemon ends", || machine.scratch.daemons().is_empty());
        drop(open);
        machine.assert_nothing_is_left();
        assert_eq!(machine.meta("clean"), clean, "in use: {is_in_use}");
    }
}

/// Notes of root's are believed by root's umount.
#[test]
fn notes_are_written_by_their_owner_only() {
    if !possible("notes_are_written_by_their_owner_only", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for backend in BACKENDS {
        machine.mount(&format!("backend={backend}")).succeeded();
        let own = machine.image("7.1.0.0").into_os_string().into_string().unwrap();
        let notes = fs::read_dir("/run/haosfs").unwrap().map(|entry| entry.unwrap().path());
        let notes: Vec<_> = notes.filter(|note| fs::read(note).is_ok_and(|text| contains(&text, own.as_bytes()))).collect();
        let [note] = &notes[..] else { panic!("{notes:?}") };
        assert_eq!(fs::metadata(note).unwrap().permissions().mode() & 0o7777, 0o644);
        fs::set_permissions(note, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(!machine.scratch.haosfs(&["status"]).succeeded().stdout.contains(&own));
        fs::set_permissions(note, PermissionsExt::from_mode(0o644)).unwrap();
        machine.umount();
        assert!(!note.exists());
    }
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

#[test]
fn an_upper_in_use_is_not_repaired() {
    if !possible("an_upper_in_use_is_not_repaired", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for backend in BACKENDS {
        machine.mount(&format!("backend={backend}")).succeeded();
        machine.on_data(|data| {
            let at = |name: &str| data.join("haosfs/uppers/1").join(name).into_os_string().into_string().unwrap();
            machine.scratch.haosfs(&["check", "--repair", &at("upper"), &at("work")]).failed(8, "in use by");
        });
        machine.umount();
    }
}

/// Nobody has written to it yet, so nothing of it belongs to another image.
#[test]
fn an_untouched_generation_goes_with_any_image() {
    if !possible("an_untouched_generation_goes_with_any_image", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    machine.mount("backend=kernel,uid=5").failed(32, "only our daemon can show another owner");
    machine.configure(&format!("{{{}}},fs=ext4", machine.guid), "7.1.1.0");
    machine.mount("rw").succeeded();
    assert_eq!(fs::read_to_string(machine.scratch.path("mnt/etc/version")).unwrap(), "7.1.1.0");
    machine.umount();
    machine.configure(&format!("{{{}}},fs=ext4", machine.guid), "7.1.0.0");
    machine.mount("rw").failed(32, "made on haos-");
}

/// Even remounted, and by whichever backend.
#[test]
fn read_only_is_a_barrier() {
    if !possible("read_only_is_a_barrier", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for backend in BACKENDS {
        machine.mount(&format!("ro,backend={backend}")).succeeded();
        assert_eq!(fs::read_dir(machine.scratch.path("mnt")).unwrap().count(), 2);
        machine.umount();
    }
    assert!(!machine.on_data(|data| data.join("haosfs").exists()), "a look has made a generation");
    machine.mount("rw").succeeded();
    fs::write(machine.scratch.path("mnt/new"), "old").unwrap();
    fs::remove_dir_all(machine.scratch.path("mnt/usr")).unwrap();
    machine.umount();
    let before = machine.on_data(|data| tree::snapshot::Snapshot::read(&data.join("haosfs")).unwrap());
    for backend in BACKENDS {
        machine.mount(&format!("ro,backend={backend}")).succeeded();
        let mnt = machine.scratch.path("mnt");
        assert_eq!(fs::read_to_string(mnt.join("new")).unwrap(), "old");
        assert!(!mnt.join("usr").exists(), "a whiteout does not count");
        let _refused_or_without_effect = Command::new("mount").args(["-i", "-o", "remount,rw"]).arg(&mnt).output().unwrap();
        assert_eq!(fs::write(mnt.join("new"), "new").unwrap_err().raw_os_error(), Some(libc::EROFS), "{backend}");
        machine.umount();
    }
    let after = machine.on_data(|data| tree::snapshot::Snapshot::read(&data.join("haosfs")).unwrap());
    assert_same("the uppers", &before, &after, Tolerance::default());
}

#[test]
fn an_upper_belongs_to_its_image() {
    if !possible("an_upper_belongs_to_its_image", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    machine.mount("rw").succeeded();
    fs::write(machine.scratch.path("mnt/etc/conf.d/1"), "mine").unwrap();
    machine.umount();
    machine.configure(&format!("PARTUUID={}", machine.guid), "7.1.1.0");
    for backend in BACKENDS {
        let with = |more: &str| machine.mount(&format!("backend={backend}{more}"));
        with("").failed(32, "7.1.0.0.squashfs (version 7.1.0.0)");
        let finished = with(",stale=ro");
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(fs::read_to_string(machine.scratch.path("mnt/etc/version")).unwrap(), "7.1.1.0");
        assert_eq!(fs::read_to_string(machine.scratch.path("mnt/etc/conf.d/1")).unwrap(), "mine");
        assert_eq!(fs::write(machine.scratch.path("mnt/new"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        machine.umount();
        with(",stale=allow").succeeded();
        fs::write(machine.scratch.path("mnt/new"), "").unwrap();
        machine.umount();
        with("").failed(32, "stale=allow");
    }
    machine.configure(&format!("PARTUUID={}", machine.guid), "7.1.0.0");
    machine.mount("rw").succeeded();
    machine.umount();
}

/// What `haosfs status` says, in words and in JSON.
#[test]
fn status_says_what_is_mounted_and_why() {
    if !possible("status_says_what_is_mounted_and_why", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    let device = machine.disk.partition(2);
    for backend in BACKENDS {
        machine.mount(&format!("backend={backend}")).succeeded();
        let words = machine.scratch.haosfs(&["status", "mnt"]).succeeded().stdout;
        for line in [
            format!("  backend     {backend}: it was asked for\n"),
            format!("  lower       {}\n", machine.image("7.1.0.0").display()),
            format!("  upper       haosfs/uppers/1/upper on {} (ext4)\n", device.display()),
            format!("  generation  1, made on haos-{}_7.1.0.0.squashfs\n", architecture()),
        ] {
            assert!(words.contains(&line), "{line:?} is not in {words}");
        }
        assert_eq!(words.contains("  daemon      pid "), backend != "kernel", "{words}");
        let json = machine.scratch.haosfs(&["status", "--json", "mnt"]).succeeded().stdout;
        let told: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((told["backend"].as_str(), told["generation"]["number"].as_u64()), (Some(backend), Some(1)), "{json}");
        assert_eq!(told["generation"]["data"].as_str(), device.to_str(), "{json}");
        let (size, used) = (told["room"]["size"].as_u64().unwrap(), told["room"]["used"].as_u64().unwrap());
        assert!(used < size && size > 100 << 20, "{json}");
        machine.umount();
        machine.scratch.haosfs(&["status", "mnt"]).failed(1, "mnt is not a haosfs mount");
    }
}

#[test]
fn a_dry_run_makes_nothing() {
    if !possible("a_dry_run_makes_nothing", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    machine.scratch.haosfs(&["doctor", "system/haos.ini"]).succeeded();
    machine.scratch.haosfs(&["mount", "--dry-run", "system/haos.ini", "mnt"]).succeeded();
    machine.assert_nothing_is_left();
    assert!(!machine.on_data(|data| data.join("haosfs").exists()));
    machine.mount("rw").succeeded();
    machine.umount();
    let told = machine.scratch.haosfs(&["doctor", "system/haos.ini"]).succeeded().stdout;
    assert!(told.contains(&format!("generation  1 on {}", machine.disk.partition(2).display())), "{told}");
    assert!(told.contains("  upper       fit: whiteouts yes"), "{told}");
    machine.assert_nothing_is_left();
}

/// A kernel that has mount(2) only needs stages for the image, for the data partition and for the union.
#[test]
fn older_kernels_mount_by_configuration_too() {
    if !possible("older_kernels_mount_by_configuration_too", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for lacking in [Lacking::MountApi, Lacking::Descriptors] {
        for backend in ["kernel", "fuse"] {
            let line = ["mount", "-o", &format!("backend={backend}"), "system/haos.ini", "mnt"];
            lacking.run(Command::new(support::HAOSFS).args(line).current_dir(machine.scratch.path(""))).succeeded();
            fs::write(machine.scratch.path("mnt/new"), format!("{lacking:?} {backend}")).unwrap();
            machine.umount();
            assert_eq!(machine.meta("clean"), "yes");
        }
    }
}

#[test]
fn unfit_data_partitions_are_refused() {
    if !possible("unfit_data_partitions_are_refused", "vfat") {
        return;
    }
    let machine = Machine::with("ext4");
    let partition = machine.disk.partition(2);
    // Full: where large blocks do not fit any more, small ones still may.
    machine.on_data(|data| {
        let _until_full =
            Command::new("dd").args(["if=/dev/zero", "bs=1k", "status=none"]).arg(format!("of={}/fill", data.display())).output();
    });
    for backend in ["kernel", "fuse"] {
        machine.mount(&format!("backend={backend}")).failed(32, "No space left on device");
        machine.assert_nothing_is_left();
    }
    machine.on_data(|data| fs::remove_file(data.join("fill")).unwrap());
    machine.mount("rw").succeeded();
    machine.umount();
    // Read-only.
    run(Command::new("blockdev").arg("--setro").arg(&partition));
    for backend in ["kernel", "fuse"] {
        let refused = machine.mount(&format!("backend={backend}"));
        refused.failed(32, "ext4 cannot be mounted for writing");
        machine.assert_nothing_is_left();
    }
    run(Command::new("blockdev").arg("--setrw").arg(&partition));
    // Without owners, modes and attributes.
    disk::make("mkfs.vfat", &[], &partition);
    machine.configure(&format!("{{{}}}", machine.guid), "7.1.0.0");
    machine.mount("rw").failed(32, "vfat cannot hold an upper");
    machine.configure(&format!("{{{}}},fs=ext4", machine.guid), "7.1.0.0");
    machine.mount("rw").failed(32, "has the file system vfat, not ext4");
    machine.assert_nothing_is_left();
}

#[test]
fn what_is_not_right_is_named() {
    if !possible("what_is_not_right_is_named", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    for option in ["redirect_dir=on", "metacopy=on", "index=on", "uuid=on", "userxattr", "volatile"] {
        machine.mount(option).failed(32, &format!("option {option}: a haos.ini is mounted without it"));
    }
    machine.mount("uuid=auto").failed(32, "a haos.ini is mounted without it");
    machine.mount("offset=4096").failed(32, "option offset: haos.ini names the image");
    machine.mount("upperdir=/a,workdir=/b").failed(32, "names the data partition");
    machine.configure("{00000000-1111-2222-3333-444444444444},fs=ext4", "7.1.0.0");
    machine.mount("rw").failed(32, "no partition of this machine has it");
    fs::write(machine.ini(), "").unwrap();
    machine.mount("rw").failed(32, "haos.ini: it is empty");
    fs::write(machine.ini(), "[haos]\ndata_partition = /data\nsys").unwrap();
    machine.mount("rw").failed(32, "haos.ini:3: expected");
    machine.configure(&format!("{{{}}},fs=ext4", machine.guid), "7.9");
    machine.mount("rw").failed(32, "is not there: looked for");
    machine.assert_nothing_is_left();
}

#[test]
fn one_guid_on_two_disks_is_refused() {
    if !possible("one_guid_on_two_disks_is_refused", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    let copy = machine.scratch.path("copy");
    run(Command::new("cp").arg("--sparse=always").arg(machine.scratch.path("disk")).arg(&copy));
    let second = Disk::new(&copy, 2);
    let refused = machine.mount("rw");
    for device in [&machine.disk, &second] {
        assert!(refused.stderr.contains(&*device.partition(2).to_string_lossy()), "{refused:?}");
    }
    refused.failed(32, "2 partitions answer to it");
    drop(second);
    machine.mount("rw").succeeded();
    machine.umount();
}

/// An image that the kernel mounts and we do not read.
#[test]
fn an_image_of_another_format_is_mounted_too() {
    let has_erofs = has_tool("mkfs.erofs") || Path::new("/usr/sbin/mkfs.erofs").exists();
    if !can_run("an_image_of_another_format_is_mounted_too", has_erofs, "needs mkfs.erofs")
        || !possible("an_image_of_another_format_is_mounted_too", "ext4")
    {
        return;
    }
    let machine = Machine::with("ext4");
    for (name, content) in [("one", "1"), ("two", "2")] {
        let tree = machine.scratch.path(name);
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("content"), content).unwrap();
        let image = machine.scratch.path("system").join(name).with_extension("erofs");
        run(Command::new("mkfs.erofs").args(["--quiet"]).arg(image).arg(tree));
    }
    let choose = |name: &str| {
        let data = format!("data_partition = {{{}}},fs=ext4", machine.guid);
        fs::write(machine.ini(), format!("[haos]\n{data}\nsystem_image = {name}.erofs\n")).unwrap();
    };
    choose("one");
    for backend in ["kernel", "fuse"] {
        machine.mount(&format!("backend={backend}")).succeeded();
        assert_eq!(fs::read_to_string(machine.scratch.path("mnt/content")).unwrap(), "1");
        fs::write(machine.scratch.path("mnt").join(backend), "").unwrap();
        machine.umount();
    }
    choose("two");
    machine.mount("rw").failed(32, "upper generation 1 was made on one.erofs, and two.erofs is another image");
    choose("one");
    machine.mount("rw").succeeded();
    assert!(BACKENDS[..2].iter().all(|backend| machine.scratch.path("mnt").join(backend).exists()));
    machine.umount();
}

#[test]
fn without_a_configuration_the_newest_image_is_shown() {
    if !possible("without_a_configuration_the_newest_image_is_shown", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    fs::remove_file(machine.ini()).unwrap();
    fs::write(machine.image("9.9"), "torn").unwrap();
    for backend in ["kernel", "fuse"] {
        let finished = machine.mount(&format!("backend={backend}"));
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(fs::read_to_string(machine.scratch.path("mnt/etc/version")).unwrap(), "7.1.1.0");
        assert_eq!(fs::write(machine.scratch.path("mnt/new"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        machine.umount();
    }
}

/// A root needs the modules of the kernel that runs.
#[test]
fn a_root_goes_with_its_kernel() {
    if !possible("a_root_goes_with_its_kernel", "ext4") {
        return;
    }
    let machine = Machine::with("ext4");
    machine.scratch.mkdir("tree/lib/modules/1.2.3");
    let image = machine.scratch.path("system").join(format!("haos-{}_1.0.squashfs", architecture()));
    run(Command::new("mksquashfs").arg(machine.scratch.path("tree")).arg(&image).args(["-quiet", "-no-progress"]));
    machine.configure(&format!("{{{}}},fs=ext4", machine.guid), "1.0");
    machine.mount("rootfs").failed(32, "has modules for the kernel 1.2.3, but ");
    machine.mount("rootfs,kernel_check=off").succeeded();
    machine.umount();
    machine.mount("rw").succeeded();
    machine.umount();
}
