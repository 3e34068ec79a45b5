//! `index=on`: hard links of a lower stay one file over copy-up and remounts, by the same bytes as the kernel's overlayfs writes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[path = "index/script.rs"]
mod script;
mod tree;

use std::fs::{self, create_dir};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch, open_temp_dir};
use mounted::union::{Driver, Lower, Union};
use rustix::fs::XattrFlags;
use script::{SCRIPTS, append, plant};
use tree::compare::{Tolerance, assert_same};
use tree::snapshot::{Seen, Snapshot};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// The kernel counts a merged directory's links as 1, and times are those of the run.
const TOLERANCE: Tolerance =
    Tolerance { nanoseconds: false, times: true, directory_links: true, xattrs: false, acls: true, hard_links: false };

fn show(union: &Union) -> Snapshot {
    Snapshot::read(union.path()).unwrap().without_root()
}

/// What lies in the upper and in the index, but for what is another for each upper, and how whiteouts share their inode.
fn written(home: &Path) -> [Snapshot; 2] {
    ["upper", "work/index"].map(|dir| {
        let mut all = Snapshot::read(&home.join(dir)).unwrap();
        all.names.retain(|name, _| !name.starts_with(b"#"));
        for (name, seen) in &mut all.names {
            seen.xattrs.retain(|name, _| ![".uuid", ".upper"].iter().any(|end| name.ends_with(end.as_bytes())));
            if seen.mode & libc::S_IFMT == libc::S_IFCHR && seen.rdev == 0 {
                *seen = Seen { nlink: 1, first_name: name.clone(), mode: libc::S_IFCHR, ..seen.clone() };
            }
        }
        all
    })
}

fn written_by(driver: Driver, lower: &Lower, homes: &Path, options: &[&str]) -> Union {
    let home = homes.join(driver.name());
    create_dir(&home).unwrap();
    let union = Union::with_options(driver, std::slice::from_ref(lower), &home, options);
    SCRIPTS.iter().for_each(|(name, script)| script(&union.path().join(name)));
    union
}

/// Both drivers write the same, show the same of their own and of each other's, and go on with it.
fn compare(lower: &Lower, homes: &Path, options: &[&str]) {
    let mut unions = [Driver::Kernel, Driver::Haosfs].map(|driver| written_by(driver, lower, homes, options));
    let what = format!("{lower:?} with {options:?}");
    for round in 0..3 {
        let [kernel, haosfs] = [&unions[0], &unions[1]].map(show);
        assert_same(&format!("shown over {what} in round {round}"), &kernel, &haosfs, TOLERANCE);
        unions.iter_mut().for_each(Union::unmount);
        let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| written(&homes.join(driver.name())));
        for ((kernel, haosfs), dir) in kernel.iter().zip(&haosfs).zip(["upper", "index"]) {
            assert_same(&format!("the {dir} over {what} in round {round}"), kernel, haosfs, TOLERANCE);
        }
        assert!(kernel[1].names.len() > SCRIPTS.len() / 2);
        unions.iter_mut().for_each(|union| {
            let next = if union.driver() == Driver::Kernel { Driver::Haosfs } else { Driver::Kernel };
            union.remount_by(next);
            for (name, _) in SCRIPTS {
                let two = union.path().join(name).join(if round == 0 { "two" } else { "d/three" });
                if two.exists() && *name != "removed_and_made_again" {
                    append(&two);
                }
            }
        });
    }
}

#[test]
fn images_give_the_kernel_s_bytes() {
    if can_run("images_give_the_kernel_s_bytes", NEEDS) {
        let ground = Ground::image(&["-exports"], plant);
        for options in [&["index=on"][..], &["index=on", "xino=on"], &["index=on", "redirect_dir=on"]] {
            compare(ground.lower(), open_temp_dir().path(), options);
        }
    }
}

