//! `haosfs config`: show, get, set, check, as people and programs see them.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};
use support::{Scratch, can_run, has_tool, is_root, pack};

const INI: &str = "# written by hand
[haos]
data_partition = ./data   
; the image
system_image=haos-x86_64_7.1.0.0.squashfs
colour = blue

[network]
address : 192.0.2.7/24
";

/// By this everybody may read a file, and user 65534 even more so (acl(5)).
const ACL: &str = "system.posix_acl_access";
const READABLE: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 254, 255, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255,
    255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

/// A directory with `haos.ini`, the image that it names, and `data`.
fn configured(text: &str) -> Scratch {
    let scratch = Scratch::new();
    fs::write(scratch.path("haos.ini"), text).unwrap();
    pack(&scratch.path("haos-x86_64_7.1.0.0.squashfs"));
    scratch.mkdir("data");
    scratch
}

fn text(scratch: &Scratch, name: &str) -> String {
    fs::read_to_string(scratch.path(name)).unwrap()
}

fn values(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What README.md shows of `haosfs config`, line by line.
#[test]
fn the_examples_of_the_readme_are_true() {
    let scratch = Scratch::new();
    scratch.mkdir("data");
    for version in ["7.1.0.0", "7.1.1.0"] {
        pack(&scratch.path(&format!("haos-x86_64_{version}.squashfs")));
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("\n## haos.ini\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks: Vec<&str> = section.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let program = Path::new(support::HAOSFS).parent().unwrap().display();
    let mut ran = 0;
    for example in blocks.iter().flat_map(|block| block.split("$ ").skip(1)) {
        let (command, expected) = example.split_once('\n').unwrap();
        let finished = scratch.run("sh", &["-c", &format!("PATH={program}:$PATH; exec 2>&1; {command}")]);
        assert_eq!(finished.stdout, expected, "{command}");
        ran += 1;
    }
    assert_eq!(ran, 11);
    let ini = section.split("```ini\n").nth(1).unwrap().split("```").next().unwrap();
    fs::write(scratch.path("haos.ini"), ini).unwrap();
    let shown = scratch.haosfs(&["config", "show", "haos.ini"]).succeeded().stdout;
    assert!(
        shown.starts_with("data partition  PARTUUID=a52a4597-fa3a-4851-aefd-2fbe9f849079, fs ext4, options noatime\n"),
        "{shown}"
    );
}

#[test]
fn show_and_get_speak_json() {
    let scratch = configured(&INI.replace("./data", "{A52A4597-fa3a-4851-aefd-2fbe9f849079},disk=S1,fs=btrfs,otherparams=1"));
    let shown = scratch.haosfs(&["config", "show", "--json", "haos.ini"]).succeeded().stdout;
    assert_eq!(
        values(&shown),
        [json!({
            "configured": true,
            "file": "haos.ini",
            "data_partition": {
                "place": { "kind": "PARTUUID", "value": "a52a4597-fa3a-4851-aefd-2fbe9f849079" },
                "also": [{ "kind": "disk", "value": "S1" }],
                "fs": "btrfs",
                "options": ["otherparams=1"],
            },
            "system_image": "haos-x86_64_7.1.0.0.squashfs",
            "update_image": null,
            "previous_image": null,
            "failed_image": null,
            "failed_reason": null,
            "unknown": [{ "key": "colour", "value": "blue", "line": 6 }],
            "sections": [{
                "name": "network",
                "line": 8,
                "entries": [{ "key": "address", "value": "192.0.2.7/24", "line": 9 }],
            }],
        })]
    );
    let got = scratch.haosfs(&["config", "get", "--json", "haos.ini", "network.address"]).succeeded().stdout;
    assert_eq!(values(&got), [json!({ "section": "network", "key": "address", "value": "192.0.2.7/24", "line": 9 })]);
    scratch.haosfs(&["config", "get", "haos.ini", "update_image"]).failed(1, "haos.ini: update_image is not set in [haos]");
}

#[test]
fn set_changes_lines_and_nothing_else() {
    let scratch = configured(INI);
    fs::set_permissions(scratch.path("haos.ini"), PermissionsExt::from_mode(0o640)).unwrap();
    let change = ["config", "set", "haos.ini", "update_image = images/b.squashfs", "network.dns=192.0.2.1", "--unset", "colour"];
    scratch.haosfs(&change).succeeded();
    let expected = INI
        .replace("colour = blue\n", "update_image = images/b.squashfs\n")
        .replace("address : 192.0.2.7/24\n", "address : 192.0.2.7/24\ndns = 192.0.2.1\n");
    assert_eq!((text(&scratch, "haos.ini"), text(&scratch, "haos.ini.bak")), (expected.clone(), INI.to_owned()));
    assert_eq!(fs::metadata(scratch.path("haos.ini")).unwrap().mode() & 0o7777, 0o640);
    let json = scratch.haosfs(&["config", "set", "--json", "haos.ini", "system_image=/srv/x"]).succeeded().stdout;
    assert_eq!(values(&json)[0]["system_image"], "/srv/x");
    let now = expected.replace("haos-x86_64_7.1.0.0.squashfs", "/srv/x");
    for (arguments, words) in [
        (&["data_partition=nowhere"][..], "haos.ini:3: data_partition: nowhere: expected {GUID}, PARTUUID="),
        (
            &["--unset", "system_image"],
            "system_image: it is missing from [haos]; expected system_image = IMAGE; nothing was changed",
        ),
        (&["update_image"], "update_image: expected KEY=VALUE"),
        (&["network.x=a\nb"], "no line of an ini file can say \"a\\nb\" in [network]"),
        (&["#x=1"], "no line of an ini file can say"),
        (&[], "nothing to set"),
    ] {
        scratch.haosfs(&[&["config", "set", "haos.ini"], arguments].concat()).failed(1, words);
        assert_eq!((text(&scratch, "haos.ini"), text(&scratch, "haos.ini.bak")), (now.clone(), expected.clone()), "{words}");
    }
}

/// Whoever sees to an update writes the keys that it goes by as he has read them, and leaves all others alone.
#[test]
fn images_are_not_set_while_an_update_is_seen_to() {
    let scratch = configured(INI);
    let set = |change: &[&str]| scratch.haosfs(&[&["config", "set", "haos.ini"], change].concat());
    set(&["update_image=a.squashfs"]).succeeded();
    assert!(!scratch.path("trial").exists());
    scratch.mkdir("trial");
    let held = fs::File::open(scratch.path("trial")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let before = text(&scratch, "haos.ini");
    for change in
        [&["update_image=b.squashfs"][..], &["network.dns=192.0.2.1", "system_image=b.squashfs"], &["--unset", "update_image"]]
    {
        set(change).failed(1, "trial: another update is being seen to; try again");
        assert_eq!(text(&scratch, "haos.ini"), before);
    }
    set(&["network.dns=192.0.2.1", "other.update_image=c", "--unset", "colour"]).succeeded();
    drop(held);
    set(&["--unset", "update_image"]).succeeded();
}

#[test]
fn a_new_file_needs_all_that_must_be_known() {
    let scratch = Scratch::new();
    scratch.haosfs(&["config", "set", "haos.ini", "system_image=a"]).failed(1, "haos.ini: data_partition: it is missing");
    assert!(!scratch.path("haos.ini").exists());
    scratch.haosfs(&["config", "set", "haos.ini", "system_image=a", "data_partition=LABEL=data"]).succeeded();
    assert_eq!(text(&scratch, "haos.ini"), "[haos]\nsystem_image = a\ndata_partition = LABEL=data\n");
    assert_eq!(text(&scratch, "haos.ini.bak"), text(&scratch, "haos.ini"));
    scratch.haosfs(&["config", "set", "absent/haos.ini", "system_image=a"]).failed(1, "absent");
    let perm = |name: &str| fs::metadata(scratch.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([perm("haos.ini"), perm("haos.ini.bak")], [0o644; 2]);
    scratch
        .haosfs(&["config", "set", "net.ini", "system_image=a", "data_partition=LABEL=data", "network.psk=secret"])
        .succeeded();
    assert_eq!([perm("net.ini"), perm("net.ini.bak")], [0o600; 2], "the key of a network is nobody else's");
    // Nor is it in a file that had none before, whoever could read that; who opens it up afterwards means it.
    let set = rustix::fs::setxattr(scratch.path("haos.ini"), ACL, &READABLE, rustix::fs::XattrFlags::empty());
    assert!(matches!(set, Ok(()) | Err(rustix::io::Errno::OPNOTSUPP)), "{set:?}");
    scratch.haosfs(&["config", "set", "haos.ini", "network.psk=secret"]).succeeded();
    assert_eq!([perm("haos.ini"), perm("haos.ini.bak")], [0o600; 2]);
    assert!(rustix::fs::getxattr(scratch.path("haos.ini"), ACL, &mut [0_u8; 64][..]).is_err());
    fs::set_permissions(scratch.path("haos.ini"), PermissionsExt::from_mode(0o640)).unwrap();
    scratch.haosfs(&["config", "set", "haos.ini", "network.psk=other"]).succeeded();
    assert_eq!([perm("haos.ini"), perm("haos.ini.bak")], [0o640; 2]);
    scratch.haosfs(&["config", "set", "haos.ini", "--unset", "network.psk"]).succeeded();
    fs::set_permissions(scratch.path("haos.ini"), PermissionsExt::from_mode(0o444)).unwrap();
    scratch.haosfs(&["config", "set", "haos.ini", "system_image=b"]).succeeded();
    assert_eq!(perm("haos.ini"), 0o444, "nothing is opened up");
}

#[test]
fn a_link_stays_and_its_target_changes() {
    let scratch = configured(INI);
    scratch.mkdir("etc");
    symlink("../haos.ini", scratch.path("etc/haos.ini")).unwrap();
    scratch.haosfs(&["config", "set", "etc/haos.ini", "system_image=b"]).succeeded();
    assert!(fs::symlink_metadata(scratch.path("etc/haos.ini")).unwrap().is_symlink());
    assert!(text(&scratch, "haos.ini").contains("system_image=b\n"));
    assert_eq!(text(&scratch, "haos.ini.bak"), INI);
    fs::write(scratch.path("haos.ini"), "").unwrap();
    scratch.haosfs(&["config", "show", "etc/haos.ini"]).failed(1, "haos.ini.bak has the last that was sound");
    symlink("/absent/haos.ini", scratch.path("etc/dangling.ini")).unwrap();
    scratch.haosfs(&["config", "show", "etc/dangling.ini"]).failed(1, "is a link to /absent/haos.ini, which is not there");
}

/// Only where neither the file nor its backup is there nobody has configured anything.
#[test]
fn what_cannot_be_read_is_no_first_run() {
    let show: &[&str] = &["config", "show", "haos.ini"];
    let set: &[&str] = &["config", "set", "haos.ini", "system_image=b"];
    let torn = &INI[..40];
    for (content, words) in [
        (Some(&b""[..]), "it is empty"),
        (Some(b" \n"), "it is empty"),
        (Some(torn.as_bytes()), "haos.ini:"),
        (Some(b"[haos]\nx = \xff\n"), "haos.ini:2: this is not UTF-8"),
        (Some(&[0; 200]), "control character"),
        (None, "haos.ini is missing, but was there before"),
    ] {
        for arguments in [show, set, &["config", "get", "haos.ini", "system_image"]] {
            let scratch = configured(INI);
            match content {
                Some(content) => fs::write(scratch.path("haos.ini"), content).unwrap(),
                None => fs::remove_file(scratch.path("haos.ini")).unwrap(),
            }
            // A change may make a file valid that was not; it never makes one of nothing.
            let may_mend = content == Some(torn.as_bytes()) && arguments == set;
            if content.is_some() && !may_mend {
                scratch.haosfs(arguments).failed(1, words);
                scratch.haosfs(arguments).failed(1, "; there is no backup haos.ini.bak that could be read");
            }
            fs::write(scratch.path("haos.ini.bak"), INI).unwrap();
            if !may_mend {
                scratch.haosfs(arguments).failed(1, words);
                scratch
                    .haosfs(arguments)
                    .failed(1, "; haos.ini.bak has the last that was sound, `cp haos.ini.bak haos.ini` brings it back");
            }
            assert_eq!(text(&scratch, "haos.ini.bak"), INI);
            fs::write(scratch.path("haos.ini.bak"), "").unwrap();
            if !may_mend {
                scratch.haosfs(arguments).failed(1, "; its backup haos.ini.bak is no better");
            }
        }
    }
}

#[test]
fn without_a_file_the_newest_image_is_shown() {
    let scratch = Scratch::new();
    let machine = rustix::system::uname().machine().to_str().unwrap().to_owned();
    let name = |version: &str| format!("haos-{machine}_{version}.squashfs");
    scratch.haosfs(&["config", "show", "haos.ini"]).failed(1, ". has no image");
    pack(&scratch.path(&name("7.1.0.0")));
    pack(&scratch.path(&name("7.2.0.0.rc1")));
    fs::write(scratch.path(&name("7.2.0.0")), "torn").unwrap();
    let shown = scratch.haosfs(&["config", "show", "--json", "haos.ini"]);
    assert_eq!(shown.code, Some(0));
    let warning = format!("{}: superblock at offset 0: not a squashfs image", name("7.2.0.0"));
    assert!(shown.stderr.contains("an image is passed over: ./") && shown.stderr.contains(&warning), "{shown:?}");
    let expected = json!({ "configured": false, "file": "haos.ini", "newest_image": format!("./{}", name("7.2.0.0.rc1")) });
    assert_eq!(values(&shown.stdout), [expected]);
    scratch.haosfs(&["config", "check", "haos.ini"]).failed(1, "haos.ini is not there, nor is a backup of it");
    scratch.haosfs(&["config", "get", "haos.ini", "system_image"]).failed(1, "nothing is configured");
    scratch.haosfs(&["config", "show", "absent/haos.ini"]).failed(1, "there is no directory absent");
}

#[test]
fn check_says_everything_at_once() {
    let scratch = configured(INI);
    let checked = scratch.haosfs(&["config", "check", "haos.ini"]).succeeded();
    assert_eq!(checked.stdout, "warning: haos.ini:6: colour: this version knows no such key in [haos]; it is kept\n");
    let wrong = INI.replace("./data", "./absent,fs=ext4").replace("7.1.0.0", "7.0.0.0") + "x = y";
    fs::write(scratch.path("haos.ini"), wrong.replace("colour = blue", "update_image = torn.squashfs")).unwrap();
    fs::write(scratch.path("torn.squashfs"), "hsqs").unwrap();
    let checked = scratch.haosfs(&["config", "check", "--json", "haos.ini"]);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(1), ""));
    let found: Vec<String> = values(&checked.stdout)
        .iter()
        .map(|f| format!("{} {} {} {}", f["severity"], f["line"], f["key"], f["means"]).replace('"', ""))
        .collect();
    for (found, start) in found.iter().zip([
        "warning 10 null the last line does not end: the file may be cut off",
        "error 3 data_partition ./absent: No such file or directory",
        "error 5 system_image the image haos-x86_64_7.0.0.0.squashfs is not there: looked for ./haos-x86_64_7.0.0.0.squashfs and",
        "error 6 update_image ./torn.squashfs: superblock at offset 0: the image is cut off",
    ]) {
        assert!(found.starts_with(start), "{found}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
    fs::write(scratch.path("haos.ini"), "[haos]\ndata_partition = x\nsystem_image =\n").unwrap();
    let checked = scratch.haosfs(&["config", "check", "haos.ini"]);
    assert_eq!((checked.code, checked.stdout.lines().count()), (Some(1), 2), "{checked:?}");
    assert!(checked.stdout.lines().all(|line| line.starts_with("error: haos.ini:")), "{checked:?}");
}

/// What a mount would find is found: beside what a link leads to, and in any format that the kernel reads.
#[test]
fn check_looks_where_a_mount_does() {
    let test = "check_looks_where_a_mount_does";
    let scratch = configured(&INI.replace("colour = blue\n", ""));
    ["etc", "mnt"].into_iter().for_each(|name| scratch.mkdir(name));
    symlink("../haos.ini", scratch.path("etc/haos.ini")).unwrap();
    let check = || scratch.haosfs(&["config", "check", "etc/haos.ini"]);
    assert_eq!(check().succeeded().stdout, "etc/haos.ini: sound, and this machine has what it names\n");
    if can_run(test, has_tool("mkfs.erofs"), "needs mkfs.erofs") {
        scratch.run("mkfs.erofs", &["--quiet", "haos.erofs", "data"]).succeeded();
        scratch.haosfs(&["config", "set", "haos.ini", "system_image=haos.erofs"]).succeeded();
        assert_eq!(check().code, Some(0), "{:?}", check());
    }
    if !can_run(test, is_root() && has_tool("mksquashfs"), "needs root and mksquashfs") {
        return;
    }
    // A file system that is none for uppers; the kernel may lack FAT.
    scratch.run("mksquashfs", &["data", "data.sqfs", "-quiet", "-no-progress"]).succeeded();
    scratch.run("mount", &["data.sqfs", "data"]).succeeded();
    let (checked, mounted) = (check(), scratch.haosfs(&["mount", "haos.ini", "mnt"]));
    scratch.run("umount", &["data"]).succeeded();
    let words = "squashfs cannot hold an upper (it has no extended attributes); use ext4, btrfs or xfs";
    assert!(checked.code == Some(1) && checked.stdout.contains(words), "{checked:?}");
    mounted.failed(32, words);
}

#[test]
fn a_file_that_may_not_be_read_is_no_first_run() {
    if !can_run("a_file_that_may_not_be_read_is_no_first_run", is_root(), "needs root, to be somebody else") {
        return;
    }
    let scratch = configured(INI);
    fs::set_permissions(scratch.path("haos.ini"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(scratch.path("haos.ini.bak"), INI).unwrap();
    scratch.haosfs_as_nobody(&["config", "show", "haos.ini"]).failed(1, "read haos.ini: Permission denied");
    scratch.haosfs_as_nobody(&["config", "show", "haos.ini"]).failed(1, "`cp haos.ini.bak haos.ini` brings it back");
    scratch.haosfs_as_nobody(&["config", "set", "haos.ini", "system_image=b"]).failed(1, "Permission denied");
    assert_eq!(text(&scratch, "haos.ini"), INI);
}

/// Two writers take turns; none loses what the other wrote.
#[test]
fn writers_take_turns() {
    let scratch = configured(INI);
    let write = |n: usize| {
        for _ in 0..200 {
            let finished = scratch.haosfs(&["config", "set", "haos.ini", &format!("network.key{n}={n}")]);
            if finished.code == Some(0) {
                return;
            }
            assert!(finished.stderr.contains("another haosfs is writing to its directory"), "{finished:?}");
        }
        panic!("never its turn");
    };
    std::thread::scope(|scope| (0..4).for_each(|n| drop(scope.spawn(move || write(n)))));
    let written = text(&scratch, "haos.ini");
    assert!((0..4).all(|n| written.contains(&format!("key{n} = {n}\n"))), "{written}");
}
