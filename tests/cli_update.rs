//! `haosfs update`: stage, status, confirm, fail, rollback, gc, as people and programs see them.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/paused.rs"]
mod paused;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use haosfs::image::{Image, Options};
use haosfs::mount::image_choice::base_of;
use haosfs::sys::replace::Rights;
use haosfs::update::base::Base;
use haosfs::update::meta::Meta;
use haosfs::update::signature::{Manifest, paths};
use haosfs::update::uppers::Uppers;
use minisign::KeyPair;
use paused::Paused;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Finished, HAOSFS, Scratch, can_run, has_tool, is_root, pack};

const OLD: &str = "haos-x86_64_7.1.0.0.squashfs";
const NEW: &str = "haos-x86_64_7.1.1.0.squashfs";
const NEXT: &str = "haos-x86_64_7.1.2.0.squashfs";
/// What is kept of a log that is given.
const LOG: &str =
    "== haosfs: haos-x86_64_7.1.1.0.squashfs, attempt 1\nit went so well\nand then\n== haosfs: ended: no network \\\n";
const INI: &str =
    "# by hand\n[haos]\ndata_partition = ./data\nsystem_image = haos-x86_64_7.1.0.0.squashfs\n\n[network]\naddress = 192.0.2.7\n";

/// An appliance in `haos`, and a newer image beside it.
struct Appliance {
    scratch: Scratch,
}

impl Appliance {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.mkdir("haos/data");
        fs::write(scratch.path("haos/haos.ini"), INI).unwrap();
        pack(&scratch.path("haos").join(OLD));
        pack(&scratch.path(NEW));
        Self { scratch }
    }

    fn update(&self, arguments: &[&str]) -> Finished {
        let ini = ["--ini", "haos/haos.ini"];
        self.scratch.haosfs(&[&["update"], arguments, &ini].concat())
    }

    /// Generations that were made on images of these names; the first, on an image that is there, is in use.
    fn uppers(&self, names: &[&str]) -> Uppers {
        let data = self.scratch.path("haos/data");
        let image = self.scratch.path("haos").join(names[0]);
        let first = base_of(&Image::open(&image, &Options::default()).unwrap(), &image).unwrap();
        let rights = Rights { perm: 0o755, owner: None };
        let meta = |base| Meta { base, backend: None, parent: None, mounts: 0, parent_mounts: 0, clean: true, used: false };
        Uppers::create(&data, &meta(first), rights).unwrap();
        for name in &names[1..] {
            let base = Base { name: name.into(), version: None, size: 1, digest: [1; 32] };
            Uppers::open(&data).unwrap().unwrap().add(&meta(base), rights).unwrap();
        }
        Uppers::open(&data).unwrap().unwrap()
    }

    fn stage(&self, further: &[&str]) -> Finished {
        self.update(&[&["stage", NEW], further].concat())
    }

    fn ini(&self) -> String {
        fs::read_to_string(self.scratch.path("haos/haos.ini")).unwrap()
    }

    fn set(&self, what: &str) {
        self.scratch.haosfs(&["config", "set", "haos/haos.ini", what]).succeeded();
    }

    fn trials(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.scratch.path("haos/trial")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What the first boot of a trial does before it touches the image.
    fn first_attempt(&self) {
        let trial = self.scratch.path("haos/trial");
        fs::rename(trial.join(format!("{NEW}+3-0")), trial.join(format!("{NEW}+2-1"))).unwrap();
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.update(&["status", "--json"]).succeeded().stdout).unwrap()
    }

    fn state(&self) -> String {
        self.status()["state"].as_str().unwrap().to_owned()
    }
}