#[test]
fn directories_give_the_kernel_s_bytes() {
    if !can_run("directories_give_the_kernel_s_bytes", NEEDS) {
        return;
    }
    for kind in Fs::ALL {
        let scratch = Scratch::new(kind);
        plant(&scratch.dir("tree"));
        let lower = Lower::Dir(scratch.path().join("tree"));
        compare(&lower, &scratch.dir("homes"), &["index=on"]);
        if kind == Fs::Ext4 {
            compare(&lower, &scratch.dir("unsigned"), &["index=on", "uuid=off"]);
        }
    }
}

#[test]
fn names_keep_their_number() {
    if !can_run("names_keep_their_number", NEEDS) {
        return;
    }
    let (image, directory) = (Ground::image(&["-exports"], plant), Ground::directory(plant));
    for ground in [image, directory] {
        let mut union = ground.mount(Driver::Haosfs, &["index=on"]);
        let names = ["write/one", "write/two", "write/d/three"];
        let all = |union: &Union| names.map(|name| fs::metadata(union.path().join(name)).unwrap().ino());
        let before = all(&union);
        append(union.path().join("write/two"));
        assert_eq!(all(&union), before);
        union.remount();
        for dir in ["write", "write/d"] {
            for entry in fs::read_dir(union.path().join(dir)).unwrap().map(Result::unwrap) {
                assert_eq!(entry.ino(), fs::symlink_metadata(entry.path()).unwrap().ino(), "{}", entry.path().display());
            }
        }
        assert_eq!(all(&union), before);
    }
}

/// What a mount that is refused says.
fn refusal(lower: &Lower, home: &Path, options: &str) -> String {
    let at = open_temp_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_haosfs"));
    command.arg("mount").arg(lower.path()).arg(at.path()).args(["-o", options]);
    let output = command.arg("--upper").arg(home.join("upper")).arg("--work").arg(home.join("work")).output().unwrap();
    if output.status.success() {
        drop(mounted::mount::Mount::adopt(at.path()));
    }
    assert_eq!(output.status.code(), Some(32), "{options}");
    String::from_utf8(output.stderr).unwrap()
}

/// True where the kernel mounts it.
fn kernel_takes(lower: &Path, home: &Path, options: &str) -> bool {
    let at = open_temp_dir();
    let [lower, upper, work] = [lower.to_path_buf(), home.join("upper"), home.join("work")].map(|dir| dir.display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},{options}");
    let output = Command::new("mount").args(["-t", "overlay", "union", "-o", &options]).arg(at.path()).output().unwrap();
    if output.status.success() {
        drop(mounted::mount::Mount::adopt(at.path()));
    }
    output.status.success()
}

#[test]
fn an_index_is_not_passed_over() {
    if !can_run("an_index_is_not_passed_over", NEEDS) {
        return;
    }
    let ground = Ground::image(&["-exports"], plant);
    let mut union = ground.mount(Driver::Kernel, &["index=on"]);
    append(union.path().join("write/one"));
    union.unmount();
    let said = refusal(ground.lower(), &ground.home(), "rw");
    assert!(said.contains("mount with -o index=on, or with -o index=off to let them part"), "{said}");
    let [kernel, haosfs] = [Driver::Kernel, Driver::Haosfs].map(|driver| show(&ground.mount(driver, &["index=off"])));
    assert_same("index=off", &kernel, &haosfs, TOLERANCE);
    assert_eq!(fs::read(ground.mount(Driver::Haosfs, &["index=on"]).path().join("write/two")).unwrap(), b"onemore");
}

#[test]
fn an_index_belongs_to_its_layers() {
    if !can_run("an_index_belongs_to_its_layers", NEEDS) {
        return;
    }
    let ground = Ground::directory(plant);
    for driver in [Driver::Kernel, Driver::Haosfs] {
        let home = open_temp_dir();
        let mut union = ground.mount_with(driver, home.path(), &["index=on"]);
        append(union.path().join("write/one"));
        union.unmount();
        let other = Ground::directory(plant);
        assert!(!kernel_takes(&other.tree(), home.path(), "index=on"));
        let said = refusal(other.lower(), home.path(), "index=on");
        assert!(said.contains("option index=on: the upper was written over another lower"), "{said}");
        let copy = open_temp_dir();
        run(Command::new("cp").arg("-a").arg(home.path().join(".")).arg(copy.path()));
        assert!(!kernel_takes(&ground.tree(), copy.path(), "index=on"));
        let said = refusal(ground.lower(), copy.path(), "index=on");
        assert!(said.contains("option index=on: the index beside its work directory is of another upper"), "{said}");
        assert!(kernel_takes(&ground.tree(), home.path(), "index=on"));
        let image = Ground::image(&["-no-exports"], plant);
        let said = refusal(image.lower(), open_home().path(), "index=on");
        assert!(said.contains("option index=on: needs root, and lowers that find their inodes by handles"), "{said}");
    }
}

