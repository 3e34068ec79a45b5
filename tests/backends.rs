//! The kernel's overlayfs in place of our daemon, wholly or above images that the daemon reads: what it needs from the kernel, and
//! what happens where the kernel lacks it.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "backends/kernel.rs"]
mod kernel;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use kernel::Lacking;
use support::{Finished, Scratch, can_run, has_tool, is_root, wait_until};
use tree::snapshot::Snapshot;

const ROOT: &str = "needs root";

fn tool_exists(name: &str) -> bool {
    has_tool(name) || Path::new("/usr/sbin").join(name).exists()
}

/// Loop devices of an image in the scratch directory.
fn loops(scratch: &Scratch, image: &str) -> String {
    let output = Command::new("losetup").arg("--associated").arg(scratch.path(image)).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn mount(scratch: &Scratch, lacking: Lacking, image: &str, options: &str) -> Finished {
    let line = ["mount", "-v", image, "mnt", "-o", options];
    lacking.run(Command::new(support::HAOSFS).args(line).current_dir(scratch.path("")))
}

fn take_down(scratch: &Scratch, image: &str) {
    scratch.umount("mnt");
    assert_eq!(scratch.mountinfo("mnt"), None);
    wait_until("the loop device goes", || loops(scratch, image).is_empty());
    assert_eq!(scratch.daemons(), [0; 0]);
}

/// Layers by descriptor, or by path on a stage where the kernel is older; the result is the same.
#[test]
fn older_kernels_get_layers_by_path() {
    if !can_run("older_kernels_get_layers_by_path", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("second");
    fs::write(scratch.path("second/below"), "").unwrap();
    let mut trees = Vec::new();
    for (lacking, backend) in [
        (Lacking::Nothing, "kernel"),
        (Lacking::Descriptors, "kernel"),
        (Lacking::MountApi, "kernel"),
        (Lacking::Nothing, "hybrid"),
        (Lacking::Descriptors, "hybrid"),
        (Lacking::Nothing, "fuse"),
    ] {
        for name in ["upper", "work"] {
            fs::remove_dir_all(scratch.path(name)).unwrap();
            scratch.mkdir(name);
        }
        let list = format!("lowerdir=image.sqfs:second,upperdir=upper,workdir=work,backend={backend},noatime,nosuid");
        let finished = mount(&scratch, lacking, "none", &list).succeeded();
        assert_eq!(finished.stdout, format!("haosfs: backend {backend}: it was asked for\n"));
        let line = scratch.mountinfo("mnt").unwrap();
        let kind = if backend == "fuse" { "fuse.haosfs" } else { "overlay" };
        assert!(line.contains(" rw,nosuid,noatime ") && line.contains(&format!(" - {kind} none ")), "{line}");
        fs::write(scratch.path("mnt/etc/config"), "changed").unwrap();
        fs::remove_file(scratch.path("mnt/hello")).unwrap();
        fs::remove_file(scratch.path("mnt/below")).unwrap();
        trees.push(names(&scratch.path("mnt")));
        take_down(&scratch, "image.sqfs");
        assert!(fs::symlink_metadata(scratch.path("upper/hello")).is_ok(), "no whiteout");
    }
    trees.iter().for_each(|tree| assert_eq!(*tree, trees[0]));
}

/// One that comes before the union is ready; or that has no effect, whenever it comes.
#[test]
fn a_signal_leaves_nothing_mounted_by_the_kernel() {
    if !can_run("a_signal_leaves_nothing_mounted_by_the_kernel", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    let mount = |option: &str| {
        let mount = "mount image.sqfs mnt --upper upper --work work --backend kernel";
        let line = [option, "--block-signal=TERM", "sh", "-c", &format!("kill -TERM $$; exec {} {mount}", support::HAOSFS)];
        Finished::from(Command::new("env").args(line).current_dir(scratch.path("")).output().unwrap())
    };
    mount("--default-signal=TERM").failed(8, "Interrupted system call");
    assert_eq!(scratch.mountinfo("mnt"), None);
    wait_until("the loop device goes", || loops(&scratch, "image.sqfs").is_empty());
    mount("--ignore-signal=TERM").succeeded();
    take_down(&scratch, "image.sqfs");
}

fn names(root: &Path) -> Vec<Vec<u8>> {
    Snapshot::read(root).unwrap().names.into_keys().collect()
}

#[test]
fn odd_names_of_layers_reach_older_kernels() {
    if !can_run("odd_names_of_layers_reach_older_kernels", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    for name in ["up,per: x\\y", "wo,rk"] {
        scratch.mkdir(name);
    }
    for lacking in [Lacking::Nothing, Lacking::Descriptors, Lacking::MountApi] {
        let line = ["mount", "image.sqfs", "mnt", "--upper", "up,per: x\\y", "--work", "wo,rk", "--backend", "kernel"];
        lacking.run(Command::new(support::HAOSFS).args(line).current_dir(scratch.path(""))).succeeded();
        let name = format!("{lacking:?}");
        fs::write(scratch.path("mnt").join(&name), "").unwrap();
        // The upper is known to be in use, whichever way the kernel was told of it.
        scratch.mkdir("other");
        let again = ["mount", "image.sqfs", "other", "--upper", "up,per: x\\y", "--work", "wo,rk"];
        scratch.haosfs(&again).failed(32, "in use by the kernel's overlayfs mounted at");
        take_down(&scratch, "image.sqfs");
        assert!(scratch.path("up,per: x\\y").join(name).exists());
    }
}

/// fsconfig(2) takes sources of at most 255 bytes, mount(2) longer ones.
#[test]
fn long_names_are_shown_in_full() {
    if !can_run("long_names_are_shown_in_full", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    let directory = "d".repeat(200);
    scratch.mkdir(&format!("{directory}/{directory}"));
    let image = format!("{directory}/{directory}/image.sqfs");
    fs::rename(scratch.path("image.sqfs"), scratch.path(&image)).unwrap();
    for backend in ["fuse", "hybrid", "kernel"] {
        mount(&scratch, Lacking::Nothing, &image, &format!("backend={backend},upperdir=upper,workdir=work")).succeeded();
        let line = scratch.mountinfo("mnt").unwrap();
        assert!(line.contains(&format!(" {} ", scratch.path(&image).display())), "{line}");
        assert_eq!(fs::read_to_string(scratch.path("mnt/hello")).unwrap(), "hello\n");
        take_down(&scratch, &image);
    }
}

/// What was noted of a union that umount(8) has taken away says nothing of an overlay that has its device number, and its source.
#[test]
fn an_overlay_of_others_is_theirs() {
    if !can_run("an_overlay_of_others_is_theirs", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    ["low", "copy"].into_iter().for_each(|name| scratch.mkdir(name));
    let notes_of = |name: &str| {
        let beginning = format!("/run/haosfs/{}.", scratch.mountinfo(name).unwrap().split(' ').nth(2).unwrap());
        let all = fs::read_dir("/run/haosfs").unwrap().map(|entry| entry.unwrap().path());
        (all.filter(|path| path.to_str().unwrap().starts_with(&beginning)).collect::<Vec<_>>(), beginning)
    };
    let kept = scratch.path("note");
    mount(&scratch, Lacking::Nothing, "none", "lowerdir=low,upperdir=upper,workdir=work,backend=kernel").succeeded();
    // A mount of another test that gets this number takes the note itself away.
    fs::copy(notes_of("mnt").0.pop().unwrap(), &kept).unwrap();
    scratch.run("mount", &["-o", "remount,ro,sync", "mnt"]);
    scratch.run("mount", &["--bind", "mnt", "copy"]).succeeded();
    scratch.haosfs(&["status", "copy"]).succeeded();
    scratch.run("umount", &["copy", "mnt"]).succeeded();
    let theirs = ["-t", "overlay", "none", "mnt", "-o", "lowerdir=low,upperdir=upper,workdir=work"];
    scratch.run("mount", &theirs).succeeded();
    let stale = format!("{}0.0", notes_of("mnt").1);
    fs::copy(&kept, &stale).unwrap();
    scratch.haosfs(&["status", "mnt"]).failed(1, "mnt is not a haosfs mount");
    scratch.haosfs(&["umount", "mnt"]).failed(32, "mnt is not a haosfs mount");
    scratch.haosfs(&["mount", "low", "mnt"]).succeeded();
    scratch.umount("mnt");
    fs::remove_file(stale).unwrap();
    scratch.run("umount", &["mnt"]).succeeded();
}

/// The kernel shows the paths that mount(2) was given: those of somebody who stood elsewhere.
#[test]
fn relative_paths_of_others_are_not_ours() {
    if !can_run("relative_paths_of_others_are_not_ours", is_root(), ROOT) {
        return;
    }
    let (here, there) = (Scratch::with_image(), Scratch::with_image());
    there.mkdir("low");
    // mount(8) makes paths absolute where it uses fsconfig(2), which it is not to.
    Lacking::MountApi.run(Command::new("mount").args(THEIRS).current_dir(there.path(""))).succeeded();
    let shown = there.mountinfo("mnt").unwrap();
    assert!(shown.contains("upperdir=upper,"), "{shown}");
    let own = ["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work"];
    here.haosfs(&own).succeeded();
    here.umount("mnt");
    here.haosfs(&["check", "upper", "work"]).succeeded();
    is_in_use(&there);
    there.run("umount", &["mnt"]).succeeded();
}

/// An overlay of others.
const THEIRS: [&str; 7] = ["-i", "-t", "overlay", "none", "mnt", "-o", "lowerdir=low,upperdir=upper,workdir=work"];

/// Nobody writes to an upper, or checks it, that the kernel's overlayfs has and the table of mounts does not tell of.
#[track_caller]
fn is_in_use(scratch: &Scratch) {
    scratch.mkdir("other");
    for backend in ["fuse", "kernel", "hybrid"] {
        let line = ["mount", "image.sqfs", "other", "--upper", "upper", "--work", "work", "--backend", backend];
        scratch.haosfs(&line).failed(32, "the upper is in use by the kernel's overlayfs, which is mounted out of sight");
        assert_eq!(scratch.mountinfo("other"), None);
    }
    scratch.haosfs(&["check", "upper", "work"]).failed(8, "the upper is in use by the kernel's overlayfs, which is mounted out");
}

/// Whoever is in it keeps an overlay that is mounted nowhere, or in another mount namespace only.
#[test]
fn uppers_in_use_out_of_sight_are_known() {
    if !can_run("uppers_in_use_out_of_sight_are_known", is_root(), ROOT) {
        return;
    }
    let theirs = format!("mount {}", THEIRS.join(" "));
    let lazily = format!("{theirs}; cd mnt; umount -l .; echo; cat; sleep 0.3");
    // The unions of other tests are not kept by it.
    let elsewhere = format!("umount -a -l -t fuse.haosfs,overlay || :; {theirs}; echo; cat; sleep 0.3");
    for (way, line) in [("lazily", ["sh", "-ec", &lazily].as_slice()), ("elsewhere", &["unshare", "-m", "sh", "-ec", &elsewhere])]
    {
        let scratch = Scratch::with_image();
        scratch.mkdir("low");
        let mut child = Command::new(line[0])
            .args(&line[1..])
            .current_dir(scratch.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = [0; 1];
        child.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
        assert_eq!(scratch.mountinfo("mnt"), None, "{way}");
        is_in_use(&scratch);
        // Who has it for a moment only is waited for.
        drop(child.stdin.take());
        scratch.haosfs(&["mount", "image.sqfs", "mnt", "--upper", "upper", "--work", "work"]).succeeded();
        assert!(child.wait().unwrap().success());
        scratch.umount("mnt");
    }
}

/// Whatever an overlay has in its work directory is on its way to its own upper: no other upper goes with it.
#[test]
fn a_work_directory_in_use_is_not_cleared() {
    if !can_run("a_work_directory_in_use_is_not_cleared", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    ["low", "up2", "other"].into_iter().for_each(|name| scratch.mkdir(name));
    let refused = |pairs: &[(&str, &str)], place: &str| {
        for &(upper, work) in pairs {
            let role = if upper == "up2" { "work directory" } else { "upper" };
            let words = format!("the {role} is in use by the kernel's overlayfs{place}");
            for backend in ["fuse", "kernel", "hybrid"] {
                let line = ["mount", "image.sqfs", "other", "--upper", upper, "--work", work, "--backend", backend];
                scratch.haosfs(&line).failed(32, &words);
                assert_eq!(scratch.mountinfo("other"), None);
            }
            scratch.haosfs(&["check", "--repair", upper, work]).failed(8, &words);
        }
        assert!(scratch.path("work/work/in-flight").exists(), "this was not ours to remove");
    };
    let [low, upper, work] = ["low", "upper", "work"].map(|name| scratch.path(name).display().to_string());
    let options = format!("lowerdir={low},upperdir={upper},workdir={work}");
    scratch.run("mount", &["-t", "overlay", "none", "mnt", "-o", &options]).succeeded();
    // As a copy-up that is not finished.
    fs::write(scratch.path("work/work/in-flight"), "").unwrap();
    refused(&[("up2", "work"), ("work", "up2"), ("up2", "upper")], " mounted at ");
    let open = fs::File::create(scratch.path("mnt/open")).unwrap();
    scratch.run("umount", &["-l", "mnt"]).succeeded();
    refused(&[("up2", "work")], ", which is mounted out of sight");
    drop(open);
    scratch.haosfs(&["mount", "image.sqfs", "mnt", "--upper", "up2", "--work", "work"]).succeeded();
    assert!(!scratch.path("work/work/in-flight").exists());
    scratch.umount("mnt");
}

/// Without an upper, the kernel wants a second layer, which must not show.
#[test]
fn an_image_alone_is_read_only() {
    if !can_run("an_image_alone_is_read_only", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    for (lacking, backend) in [
        (Lacking::Nothing, "kernel"),
        (Lacking::Descriptors, "kernel"),
        (Lacking::MountApi, "kernel"),
        (Lacking::Nothing, "hybrid"),
    ] {
        mount(&scratch, lacking, "image.sqfs", &format!("backend={backend}")).succeeded();
        let mut entries: Vec<_> = fs::read_dir(scratch.path("mnt")).unwrap().map(|e| e.unwrap().file_name()).collect();
        entries.sort();
        assert_eq!(entries, ["etc", "hello", "usr"]);
        assert_eq!(fs::write(scratch.path("mnt/new"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        take_down(&scratch, "image.sqfs");
    }
}

#[test]
fn the_kernel_is_taken_placeit_can() {
    if !can_run("the_kernel_is_taken_placeit_can", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    for (lacking, options, backend, words) in [
        (Lacking::Nothing, "backend=auto", "kernel", "the kernel has overlayfs and mounts the lower layers itself"),
        (Lacking::MountApi, "backend=auto", "kernel", "the kernel has overlayfs"),
        (Lacking::Loop, "backend=auto", "hybrid", "the kernel has overlayfs, but there are no loop devices"),
        (Lacking::Nothing, "backend=auto,uid=5,gid=5", "fuse", "uid="),
        (Lacking::Nothing, "rw", "fuse", "default"),
    ] {
        let finished = mount(&scratch, lacking, "image.sqfs", options).succeeded();
        assert!(finished.stdout.starts_with(&format!("haosfs: backend {backend}: ")), "{finished:?}");
        assert!(finished.stdout.contains(words), "{finished:?}");
        assert_eq!(fs::read_to_string(scratch.path("mnt/hello")).unwrap(), "hello\n");
        take_down(&scratch, "image.sqfs");
    }
    mount(&scratch, Lacking::Loop, "image.sqfs", "backend=kernel").failed(32, "option backend=kernel: there are no loop devices");
    mount(&scratch, Lacking::MountApi, "image.sqfs", "backend=hybrid").failed(32, "option backend=hybrid: fsopen(2)");
    let foreground = ["mount", "image.sqfs", "mnt", "-f", "-o", "backend=kernel"];
    scratch.haosfs(&foreground).failed(32, "option backend=kernel: --foreground asks for a daemon");
    assert_eq!(scratch.mountinfo("mnt"), None);
}

/// What the kernel mounts is a lower on its backend, and a directory to our daemon.
#[test]
fn images_of_other_formats() {
    let tools = ["mkfs.ext4", "mkfs.erofs"].into_iter().all(tool_exists);
    if !can_run("images_of_other_formats", is_root() && tools, "needs root, mkfs.ext4 and mkfs.erofs") {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("tree/d");
    fs::write(scratch.path("tree/d/file"), "content").unwrap();
    let run = |program: &str, line: &[&str]| {
        let output = Command::new(program).args(line).current_dir(scratch.path("")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run("truncate", &["-s", "8M", "ext4.img"]);
    run("mkfs.ext4", &["-q", "-d", "tree", "ext4.img"]);
    run("mkfs.erofs", &["--quiet", "erofs.img", "tree"]);
    for image in ["ext4.img", "erofs.img"] {
        for backend in ["kernel", "fuse", "auto"] {
            let options = format!("upperdir=upper,workdir=work,backend={backend}");
            mount(&scratch, Lacking::Nothing, image, &options).succeeded();
            assert_eq!(fs::read_to_string(scratch.path("mnt/d/file")).unwrap(), "content");
            fs::write(scratch.path("mnt/d/file"), "content").unwrap();
            take_down(&scratch, image);
        }
    }
    mount(&scratch, Lacking::Loop, "ext4.img", "backend=auto").failed(32, "there are no loop devices");
    let broken = fs::read(scratch.path("erofs.img")).unwrap();
    fs::write(scratch.path("torn.img"), &broken[..1200]).unwrap();
    mount(&scratch, Lacking::Nothing, "torn.img", "backend=kernel").failed(32, "the kernel's erofs does not mount");
}

/// Nobody is left holding the image when the kernel's own backend is refused after the image was mounted.
#[test]
fn a_refused_upper_leaves_nothing() {
    if !can_run("a_refused_upper_leaves_nothing", is_root(), ROOT) {
        return;
    }
    let scratch = Scratch::with_image();
    scratch.mkdir("shm");
    let ramfs = Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(scratch.path("shm")).status().unwrap();
    assert!(ramfs.success());
    for name in ["shm/upper", "shm/work"] {
        scratch.mkdir(name);
    }
    let options = "upperdir=shm/upper,workdir=shm/work,backend=kernel";
    mount(&scratch, Lacking::Nothing, "image.sqfs", options).failed(32, "the file system of the upper cannot hold");
    assert_eq!(scratch.mountinfo("mnt"), None);
    wait_until("the loop device goes", || loops(&scratch, "image.sqfs").is_empty());
}