#[test]
fn an_image_is_staged_tried_and_confirmed() {
    let appliance = Appliance::new();
    assert_eq!(
        appliance.update(&["status"]).succeeded().stdout,
        format!("state           stable\nsystem image    {OLD}\nprevious image  none\nupdate image    none\n")
    );
    assert_eq!(appliance.trials(), [""; 0], "who only looks makes nothing");
    let shown = appliance.stage(&[]).succeeded().stdout;
    let staged = format!(
        "state           staged\nsystem image    {OLD}\nprevious image  none\nupdate image    {NEW}, not tried yet, 3 attempts\n"
    );
    assert_eq!(shown, staged);
    assert_eq!(fs::read(appliance.scratch.path("haos").join(NEW)).unwrap(), fs::read(appliance.scratch.path(NEW)).unwrap());
    assert_eq!(appliance.ini(), INI.replace("\n\n[net", &format!("\nupdate_image = {NEW}\n\n[net")));
    assert_eq!(appliance.trials(), [format!("{NEW}+3-0")]);
    let ini = appliance.ini();
    assert_eq!(appliance.stage(&[]).succeeded().stdout, staged);
    assert_eq!((appliance.ini(), appliance.trials()), (ini, vec![format!("{NEW}+3-0")]), "staging twice changes nothing");
    appliance.update(&["confirm"]).failed(5, "was not booted yet");
    appliance.first_attempt();
    assert_eq!(appliance.status()["attempts_left"], 2);
    appliance.stage(&[]).succeeded();
    assert_eq!(appliance.trials(), [format!("{NEW}+2-1")], "staging does not renew attempts");
    appliance.update(&["confirm"]).failed(5, "has left no word of what is running");
    for _ in 0..2 {
        let shown = appliance.update(&["confirm", "--unrecorded"]).succeeded().stdout;
        assert_eq!(
            shown,
            format!("state           stable\nsystem image    {NEW}\nprevious image  {OLD}\nupdate image    none\n")
        );
        let expected = INI.replace(OLD, NEW).replace("\n\n[net", &format!("\nprevious_image = {OLD}\n\n[net"));
        assert_eq!((appliance.ini(), appliance.trials()), (expected, vec![]));
    }
    appliance.update(&["rollback"]).succeeded_saying_of_boot(OLD);
    assert_eq!(
        appliance.status(),
        json!({
            "format": 1,
            "file": appliance.scratch.path("haos/haos.ini"),
            "state": "stable",
            "system_image": OLD,
            "previous_image": null,
            "update_image": null,
            "attempts_left": null,
            "attempts_made": null,
            "failed_image": NEW,
            "failed_reason": "it was rolled back on request",
            "failed_log": null,
        })
    );
    appliance.update(&["rollback"]).failed(5, "no image before");
}

trait Boots {
    fn succeeded_saying_of_boot(self, image: &str);
}

impl Boots for Finished {
    /// One line of the log says which image follows.
    #[track_caller]
    fn succeeded_saying_of_boot(self, image: &str) {
        assert_eq!((self.code, self.stderr.lines().count()), (Some(0), 1), "{self:?}");
        assert!(self.stderr.contains(&format!("boot once more: {image} follows")), "{self:?}");
    }
}

#[test]
fn an_image_that_fails_is_remembered() {
    let appliance = Appliance::new();
    appliance.update(&["fail", "--reason", "x"]).failed(5, "no image is tried");
    appliance.stage(&[]).succeeded();
    appliance.first_attempt();
    fs::write(appliance.scratch.path("log"), "it went so well\nand then\n").unwrap();
    let fail = ["fail", "--reason", " no\nnetwork \\", "--log", "log"];
    appliance.update(&fail).succeeded_saying_of_boot(OLD);
    let status = appliance.status();
    assert_eq!((&status["state"], &status["failed_reason"]), (&"rolled-back".into(), &"no network".into()));
    assert_eq!(fs::read_to_string(status["failed_log"].as_str().unwrap()).unwrap(), LOG);
    appliance.update(&["rollback"]).failed(5, "was left already, and haos-x86_64_7.1.0.0.squashfs has not been confirmed since");
    let (ini, trials) = (appliance.ini(), appliance.trials());
    assert!(
        ini.contains(&format!("failed_image = {NEW}\nfailed_reason = no network\n")) && !ini.contains("update_image"),
        "{ini}"
    );
    appliance.update(&["fail", "--reason", "y"]).succeeded();
    assert_eq!((appliance.ini(), appliance.trials()), (ini, trials), "failing twice changes nothing");
    let shown = appliance.update(&["confirm"]).succeeded().stdout;
    assert!(
        shown.starts_with("state           stable\n") && shown.contains(&format!("failed image    {NEW}: no network\n")),
        "{shown}"
    );
    assert_eq!(appliance.trials(), [""; 0]);
    let ini = appliance.ini();
    appliance.update(&["fail", "--reason", "y"]).failed(5, "no image is tried");
    assert_eq!(appliance.ini(), ini);
    appliance.stage(&[]).failed(3, "has failed: no network; --again tries it once more");
    appliance.set(&format!("failed_image=images/{NEW}"));
    appliance.stage(&[]).failed(3, "has failed: no network");
    appliance.set(&format!("failed_image={NEW}"));
    appliance.set(&format!("update_image={NEW}"));
    let checked = appliance.scratch.haosfs(&["config", "check", "haos/haos.ini"]).stdout;
    assert!(checked.contains("update_image: it has failed, and is not tried again"), "{checked}");
    assert_eq!(appliance.state(), "stable", "haos.ini alone does not have it tried again");
    appliance.stage(&["--again"]).succeeded();
    assert_eq!((appliance.state(), appliance.status()["failed_image"].clone()), ("staged".to_owned(), Value::Null));
    appliance.update(&["rollback"]).succeeded();
    assert_eq!((appliance.state(), appliance.trials()), ("stable".to_owned(), Vec::new()));
}