fn open_home() -> tempfile::TempDir {
    let home = open_temp_dir();
    ["upper", "work"].iter().for_each(|dir| create_dir(home.path().join(dir)).unwrap());
    home
}

fn origin(path: &Path) -> Vec<u8> {
    let mut value = vec![0; 256];
    let len = rustix::fs::lgetxattr(path, "trusted.overlay.origin", value.as_mut_slice()).unwrap();
    value.truncate(len);
    value
}

/// Entries that crashes and changes behind the back leave.
#[test]
fn stale_entries_are_swept() {
    if !can_run("stale_entries_are_swept", NEEDS) {
        return;
    }
    let ground = Ground::directory(plant);
    let swept = [Driver::Kernel, Driver::Haosfs].map(|driver| {
        let home = open_temp_dir();
        let mut union = ground.mount_with(Driver::Kernel, home.path(), &["index=on"]);
        ["write/one", "attributes/one", "remove_one/one", "link/one"].iter().for_each(|name| append(union.path().join(name)));
        union.unmount();
        let index = home.path().join("work/index");
        let at = |name: &str| home.path().join("upper").join(name);
        let entry = |name: &str| {
            let ino = fs::metadata(at(name)).unwrap().ino();
            let mut all = fs::read_dir(&index).unwrap().map(Result::unwrap);
            all.find(|entry| entry.metadata().unwrap().ino() == ino).unwrap().path()
        };
        let (lost, orphan, alien) = (entry("write/one"), entry("attributes/one"), entry("remove_one/one"));
        rustix::fs::setxattr(&alien, "trusted.overlay.origin", &origin(&orphan), XattrFlags::empty()).unwrap();
        // Its file stands in the union by its other names.
        fs::remove_file(at("write/one")).unwrap();
        rustix::fs::setxattr(&orphan, "trusted.overlay.nlink", b"U-1", XattrFlags::empty()).unwrap();
        fs::remove_file(at("attributes/one")).unwrap();
        create_dir(index.join("#1")).unwrap();
        fs::write(index.join("#1/file"), b"").unwrap();
        union = ground.mount_with(driver, home.path(), &["index=on"]);
        let shown = show(&union);
        union.unmount();
        assert!(lost.exists() && !orphan.exists() && !alien.exists() && !index.join("#1").exists(), "{driver:?}");
        shown
    });
    assert_same("after sweeping", &swept[0], &swept[1], TOLERANCE);
}

/// An entry may be all there is of a changed file: it is not swept because its inode cannot be read just now.
#[test]
fn what_cannot_be_judged_is_not_swept() {
    if !can_run("what_cannot_be_judged_is_not_swept", NEEDS) {
        return;
    }
    let ground = Ground::image(&["-exports", "-noI"], plant);
    let mut union = ground.mount(Driver::Haosfs, &["index=on"]);
    append(union.path().join("write/one"));
    fs::remove_file(union.path().join("write/one")).unwrap();
    union.unmount();
    let sound = fs::read(ground.lower().path()).unwrap();
    let number = |at: usize| u64::from_le_bytes(*sound[at..].first_chunk().unwrap()) as usize;
    // The first block of the export table, behind its header: positions of inodes.
    let block = number(number(88));
    let header = u16::from_le_bytes(*sound[block..].first_chunk().unwrap());
    assert!(header & 0x8000 != 0, "it is stored");
    let mut damaged = sound.clone();
    damaged[block + 2..][..usize::from(header & 0x7fff)].fill(0xff);
    fs::write(ground.lower().path(), damaged).unwrap();
    let entries = || fs::read_dir(ground.home().join("work/index")).unwrap().count();
    let before = entries();
    let said = refusal(ground.lower(), &ground.home(), "index=on");
    assert!(said.contains("of its index is needed cannot be told now") && said.lines().count() == 1, "{said}");
    assert_eq!(entries(), before);
    fs::write(ground.lower().path(), sound).unwrap();
    assert_eq!(fs::read(ground.mount(Driver::Haosfs, &["index=on"]).path().join("write/two")).unwrap(), b"onemore");
}

