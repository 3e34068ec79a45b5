//! `haosfs install`: complete, and gone without a trace.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use clap_complete::{Shell, generate};
use serde_json::Value;
use support::{Scratch, can_run, has_tool};

/// Every path below a directory with its mode, and the target of links.
fn tree(root: &Path) -> BTreeMap<String, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let meta = fs::symlink_metadata(&path).unwrap();
            let target = fs::read_link(&path).map_or(String::new(), |target| target.display().to_string());
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), (meta.mode(), target));
            if meta.is_dir() {
                waiting.push(path);
            }
        }
    }
    found
}

fn files(root: &Path) -> Vec<String> {
    tree(root).into_iter().filter(|(_, (mode, _))| mode & libc::S_IFMT != libc::S_IFDIR).map(|(path, _)| path).collect()
}

#[test]
fn what_is_installed_works_and_goes_without_a_trace() {
    let scratch = Scratch::with_image();
    // A system that has some of the directories, one of them empty, and /sbin as a link.
    ["root/usr/sbin", "root/usr/share/man/man5", "root/usr/share/doc"].into_iter().for_each(|name| scratch.mkdir(name));
    symlink("usr/sbin", scratch.path("root/sbin")).unwrap();
    fs::write(scratch.path("root/usr/sbin/other"), "").unwrap();
    let root = scratch.path("root");
    let before = tree(&root);
    for _ in 0..2 {
        scratch.haosfs(&["install", "--destdir", "root"]).succeeded();
    }
    let installed = tree(&root);
    assert_eq!(installed["usr/sbin/mount.haosfs"].1, "../bin/haosfs");
    assert_eq!(installed["usr/bin/haosfs"].0 & 0o7777, 0o755);
    assert_eq!(installed["usr/share/man/man8/mount.haosfs.8"].0 & 0o7777, 0o644);
    let helper = root.join("sbin/mount.haosfs").display().to_string();
    scratch.run(&helper, &["image.sqfs", "mnt", "-f"]).succeeded();
    scratch.run(&helper, &["image.sqfs"]).failed(1, "usage: mount.haosfs SPEC DIR");
    scratch.haosfs(&["install", "--destdir", "root", "--remove"]).succeeded();
    assert_eq!(tree(&root), before);
    scratch.haosfs(&["install", "--destdir", "root", "--remove"]).failed(1, "haosfs install has put nothing there");
}

/// systemd would start what is not there, and each update would be taken back since nobody confirms it.
#[test]
fn what_names_the_program_names_it_where_it_is() {
    let scratch = Scratch::new();
    for prefix in ["/usr", "/usr/local", "/opt/ha"] {
        let root = format!("root{prefix}");
        scratch.mkdir(&root);
        assert_eq!(scratch.haosfs(&["install", "--destdir", &root, "--prefix", prefix]).code, Some(0));
        let below = scratch.path(&root).join(&prefix[1..]);
        let read = |path: &str| fs::read_to_string(below.join(path)).unwrap();
        let program = format!("{prefix}/bin/haosfs");
        for (path, line) in [
            ("lib/systemd/system/haosfs-boot-guard.service", format!("\nExecStart={program} boot-guard\n")),
            ("share/initramfs-tools/hooks/haosfs", format!("\ncopy_exec {program} ")),
            ("lib/dracut/modules.d/90haosfs/module-setup.sh", format!("inst_binary {program} ")),
        ] {
            assert!(read(path).contains(&line), "{}", read(path));
        }
        let others = files(&below).into_iter().filter(|path| !path.ends_with("bin/haosfs") && !path.ends_with("rauc-backend"));
        for path in others.filter(|_| prefix != "/usr") {
            assert!(!read(&path).contains("/usr/bin/haosfs"), "{prefix}: {path}");
        }
    }
}