#[test]
fn haos_ini_alone_has_an_image_tried() {
    let appliance = Appliance::new();
    appliance.set(&format!("update_image={NEW}"));
    appliance.set("update.tries=7");
    assert_eq!((appliance.state(), appliance.status()["attempts_left"].clone()), ("staged".to_owned(), 7.into()));
    appliance.set("update.tries=many");
    appliance.update(&["status"]).failed(1, "tries: many: expected a number from 1 to 20");
    let finished = appliance.scratch.haosfs(&["config", "check", "haos/haos.ini"]);
    assert!(finished.stdout.contains("error: haos/haos.ini:11: tries: many: expected"), "{finished:?}");
}

#[test]
fn a_bad_image_is_refused_and_nothing_is_left() {
    let appliance = Appliance::new();
    let image = appliance.scratch.path(NEW);
    let digest = |path: &Path| Sha256::digest(fs::read(path).unwrap()).iter().map(|b| format!("{b:02X}")).collect::<String>();
    let right = digest(&image);
    let unchanged = |when: &str| {
        assert_eq!((appliance.ini().as_str(), appliance.trials()), (INI, vec![]), "{when}");
        let mut names: Vec<_> =
            fs::read_dir(appliance.scratch.path("haos")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["data", OLD, "haos.ini", "trial"], "{when}");
    };
    appliance.stage(&["--sha256", &"0".repeat(64)]).failed(3, "its SHA-256 is ");
    unchanged("another digest");
    appliance.stage(&["--sha256", "0"]).failed(1, "--sha256 0: expected 64 hexadecimal digits");
    let bytes = fs::read(&image).unwrap();
    for (what, damaged) in [("cut off", bytes[..200].to_vec()), ("empty", vec![]), ("no image", vec![b'x'; 9000])] {
        fs::write(&image, damaged).unwrap();
        let finished = appliance.stage(&[]);
        assert_eq!(finished.code, Some(3), "{what}: {finished:?}");
        unchanged(what);
    }
    fs::write(&image, &bytes).unwrap();
    appliance.update(&["stage", "absent"]).failed(1, "open absent");
    appliance.update(&["stage", "haos"]).failed(1, "haos is not a regular file");
    fs::copy(&image, appliance.scratch.path(OLD)).unwrap();
    appliance.update(&["stage", OLD]).failed(1, "is the system image; it is not replaced");
    appliance.update(&["stage", &format!("haos/{OLD}")]).failed(1, "is the system image");
    unchanged("other refusals");
    appliance.stage(&["--sha256", &right]).succeeded();
    fs::File::options().append(true).open(&image).unwrap().write_all(&[0]).unwrap();
    appliance.stage(&[]).failed(1, "another image is staged as");
}