/// A name of a changed hard link that cannot join it in the upper shows it all the same, and joins before it is needed.
#[test]
fn a_full_upper_hides_no_name() {
    if !can_run("a_full_upper_hides_no_name", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        plant(tree);
        (0..1000).for_each(|i| fs::hard_link(tree.join("link/one"), tree.join(format!("{}{i}", "n".repeat(240)))).unwrap());
    });
    let scratch = Scratch::with_size(Fs::Ext4, 8 << 20);
    let union = ground.mount_with(Driver::Haosfs, scratch.path(), &[]);
    append(union.path().join("link/one"));
    // What is reserved for later comes back when it is written.
    for filler in 0..4 {
        let full = fs::write(scratch.path().join(format!("filler{filler}")), vec![1; 8 << 20]);
        assert!(full.is_err());
        run(Command::new("sync").arg("-f").arg(scratch.path()));
    }
    let names = (0..1000).map(|i| union.path().join(format!("{}{i}", "n".repeat(240))));
    names.for_each(|name| assert_eq!(fs::read(&name).unwrap(), b"onemore", "{}", name.display()));
    let joined = fs::read_dir(union.upper()).unwrap().count();
    assert!((1..1000).contains(&joined), "{joined} names are in the upper");
}

/// Names of a few files come, go and are written to by many at once: what is left is whole, for the kernel too.
#[test]
fn crowds_leave_a_sound_index() {
    if !can_run("crowds_leave_a_sound_index", NEEDS) {
        return;
    }
    let ground = Ground::directory(|tree| {
        for dir in 0..4 {
            create_dir(tree.join(format!("d{dir}"))).unwrap();
        }
        for file in 0..40 {
            fs::write(tree.join(format!("d0/{file}")), format!("{file}")).unwrap();
            (1..4).for_each(|dir| fs::hard_link(tree.join(format!("d0/{file}")), tree.join(format!("d{dir}/{file}"))).unwrap());
        }
    });
    let mut union = ground.mount(Driver::Haosfs, &["index=on"]);
    let root = union.path().to_path_buf();
    let act = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        for step in 0..2000 {
            let file = step / 50;
            let mut name = || root.join(format!("d{}/{file}{}", rng.u8(0..4), if rng.bool() { "" } else { "-new" }));
            let (a, b) = (name(), name());
            // Whether it is there is a matter of luck.
            let _either_way = match rng.u8(0..6) {
                0 => fs::remove_file(&a),
                1 | 2 => fs::hard_link(&a, &b),
                3 => fs::rename(&a, &b),
                _ => fs::OpenOptions::new().append(true).open(&a).and_then(|mut file| std::io::Write::write_all(&mut file, b"x")),
            };
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|seed| drop(scope.spawn(move || act(seed)))));
    mounted::daemon::drop_caches();
    let left = show(&union);
    let files = left.names.iter().filter(|(_, seen)| seen.content.is_some());
    let mut names = std::collections::BTreeMap::new();
    files.clone().for_each(|(_, seen)| *names.entry(seen.first_name.clone()).or_insert(0) += 1);
    for (name, seen) in files {
        assert_eq!(seen.nlink, names[&seen.first_name], "{}", name.escape_ascii());
    }
    assert!(names.len() > 1);
    for driver in [Driver::Kernel, Driver::Haosfs] {
        union.remount_by(driver);
        assert_same(driver.name(), &left, &show(&union), TOLERANCE);
    }
}
