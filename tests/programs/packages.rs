//! Programs that install: what they do to a tree of the image comes out as on one file system.

use std::fs::{self, create_dir_all};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::NEEDS;
use super::mounted::ground::Ground;
use super::mounted::mount::run;
use super::mounted::requirement::{Requirement, can_run};
use super::mounted::scratch::open_temp_dir;
use super::mounted::union::Driver;
use super::tree::compare::{Tolerance, assert_same};
use super::tree::snapshot::Snapshot;

const NEEDS_DPKG: &[Requirement] = &[NEEDS[0], NEEDS[1], NEEDS[2], Requirement::Tool("dpkg"), Requirement::Tool("dpkg-deb")];

/// Times come from the clock, and directories' link counts from the file system.
const TOLERANCE: Tolerance =
    Tolerance { nanoseconds: true, times: true, directory_links: true, xattrs: true, acls: true, hard_links: true };

/// A package of many files; the next version has others, and other contents.
fn package(at: &Path, version: usize) -> PathBuf {
    let tree = at.join(format!("tree{version}"));
    for n in version * 5..version * 5 + 40 {
        let directory = tree.join(format!("usr/share/thing/d{}", n % 7));
        create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{n}")), format!("{n} of {version}\n").repeat(n * 20)).unwrap();
    }
    create_dir_all(tree.join(format!("usr/lib/only-in-{version}/deep"))).unwrap();
    fs::write(tree.join(format!("usr/lib/only-in-{version}/deep/file")), "x").unwrap();
    create_dir_all(tree.join("etc/thing")).unwrap();
    fs::write(tree.join("etc/thing/conf"), "as shipped\n").unwrap();
    symlink(format!("only-in-{version}"), tree.join("usr/lib/current")).unwrap();
    create_dir_all(tree.join("DEBIAN")).unwrap();
    let about = "Package: thing\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: a thing\n";
    fs::write(tree.join("DEBIAN/control"), format!("{about}Version: {version}\n")).unwrap();
    fs::write(tree.join("DEBIAN/conffiles"), "/etc/thing/conf\n").unwrap();
    let file = at.join(format!("thing_{version}.deb"));
    run(Command::new("dpkg-deb").args(["--build", "-Znone"]).arg(tree).arg(&file));
    file
}

fn dpkg(root: &Path, arguments: &[&str], package: &Path) {
    let mut command = Command::new("dpkg");
    let mut at = std::ffi::OsString::from("--root=");
    at.push(root);
    command.arg(at).args(["--log=/dev/null", "--force-confold"]).args(arguments).arg(package);
    run(&mut command);
}

/// A root with the first version.
fn installed(root: &Path, package: &Path) {
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    dpkg(root, &["--install"], package);
}

/// Upgrade, downgrade, removal, and installation again, on an image that was made with dpkg.
#[test]
fn dpkg_upgrades_what_the_image_has() {
    if !can_run("dpkg_upgrades_what_the_image_has", NEEDS_DPKG) {
        return;
    }
    let dir = open_temp_dir();
    let [first, second] = [1, 2].map(|version| package(dir.path(), version));
    let plain = dir.path().join("plain");
    installed(&plain, &first);
    let ground = Ground::image(&[], |tree| installed(tree, &first));
    let mut union = ground.mount(Driver::Haosfs, &[]);
    let steps: [(&str, &[&str], &Path); 5] = [
        ("upgrade", &["--install"], &second),
        ("downgrade", &["--install"], &first),
        ("remove", &["--remove"], Path::new("thing")),
        ("install", &["--install"], &second),
        ("purge", &["--purge"], Path::new("thing")),
    ];
    for (what, arguments, package) in steps {
        for root in [&plain, union.path()] {
            fs::write(root.join("etc/thing/conf"), "mine\n")
                .or_else(|e| if what == "install" { Ok(()) } else { Err(e) })
                .unwrap();
            dpkg(root, arguments, package);
        }
        for _ in 0..2 {
            assert_same(what, &seen(&plain), &seen(union.path()), TOLERANCE);
            union.remount();
        }
    }
}

fn seen(root: &Path) -> Snapshot {
    Snapshot::read(root).unwrap().without_root()
}

/// As installers of tool chains and environments do: the old one aside, the new one into its place, the old one away.
fn replace(root: &Path, new: &Path) {
    let (at, aside) = (root.join("tools/stable"), root.join("tools/.aside"));
    set_aside(&at, &aside).unwrap();
    let staged = root.join("tmp/staged");
    create_dir_all(root.join("tmp")).unwrap();
    run(Command::new("cp").arg("-a").arg(new).arg(&staged));
    fs::rename(&staged, &at).unwrap();
    fs::remove_dir_all(aside).unwrap();
}

/// A rename, or where that leads across devices a copy.
fn set_aside(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            run(Command::new("cp").arg("-a").arg(from).arg(to));
            fs::remove_dir_all(from)
        }
        answer => answer,
    }
}

#[test]
fn a_tool_chain_of_the_image_is_replaced() {
    if !can_run("a_tool_chain_of_the_image_is_replaced", NEEDS) {
        return;
    }
    let grow = |root: &Path, version: usize| {
        for n in version..version + 30 {
            let directory = root.join(format!("lib/{}", n % 4));
            create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("part{n}")), format!("{version} {n}")).unwrap();
        }
    };
    let dir = open_temp_dir();
    let (plain, new) = (dir.path().join("plain"), dir.path().join("new"));
    grow(&plain.join("tools/stable"), 1);
    grow(&new, 20);
    replace(&plain, &new);
    let ground = Ground::image(&[], |tree| grow(&tree.join("tools/stable"), 1));
    for option in ["redirect_dir=off", "redirect_dir=on"] {
        let home = open_temp_dir();
        let mut union = ground.mount_with(Driver::Haosfs, home.path(), &[option]);
        replace(union.path(), &new);
        for _ in 0..2 {
            assert_same(option, &seen(&plain), &seen(union.path()), TOLERANCE);
            union.remount();
        }
    }
}