#[test]
fn an_image_in_its_place_is_checked_there() {
    let appliance = Appliance::new();
    appliance.scratch.mkdir("haos/images");
    fs::rename(appliance.scratch.path(NEW), appliance.scratch.path("haos/images").join(NEW)).unwrap();
    let path = format!("haos/images/{NEW}");
    appliance.update(&["stage", &path, "--sha256", &"1".repeat(64)]).failed(3, "its SHA-256");
    assert!(appliance.scratch.path(&path).exists());
    // As long as somebody checks it there, nobody else does, or takes it away.
    let checked = fs::File::open(appliance.scratch.path(&path)).unwrap();
    checked.lock().unwrap();
    appliance.update(&["stage", &path]).failed(1, "another update is being seen to there");
    assert!(!appliance.update(&["gc"]).succeeded().stdout.contains(NEW));
    drop(checked);
    appliance.update(&["stage", &path]).succeeded();
    assert_eq!(appliance.state(), "staged");
    pack(&appliance.scratch.path("haos-x86_64_8.0.squashfs"));
    appliance.update(&["stage", "haos-x86_64_8.0.squashfs"]).succeeded();
    assert!(appliance.scratch.path("haos/images/haos-x86_64_8.0.squashfs").exists());
    assert_eq!(appliance.trials(), ["haos-x86_64_8.0.squashfs+3-0"]);
}

#[test]
fn only_a_signed_image_is_trusted_where_that_is_asked_for() {
    let appliance = Appliance::new();
    let (image, keys, others) = (
        appliance.scratch.path(NEW),
        KeyPair::generate_unencrypted_keypair().unwrap(),
        KeyPair::generate_unencrypted_keypair().unwrap(),
    );
    let [manifest, signature] = paths(&image);
    let sign = |keys: &KeyPair, change: fn(Manifest) -> Manifest| sign(keys, &image, change);
    let (key, other) = (keys.pk.to_base64(), others.pk.to_base64());
    appliance.set("update.public_key=RWQnonsense");
    appliance.stage(&[]).failed(1, "no public key of minisign");
    let checked = appliance.scratch.haosfs(&["config", "check", "haos/haos.ini"]);
    assert!(checked.code == Some(1) && checked.stdout.contains("public_key: RWQnonsense"), "{checked:?}");
    appliance.set(&format!("update.public_key={key}"));
    appliance.stage(&[]).failed(3, "is not signed");
    sign(&others, |manifest| manifest);
    appliance.stage(&[]).failed(3, "does not sign");
    sign(&keys, |manifest| Manifest { sha256: [1; 32], ..manifest });
    appliance.stage(&[]).failed(3, "its manifest says 0101");
    sign(&keys, |manifest| Manifest { size: manifest.size + 1, ..manifest });
    appliance.stage(&[]).failed(3, "its manifest says");
    sign(&keys, |manifest| Manifest { name: OLD.into(), ..manifest });
    appliance.stage(&[]).failed(3, "it is about");
    sign(&keys, |manifest| manifest);
    appliance.stage(&["--key", &other]).failed(3, "does not sign");
    assert!(!appliance.scratch.path("haos").join(NEW).exists());
    appliance.stage(&["--key", &key]).succeeded();
    assert_eq!(appliance.state(), "staged");
    let there = |path: &Path| fs::read(appliance.scratch.path("haos").join(path.file_name().unwrap())).unwrap();
    [manifest, signature].iter().for_each(|path| assert_eq!(there(path), fs::read(path).unwrap(), "it can be checked again"));
}

#[test]
fn room_is_looked_for_before_anything_is_copied() {
    if !can_run("room_is_looked_for_before_anything_is_copied", is_root(), "needs root") {
        return;
    }
    let appliance = Appliance::new();
    appliance.scratch.mkdir("small");
    let small = appliance.scratch.path("small");
    assert!(appliance.scratch.run("mount", &["-t", "tmpfs", "-o", "size=4m", "none", "small"]).code == Some(0));
    fs::copy(appliance.scratch.path("haos").join(OLD), small.join(OLD)).unwrap();
    fs::write(small.join("haos.ini"), INI).unwrap();
    let big = appliance.scratch.path("haos-x86_64_9.0.squashfs");
    fs::copy(appliance.scratch.path(NEW), &big).unwrap();
    fs::File::options().write(true).open(&big).unwrap().set_len(4 << 20).unwrap();
    let stage = ["update", "stage", "haos-x86_64_9.0.squashfs", "--ini", "small/haos.ini"];
    appliance.scratch.haosfs(&stage).failed(4, "and 5 MiB are needed; `haosfs update gc` removes");
    assert!(!small.join("haos-x86_64_9.0.squashfs").exists() && !small.join(".haos-x86_64_9.0.squashfs.part").exists());
}

