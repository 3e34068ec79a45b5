//! What virtual machines need from this machine, and where what is made for them is kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Programs, each with its Debian package.
const TOOLS: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("mksquashfs", "squashfs-tools"),
    ("mke2fs", "e2fsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
];

/// True when virtual machines can be had. Otherwise prints the one line `SKIPPED test: reason`, or panics when `HAOSFS_NO_SKIP=1`.
pub fn can_run(test: &str) -> bool {
    let missing: Vec<&str> = TOOLS.iter().filter(|(program, _)| tool(program).is_none()).map(|(_, package)| *package).collect();
    let reason = match (cfg!(target_arch = "x86_64"), missing.as_slice()) {
        (false, _) => "needs an x86-64 machine".to_owned(),
        (true, []) => return true,
        (true, missing) => format!("needs the packages {}", missing.join(" ")),
    };
    has(test, false, &reason)
}

/// The same where root alone can do what the test does.
pub fn can_run_as_root(test: &str) -> bool {
    can_run(test) && has(test, rustix::process::geteuid().is_root(), "needs root")
}

/// The same for machines whose system partition is FAT, which is made and read without a mount.
pub fn can_run_fat(test: &str) -> bool {
    can_run_as_root(test) && has_program(test, ("mkfs.vfat", "dosfstools")) && has_program(test, ("mcopy", "mtools"))
}

/// The same for guests whose system is made by debootstrap, which only root can use.
pub fn can_run_debian(test: &str) -> bool {
    can_run_as_root(test) && has_program(test, ("debootstrap", "debootstrap"))
}

/// The same for a program, and the package that has it.
pub fn has_program(test: &str, (program, package): (&str, &str)) -> bool {
    has(test, tool(program).is_some(), &format!("needs the package {package}"))
}

fn has(test: &str, possible: bool, reason: &str) -> bool {
    if !possible {
        assert!(std::env::var("HAOSFS_NO_SKIP").as_deref() != Ok("1"), "{test} cannot run and HAOSFS_NO_SKIP=1: {reason}");
        println!("SKIPPED {test}: {reason}");
    }
    possible
}

/// Finds a program in `PATH` or in the folders of the administrator.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// A command of a program that [`can_run`] has found.
pub fn command(name: &str) -> Command {
    Command::new(tool(name).unwrap_or_else(|| panic!("{name} is missing")))
}

/// Standard output of a program that must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where what is downloaded or made stays from one run to the next: below cargo's target directory.
pub fn cache() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine");
    fs::create_dir_all(&cache).unwrap();
    cache
}

/// What `make` makes at a path of the cache, once for all runs: it gets a name that it may fill, which is moved into its place.
pub fn kept(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let (at, unfinished) = (cache().join(name), cache().join(format!("{name}.new")));
    let lock = File::create(cache().join("lock")).unwrap();
    lock.lock().unwrap();
    if !at.exists() {
        clear(&unfinished);
        make(&unfinished);
        fs::rename(&unfinished, &at).unwrap();
    }
    at
}

/// Takes a file or a directory away, where there is one.
pub fn clear(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// The program that changes a tree in guests and tells of it.
pub fn writer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = cache().join("writer");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/writer/main.rs");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition=2024", "-O", "-Cstrip=symbols", "-Ctarget-feature=+crt-static", "-o"]);
        run(rustc.arg(&program).arg(source));
        program
    })
}

/// The static haosfs, built when it is asked for first.
pub fn haosfs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["static", "--quiet", "--message-format=json-render-diagnostics"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        // Set for tests by cargo, or by whoever measures their coverage; the program is built as users build it.
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        let messages = run(&mut cargo);
        let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let program = artifacts.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
        program.unwrap_or_else(|| panic!("cargo static has made no program: {messages}"))
    })
}
