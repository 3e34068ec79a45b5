//! The external tree for Buildroot, by the rules of its manual (chapters 9.2, 18 and 22) and of its check-package; Buildroot itself is
//! not run.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use support::{Scratch, can_run, has_tool};

const PACKAGE: &str = "package/haosfs";

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tree() -> PathBuf {
    project().join("packaging/buildroot")
}

fn read(path: &str) -> String {
    fs::read_to_string(tree().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `NAME = VALUE` and `NAME += VALUE` of a makefile; continued lines are one.
fn variables(text: &str) -> BTreeMap<String, String> {
    let joined = text.replace("\\\n", " ");
    let assignments = joined.lines().filter(|line| !line.starts_with(['#', '\t']));
    let pairs = assignments.filter_map(|line| line.split_once(" += ").or_else(|| line.split_once(" = ")));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn the_tree_has_a_name_and_leads_to_the_package() {
    let desc: BTreeMap<String, String> = read("external.desc")
        .lines()
        .map(|line| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap())
        .collect();
    let name = &desc["name"];
    assert!(name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'), "{name}");
    assert_eq!(desc.keys().collect::<Vec<_>>(), ["desc", "name"]);
    let path = format!("$BR2_EXTERNAL_{name}_PATH/");
    let config = read("Config.in");
    let sourced: Vec<&str> =
        config.lines().map(|line| line.strip_prefix("source \"").unwrap().strip_suffix('"').unwrap()).collect();
    assert_eq!(sourced, [format!("{path}{PACKAGE}/Config.in")]);
    assert!(tree().join(sourced[0].strip_prefix(&path).unwrap()).is_file());
    let include = read("external.mk");
    assert_eq!(include, format!("include $(sort $(wildcard $(BR2_EXTERNAL_{name}_PATH)/package/*/*.mk))\n"));
}

/// Options stand at the margin, what describes them behind one tab, help behind one tab and two spaces, in no more than 72 columns.
#[test]
fn options_are_written_as_kconfig_reads_them() {
    let text = read(&format!("{PACKAGE}/Config.in"));
    let (mut options, mut in_help, mut depth) = (Vec::new(), false, 0_i32);
    for line in text.lines() {
        let width = line.chars().map(|c| if c == '\t' { 8 } else { 1 }).sum::<usize>();
        assert!(width <= 80 && line.trim_end() == line, "{line:?}");
        if let Some(description) = line.strip_prefix('\t') {
            let word = description.split_whitespace().next().unwrap();
            if in_help {
                assert!(description.starts_with("  ") && width <= 72, "{line:?}");
                continue;
            }
            assert!(["bool", "default", "depends", "select", "help"].contains(&word), "{line:?}");
            in_help = word == "help";
        } else if !line.is_empty() {
            in_help = false;
            match line.split_whitespace().next().unwrap() {
                "config" => options.push(line.strip_prefix("config ").unwrap().to_owned()),
                "if" => depth += 1,
                "endif" => depth -= 1,
                "comment" => {}
                _ => panic!("{line:?}"),
            }
        }
    }
    assert_eq!(depth, 0);
    assert_eq!(options[0], "BR2_PACKAGE_HAOSFS");
    assert!(options.iter().all(|option| option.starts_with("BR2_PACKAGE_HAOSFS")), "{options:?}");
    // What the makefile asks for exists.
    let make = read(&format!("{PACKAGE}/haosfs.mk"));
    for asked in make.split("$(BR2_PACKAGE_HAOSFS").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(options.contains(&format!("BR2_PACKAGE_HAOSFS{asked}")), "{asked}");
    }
}

#[test]
fn the_package_is_this_version_under_these_licences() {
    let make = read(&format!("{PACKAGE}/haosfs.mk"));
    let variables = variables(&make);
    assert_eq!(variables["HAOSFS_VERSION"], env!("CARGO_PKG_VERSION"));
    let site = variables["HAOSFS_SITE"].replace("$(BR2_EXTERNAL_HAOSFS_PATH)", tree().to_str().unwrap());
    let site = site.strip_prefix("$(realpath ").unwrap().strip_suffix(')').unwrap();
    assert_eq!(fs::canonicalize(site).unwrap(), fs::canonicalize(project()).unwrap());
    assert_eq!(variables["HAOSFS_LICENSE"], env!("CARGO_PKG_LICENSE").replace(" OR ", " or "));
    let hashes = read(&format!("{PACKAGE}/haosfs.hash"));
    let hashed: BTreeMap<&str, &str> = hashes
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split("  ").collect();
            let ["sha256", hash, name] = fields[..] else { panic!("{line:?}") };
            (name, hash)
        })
        .collect();
    let licences: Vec<&str> = variables["HAOSFS_LICENSE_FILES"].split(' ').collect();
    assert_eq!(hashed.len(), licences.len());
    for licence in licences {
        let digest = Sha256::digest(fs::read(project().join(licence)).unwrap());
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hashed[licence], hash, "{licence}");
    }
}