#[test]
fn nothing_of_others_is_touched() {
    let scratch = Scratch::new();
    ["root/usr/bin", "root/sbin"].into_iter().for_each(|name| scratch.mkdir(name));
    fs::write(scratch.path("root/usr/bin/haosfs"), "another's").unwrap();
    let before = tree(&scratch.path("root"));
    let words = "root/usr/bin/haosfs is there already, and was not put there by haosfs install";
    scratch.haosfs(&["install", "--destdir", "root"]).failed(1, words);
    assert_eq!(tree(&scratch.path("root")), before);
    // Elsewhere there is room; the links stand in a /sbin of its own.
    let elsewhere = scratch.haosfs(&["install", "--destdir", "root", "--prefix", "/usr/local"]);
    elsewhere.succeeded_warning("initramfs-tools and dracut do not look below /usr/local");
    assert_eq!(tree(&scratch.path("root"))["sbin/umount.fuse.haosfs"].1, "../usr/local/bin/haosfs");
    // What others put into our directories since then stays, and with it these directories.
    fs::write(scratch.path("root/usr/local/share/doc/haosfs/note"), "").unwrap();
    scratch.haosfs(&["install", "--destdir", "root", "--prefix", "/usr/local", "--remove"]).succeeded();
    assert_eq!(files(&scratch.path("root")), ["usr/bin/haosfs", "usr/local/share/doc/haosfs/note"]);
    for prefix in ["usr", "/usr/../etc"] {
        scratch.haosfs(&["install", "--destdir", "root", "--prefix", prefix]).failed(1, "expected an absolute path without ..");
    }
}

/// `HAOSFS_BLESS=1` writes them anew.
#[test]
fn completions_are_those_of_the_command_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions");
    for (shell, name) in [(Shell::Bash, "haosfs.bash"), (Shell::Zsh, "_haosfs"), (Shell::Fish, "haosfs.fish")] {
        let mut generated = Vec::new();
        // Nobody completes `haosfs update help confirm`, and it would be a quarter of all.
        let mut line = haosfs::cli::command_line().mut_subcommands(|command| command.disable_help_subcommand(true));
        generate(shell, &mut line, "haosfs", &mut generated);
        let file = folder.join(name);
        if std::env::var_os("HAOSFS_BLESS").is_some_and(|v| v == "1") {
            fs::write(&file, &generated).unwrap();
        }
        let same = fs::read(&file).unwrap() == generated;
        assert!(same, "{} is stale: HAOSFS_BLESS=1 cargo test --test install writes it anew", file.display());
    }
    let bash = folder.join("haosfs.bash");
    let completed = r#"source "$0"; COMP_WORDS=(haosfs ins); COMP_CWORD=1; _haosfs haosfs ins haosfs; echo "${COMPREPLY[@]}""#;
    if can_run("completions_are_those_of_the_command_line", has_tool("bash"), "needs bash") {
        let output = Command::new("bash").args(["-c", completed]).arg(bash).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "install", "{output:?}");
    }
}

/// What cargo-deb packs (`[package.metadata.deb]`) is what `haosfs install` installs, but for the record of the installation, which
/// the packages' own database keeps.
#[test]
fn a_package_holds_the_same() {
    let scratch = Scratch::new();
    scratch.mkdir("root");
    scratch.haosfs(&["install", "--destdir", "root"]).succeeded();
    let installed: Vec<String> =
        files(&scratch.path("root")).into_iter().filter(|path| path != "usr/share/haosfs/installed").collect();
    let arguments = ["metadata", "--offline", "--no-deps", "--format-version", "1", "--manifest-path"];
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let metadata = Command::new(env!("CARGO")).args(arguments).arg(manifest).output().unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == "haosfs").unwrap();
    let assets = package["metadata"]["deb"]["assets"].as_array().unwrap();
    let mut packed: Vec<String> = Vec::new();
    for asset in assets {
        let [from, to, mode] = [0, 1, 2].map(|at| asset[at].as_str().unwrap());
        assert!(
            from.starts_with("target/release/") || Path::new(env!("CARGO_MANIFEST_DIR")).join(from).symlink_metadata().is_ok(),
            "{from}"
        );
        let installed = fs::symlink_metadata(scratch.path("root").join(to)).unwrap();
        assert!(installed.is_symlink() || format!("{:o}", installed.mode() & 0o7777) == mode, "{to}");
        packed.push(to.to_owned());
    }
    packed.sort();
    assert_eq!(packed, installed);
}