#[test]
fn gc_keeps_what_is_needed() {
    let appliance = Appliance::new();
    let home = appliance.scratch.path("haos");
    let image = |version: &str| format!("haos-x86_64_{version}.squashfs");
    for version in ["5.0", "6.0", "6.5", "7.0", "8.0", "9.0"] {
        pack(&home.join(image(version)));
    }
    fs::write(home.join(format!("{}.manifest", image("5.0"))), "x").unwrap();
    fs::write(home.join(format!(".{}.part", image("9.9"))), "x").unwrap();
    for other in ["haos-s390x_1.0.squashfs", "notes.squashfs"] {
        fs::write(home.join(other), "x").unwrap();
    }
    let keys = [format!("previous_image={}", image("7.0")), format!("update_image={}", image("8.0"))];
    keys.iter().for_each(|key| appliance.set(key));
    appliance.set(&format!("update.pinned={}, {}", image("6.0"), image("1.0")));
    let gone = [format!(".{}.part", image("9.9")), image("5.0"), image("6.5"), image("9.0")];
    let dry = appliance.update(&["gc", "--dry-run"]).succeeded().stdout;
    gone.iter().for_each(|name| assert!(dry.contains(&format!("would go  {}", home.join(name).display())), "{dry}"));
    assert!(dry.contains(&format!("kept      {} (previous image)", home.join(image("7.0")).display())), "{dry}");
    assert!(home.join(image("5.0")).exists());
    let told: Value = serde_json::from_str(&appliance.update(&["gc", "--json"]).succeeded().stdout).unwrap();
    assert_eq!(told["removed"], json!(gone.map(|name| home.join(name))));
    let mut names: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains("haos-") || name.contains("notes"));
    names.sort();
    let mut kept =
        [image("6.0"), image("7.0"), image("7.1.0.0"), image("8.0"), "haos-s390x_1.0.squashfs".into(), "notes.squashfs".into()];
    kept.sort();
    assert_eq!(names, kept);
    fs::write(home.join(OLD), "torn").unwrap();
    pack(&home.join(image("5.0")));
    appliance.update(&["gc"]).failed(1, "nothing is removed, because the system image is not sound");
    assert!(home.join(image("5.0")).exists());
}