/// The banner, the names of variables, tabs before commands, hooks that exist, the macro of the infrastructure at the end.
#[test]
fn the_makefile_is_written_as_buildroot_wants_it() {
    let make = read(&format!("{PACKAGE}/haosfs.mk"));
    let hashes = "#".repeat(80);
    assert!(make.starts_with(&format!("{hashes}\n#\n# haosfs\n#\n{hashes}\n\n")));
    assert!(make.ends_with("\n$(eval $(cargo-package))\n"));
    let defined: Vec<&str> = make.lines().filter_map(|line| line.strip_prefix("define ")).collect();
    assert_eq!(defined.len(), make.lines().filter(|line| *line == "endef").count());
    let mut inside = false;
    for line in make.lines() {
        match line {
            "endef" => inside = false,
            _ if line.starts_with("define ") => inside = true,
            _ if inside => assert!(line.starts_with('\t'), "{line:?}"),
            _ => assert!(!line.starts_with([' ', '\t']), "{line:?}"),
        }
        assert_eq!(line.trim_end(), line);
    }
    for (name, value) in variables(&make) {
        assert!(name.starts_with("HAOSFS_"), "{name}");
        if name.ends_with("_HOOKS") {
            assert!(defined.contains(&value.as_str()), "{value}");
        }
    }
    // What it installs from the sources is there.
    for path in make.split("$(HAOSFS_SITE)/").skip(1).map(|rest| rest.split_whitespace().next().unwrap()) {
        assert!(project().join(path).is_file(), "{path}");
    }
    // It brings the names under which others look for the program.
    for link in fs::read_dir(project().join("packaging/links")).unwrap() {
        let name = link.unwrap().file_name().into_string().unwrap();
        assert!(make.contains(&name), "{name}");
    }
}

/// What Buildroot defines, and an order of ours.
const MAKEFILE: &str = "\
INSTALL = install
KCONFIG_ENABLE_OPT = @echo $(1)
include haosfs.mk
all:
\t$(HAOSFS_INSTALL_LINKS)
\t$(HAOSFS_LINUX_CONFIG_FIXUPS)
";

/// libmount looks for helpers in /sbin alone, which is a directory of its own without BR2_ROOTFS_MERGED_USR.
#[test]
fn helpers_stand_where_mount_looks_for_them() {
    if !can_run("helpers_stand_where_mount_looks_for_them", has_tool("make"), "needs make") {
        return;
    }
    for merged in [false, true] {
        let scratch = Scratch::new();
        ["usr/bin", "usr/sbin"].into_iter().for_each(|name| scratch.mkdir(name));
        if merged {
            symlink("usr/sbin", scratch.path("sbin")).unwrap()
        } else {
            scratch.mkdir("sbin")
        }
        fs::write(scratch.path("usr/bin/haosfs"), "the program").unwrap();
        fs::write(scratch.path("haosfs.mk"), read(&format!("{PACKAGE}/haosfs.mk"))).unwrap();
        fs::write(scratch.path("Makefile"), MAKEFILE).unwrap();
        let made = scratch.run("make", &["--silent", &format!("TARGET_DIR={}", scratch.path("").display())]).succeeded();
        for name in ["sbin/mount.haosfs", "sbin/umount.fuse.haosfs", "usr/lib/haosfs/rauc-backend"] {
            assert_eq!(fs::read_to_string(scratch.path(name)).unwrap(), "the program", "{name}, {merged}");
        }
        // Safe mode has its upper in memory, with attributes.
        assert!(made.stdout.contains("\nCONFIG_TMPFS\nCONFIG_TMPFS_XATTR\n"), "{made:?}");
    }
}