/// Whichever way haos.ini names it.
#[test]
fn gc_knows_an_image_by_another_path() {
    let appliance = Appliance::new();
    let (home, elsewhere) = (appliance.scratch.path("haos"), appliance.scratch.path("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, home.join("images")).unwrap();
    for version in ["8.0", "7.5", "6.0"] {
        pack(&elsewhere.join(format!("haos-x86_64_{version}.squashfs")));
    }
    // By the directory's own name, and by a link beside haos.ini.
    symlink(elsewhere.join("haos-x86_64_7.5.squashfs"), home.join("before.squashfs")).unwrap();
    appliance.set(&format!("system_image={}", elsewhere.join("haos-x86_64_8.0.squashfs").display()));
    appliance.set("previous_image=before.squashfs");
    appliance.update(&["gc"]).succeeded();
    let there = |version: &str| elsewhere.join(format!("haos-x86_64_{version}.squashfs")).exists();
    assert_eq!([there("8.0"), there("7.5"), there("6.0")], [true, true, false]);
}

/// Who could not read the image, or the configuration, cannot read a copy or a log of it.
#[test]
fn what_is_staged_is_shown_to_nobody_else() {
    let appliance = Appliance::new();
    let mode = |path: &str| fs::metadata(appliance.scratch.path("haos").join(path)).unwrap().permissions().mode() & 0o777;
    for readable in [NEW, "haos/haos.ini"] {
        fs::set_permissions(appliance.scratch.path(readable), fs::Permissions::from_mode(0o644)).unwrap();
    }
    appliance.stage(&[]).succeeded();
    assert_eq!(mode(NEW), 0o644);
    appliance.update(&["rollback"]).succeeded();
    fs::set_permissions(appliance.scratch.path(NEW), fs::Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(appliance.scratch.path("haos").join(NEW)).unwrap();
    appliance.stage(&[]).succeeded();
    assert_eq!(mode(NEW), 0o640);
    appliance.first_attempt();
    fs::write(appliance.scratch.path("log"), "secret").unwrap();
    appliance.update(&["fail", "--reason", "x", "--log", "log"]).succeeded_saying_of_boot(OLD);
    assert_eq!(mode(&format!("logs/{NEW}-1.log")), 0o600);
}

#[test]
fn one_update_at_a_time() {
    let appliance = Appliance::new();
    appliance.scratch.mkdir("haos/trial");
    let held = fs::File::open(appliance.scratch.path("haos/trial")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for command in [&["stage", NEW][..], &["confirm"], &["fail", "--reason", "x"], &["rollback"], &["gc"]] {
        appliance.update(command).failed(1, "another update is being seen to");
    }
    appliance.update(&["status"]).succeeded();
    drop(held);
    fs::remove_file(appliance.scratch.path("haos/haos.ini")).unwrap();
    appliance.update(&["status"]).failed(1, "nothing is configured");
    appliance.stage(&[]).failed(1, "nothing is configured");
}

/// Copying an image takes minutes where a disk is slow; a trial that works must be confirmed meanwhile.
#[test]
fn an_image_is_confirmed_while_the_next_is_copied() {
    if !can_pack_large("an_image_is_confirmed_while_the_next_is_copied") {
        return;
    }
    let appliance = Appliance::new();
    appliance.stage(&[]).succeeded();
    appliance.first_attempt();
    pack_large(&appliance.scratch, NEXT);
    let mut stage = Command::new(HAOSFS);
    stage.args(["update", "stage", NEXT, "--ini", "haos/haos.ini"]).current_dir(appliance.scratch.path(""));
    let copying = Paused::where_it_copies(stage, &appliance.scratch.path(&format!("haos/.{NEXT}.part")));
    appliance.update(&["stage", NEXT]).failed(1, "another update is being copied there");
    let removed = appliance.update(&["gc"]).succeeded().stdout;
    assert!(!removed.contains(".part"), "{removed}");
    appliance.update(&["confirm", "--unrecorded"]).succeeded();
    copying.goes_on();
    let status = appliance.status();
    assert_eq!([&status["system_image"], &status["update_image"], &status["state"]], [NEW, NEXT, "staged"]);
    assert!(!appliance.scratch.path(&format!("haos/.{NEXT}.part")).exists());
    // What nobody is copying any more is taken away.
    fs::write(appliance.scratch.path(&format!("haos/.{NEXT}.part")), "").unwrap();
    assert!(appliance.update(&["gc"]).succeeded().stdout.contains(".part"));
}

/// The files of an upper may be many.
#[test]
fn an_image_is_confirmed_while_uppers_are_removed() {
    if !can_run("an_image_is_confirmed_while_uppers_are_removed", is_root(), "needs root") {
        return;
    }
    let appliance = Appliance::new();
    // So many files are made soon there.
    assert!(appliance.scratch.run("mount", &["-t", "tmpfs", "none", "haos/data"]).code == Some(0));
    let data = appliance.scratch.path("haos/data");
    let uppers = appliance.uppers(&[OLD, "gone", "gone"]);
    let upper = |name: &str| data.join("haosfs/uppers").join(name).join("upper");
    for directory in 0..400 {
        let directory = upper("2").join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        (0..100).for_each(|file| drop(fs::File::create_new(directory.join(file.to_string())).unwrap()));
    }
    appliance.stage(&[]).succeeded();
    appliance.first_attempt();
    let mut gc = Command::new(HAOSFS);
    gc.args(["update", "gc", "--ini", "haos/haos.ini"]).current_dir(appliance.scratch.path(""));
    let left = || fs::read_dir(upper(".removed-2")).map(Iterator::count).ok();
    // It decides before it removes anything.
    let removing = Paused::once(gc, |_| left().is_some_and(|left| left < 400));
    assert!(left().is_some_and(|left| left > 0), "it was faster");
    assert_eq!(uppers.numbers().unwrap(), [1], "nobody takes what is being removed");
    appliance.update(&["confirm", "--unrecorded"]).succeeded();
    appliance.update(&["gc"]).succeeded();
    assert!(left().is_some_and(|left| left > 0), "two are not at it at once");
    removing.signal(Signal::KILL);
    assert!(!removing.ends().stderr.contains("haosfs: "));
    assert!(left().is_some());
    appliance.update(&["gc"]).succeeded();
    assert_eq!(left(), None, "what is left goes with the next");
}

/// RAUC has it read as a whole where it must be signed.
#[test]
fn an_image_is_confirmed_while_rauc_has_the_next_checked() {
    if !can_pack_large("an_image_is_confirmed_while_rauc_has_the_next_checked") {
        return;
    }
    let appliance = Appliance::new();
    appliance.stage(&[]).succeeded();
    appliance.first_attempt();
    pack_large(&appliance.scratch, &format!("haos/{NEXT}"));
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    sign(&keys, &appliance.scratch.path("haos").join(NEXT), |manifest| manifest);
    let key = format!("update.public_key={}", keys.pk.to_base64());
    [key, format!("rauc.A={OLD}"), format!("rauc.B={NEXT}")].iter().for_each(|key| appliance.set(key));
    let mut rauc = Command::new(HAOSFS);
    rauc.args(["rauc-backend", "--ini", "haos/haos.ini", "set-primary", "B"]).current_dir(appliance.scratch.path(""));
    let checking = Paused::once(rauc, |pid| has_read(pid) > 2 << 20);
    assert!(has_read(checking.id()) < 64 << 20, "it was faster");
    appliance.update(&["confirm", "--unrecorded"]).succeeded();
    checking.goes_on();
    let status = appliance.status();
    assert_eq!([&status["system_image"], &status["update_image"], &status["state"]], [NEW, NEXT, "staged"]);
}

/// Writes a manifest of an image beside it, and signs that.
fn sign(keys: &KeyPair, image: &Path, change: fn(Manifest) -> Manifest) {
    let ([manifest, signature], bytes) = (paths(image), fs::read(image).unwrap());
    let name = image.file_name().unwrap().to_str().unwrap().into();
    let text = change(Manifest { name, size: bytes.len() as u64, sha256: Sha256::digest(&bytes).into() }).text();
    fs::write(manifest, &text).unwrap();
    let signed = minisign::sign(None, &keys.sk, text.as_bytes(), None, None).unwrap();
    fs::write(signature, signed.into_string()).unwrap();
}

/// Bytes that a process has read from files (proc_pid_io(5)).
fn has_read(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or_default()
}

/// What the image waits for was decided otherwise while it was copied.
#[test]
fn an_image_that_became_the_system_is_not_replaced() {
    if !can_pack_large("an_image_that_became_the_system_is_not_replaced") {
        return;
    }
    let appliance = Appliance::new();
    pack_large(&appliance.scratch, NEXT);
    let mut stage = Command::new(HAOSFS);
    stage.args(["update", "stage", NEXT, "--ini", "haos/haos.ini"]).current_dir(appliance.scratch.path(""));
    let copying = Paused::where_it_copies(stage, &appliance.scratch.path(&format!("haos/.{NEXT}.part")));
    pack(&appliance.scratch.path("haos").join(NEXT));
    appliance.set(&format!("system_image={NEXT}"));
    let refused = copying.ends();
    assert!(refused.code == Some(1) && refused.stderr.contains("is the system image; it is not replaced"), "{refused:?}");
    assert!(!appliance.scratch.path(&format!("haos/.{NEXT}.part")).exists());
    assert_eq!(appliance.status()["system_image"], NEXT);
}

fn can_pack_large(test: &str) -> bool {
    can_run(test, has_tool("mksquashfs"), "needs mksquashfs")
}

/// An image of 64 MiB that cannot be compressed.
fn pack_large(scratch: &Scratch, name: &str) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut bytes = vec![0; 64 << 20];
    random.fill(&mut bytes);
    scratch.mkdir("large");
    fs::write(scratch.path("large/file"), bytes).unwrap();
    let mut mksquashfs = Command::new("mksquashfs");
    mksquashfs.arg(scratch.path("large")).arg(scratch.path(name)).args(["-quiet", "-no-progress", "-noD"]);
    assert!(mksquashfs.status().unwrap().success());
}
