//! `haosfs image`: info, ls, cat, extract, verify.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::{FILES, Scratch, can_run, has_tool, is_root};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn info_shows_the_superblock() {
    let scratch = Scratch::with_image();
    let text = scratch.haosfs(&["image", "info", "image.sqfs"]).succeeded().stdout;
    assert!(text.contains("compressor  xz") && text.contains("block size  131072 bytes"), "{text}");
    let object = json(&scratch.haosfs(&["image", "info", "--json", "image.sqfs"]).succeeded().stdout);
    assert_eq!((object["compressor"].as_str(), object["block_size"].as_u64()), (Some("xz"), Some(131_072)));
    // Four files, one link, and the directories /, etc, usr, usr/bin and usr/share.
    assert_eq!(object["inodes"], 10);
}

#[test]
fn ls_shows_what_ls_shows() {
    let scratch = Scratch::with_image();
    let text = scratch.haosfs(&["image", "ls", "image.sqfs", "/usr/bin"]).succeeded().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("lrwxrwxrwx   1     0     0 ") && lines[0].ends_with(" 2023-11-14 22:13 alias -> tool"),
        "{text}"
    );
    assert!(lines[1].starts_with("-rwxr-xr-x   1     0     0         20 2023-11-14 22:13 tool"), "{text}");
    let all = scratch.haosfs(&["image", "ls", "-R", "image.sqfs"]).succeeded().stdout;
    for directory in ["/:", "/etc:", "/usr:", "/usr/bin:", "/usr/share:"] {
        assert!(all.lines().any(|line| line == directory), "{directory} not in {all}");
    }
}

#[test]
fn ls_gives_json_by_the_line() {
    let scratch = Scratch::with_image();
    let text = scratch.haosfs(&["image", "ls", "--json", "-R", "image.sqfs"]).succeeded().stdout;
    let objects: Vec<Value> = text.lines().map(json).collect();
    assert_eq!(objects.len(), 9);
    for (path, content, mode) in FILES {
        let object = objects.iter().find(|o| o["path"] == format!("/{path}")).unwrap();
        assert_eq!((object["type"].as_str(), object["size"].as_u64()), (Some("file"), Some(content.len() as u64)));
        assert_eq!(object["mode"], format!("{mode:04o}"));
    }
    let link = objects.iter().find(|o| o["type"] == "symlink").unwrap();
    assert_eq!((link["path"].as_str(), link["target"].as_str()), (Some("/usr/bin/alias"), Some("tool")));
}

#[test]
fn cat_follows_links_within_the_image() {
    let scratch = Scratch::with_image();
    for (path, content) in [("hello", "hello\n"), ("/etc/../hello", "hello\n"), ("usr/bin/alias", FILES[2].1)] {
        assert_eq!(scratch.haosfs(&["image", "cat", "image.sqfs", path]).succeeded().stdout, content);
    }
    scratch.haosfs(&["image", "cat", "image.sqfs", "etc"]).failed(1, "read etc: Is a directory");
    scratch.haosfs(&["image", "cat", "image.sqfs", "none"]).failed(1, "find in the image none: No such file");
    scratch.haosfs(&["image", "cat", "image.sqfs", "hello/x"]).failed(1, "Not a directory");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let scratch = Scratch::with_image();
    let script = format!("{} image ls -R image.sqfs | true; echo ${{PIPESTATUS[0]}}", support::HAOSFS);
    assert_eq!(scratch.run("bash", &["-c", &script]).succeeded().stdout, "0\n");
}

#[test]
fn an_image_within_a_file_is_found_by_its_offset() {
    let scratch = Scratch::with_image();
    let image = fs::read(scratch.path("image.sqfs")).unwrap();
    fs::write(scratch.path("disk"), [vec![7; 8192], image].concat()).unwrap();
    let cat = scratch.haosfs(&["image", "cat", "disk", "hello", "--offset", "8K"]).succeeded();
    assert_eq!(cat.stdout, "hello\n");
}

#[test]
fn what_is_no_sound_image_is_named_in_one_line() {
    let scratch = Scratch::with_image();
    let image = fs::read(scratch.path("image.sqfs")).unwrap();
    fs::write(scratch.path("text"), "no image\n".repeat(100)).unwrap();
    fs::write(scratch.path("empty"), "").unwrap();
    fs::write(scratch.path("short"), &image[..300]).unwrap();
    let mut version = image;
    version[28] = 3;
    fs::write(scratch.path("version"), version).unwrap();
    for name in ["text", "empty", "short", "version", "missing"] {
        for command in ["info", "ls", "verify"] {
            scratch.haosfs(&["image", command, name]).failed(1, name);
        }
        assert_eq!(scratch.haosfs(&["image", "extract", name, "-C", "upper"]).code, Some(1));
    }
}

#[test]
fn verify_reads_everything() {
    let scratch = Scratch::with_image();
    let text = scratch.haosfs(&["image", "verify", "image.sqfs"]).succeeded().stdout;
    assert!(text.starts_with("sound: 5 directories, 4 files, 1 symbolic links, 0 others"), "{text}");
    let mut image = fs::read(scratch.path("image.sqfs")).unwrap();
    // The superblock tells at byte 64 where the inodes are; two bytes of length precede them.
    let inodes = usize::try_from(u64::from_le_bytes(image[64..72].try_into().unwrap())).unwrap();
    image[inodes + 2..inodes + 12].fill(0xa5);
    fs::write(scratch.path("damaged"), image).unwrap();
    scratch.haosfs(&["image", "verify", "damaged"]).failed(1, "damaged: ");
}

#[test]
fn extract_makes_files_and_directories() {
    let scratch = Scratch::with_image();
    scratch.mkdir("out");
    let finished = scratch.haosfs(&["image", "extract", "image.sqfs", "-C", "out"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for (path, content, _) in FILES {
        assert_eq!(fs::read_to_string(scratch.path("out").join(path)).unwrap(), content);
    }
    assert_eq!(fs::read_link(scratch.path("out/usr/bin/alias")).unwrap().to_str(), Some("tool"));
    scratch.haosfs(&["image", "extract", "image.sqfs", "hello", "-C", "out"]).failed(1, "hello: File exists");
    scratch.haosfs(&["image", "extract", "image.sqfs", "-C", "nowhere"]).failed(1, "open nowhere: No such file");
    scratch.mkdir("part");
    assert_eq!(scratch.haosfs(&["image", "extract", "image.sqfs", "usr/bin", "-C", "part"]).code, Some(0));
    assert!(scratch.path("part/bin/tool").is_file() && !scratch.path("part/usr").exists());
}

#[test]
fn extract_does_not_write_through_links() {
    let scratch = Scratch::with_image();
    ["out", "elsewhere"].into_iter().for_each(|d| scratch.mkdir(d));
    std::os::unix::fs::symlink(scratch.path("elsewhere"), scratch.path("out/etc")).unwrap();
    std::os::unix::fs::symlink(scratch.path("elsewhere/hello"), scratch.path("out/hello")).unwrap();
    let finished = scratch.haosfs(&["image", "extract", "image.sqfs", "-C", "out"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(fs::read_dir(scratch.path("elsewhere")).unwrap().count(), 0);
}

const TREE: &str = "set -e; mkdir -p a/b; echo hi > a/file; ln a/file a/b/hard; ln -s ../none a/dangling; mknod device b 8 1
    mkfifo pipe; chmod 4755 a/file; chown 7:8 a/b a/file; setfattr -n user.x -v y a/file; setfattr -h -n trusted.t -v z a/dangling
    truncate -s 100M sparse; echo end >> sparse; setfattr -n user.p -v q pipe 2>/dev/null || true
    chmod 555 a/b; touch -d 2001-01-01 a/file a/b; touch -h -d 2002-02-02 a/dangling; touch -d 2003-03-03 a .";

#[test]
fn extract_keeps_every_attribute_as_root() {
    let tools = ["mksquashfs", "setfattr", "rsync"].into_iter().all(has_tool);
    if !can_run("extract_keeps_every_attribute_as_root", is_root() && tools, "needs root, mksquashfs, setfattr and rsync") {
        return;
    }
    let scratch = Scratch::new();
    ["tree", "out"].into_iter().for_each(|d| scratch.mkdir(d));
    let made = Command::new("sh").args(["-c", TREE]).current_dir(scratch.path("tree")).status().unwrap();
    assert!(made.success());
    assert_eq!(scratch.run("mksquashfs", &["tree", "tree.sqfs", "-quiet", "-no-progress"]).code, Some(0));
    scratch.haosfs(&["image", "extract", "tree.sqfs", "-C", "out"]).succeeded();
    let compare = ["-aHAXni", "--delete", "--checksum", "tree/", "out/"];
    assert_eq!(scratch.run("rsync", &compare).succeeded().stdout, "");
    use std::os::unix::fs::MetadataExt;
    assert!(fs::metadata(scratch.path("out/sparse")).unwrap().blocks() < 1024, "holes stay holes");
    extract_without_privilege(&scratch);
}

/// What an ordinary user may not keep is summed up; set-id bits never pass to another owner.
fn extract_without_privilege(scratch: &Scratch) {
    scratch.mkdir("mine");
    scratch.give_to_nobody();
    let finished = scratch.haosfs_as_nobody(&["image", "extract", "tree.sqfs", "-C", "mine"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for words in ["left out for lack of privilege", "owners", "1 device nodes"] {
        assert!(finished.stderr.contains(words), "{words:?} not in {finished:?}");
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(scratch.path("mine/a/file")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

/// Metadata of this image is not compressed, so a name in it can be replaced by one that leads elsewhere.
#[test]
fn hostile_names_write_nothing() {
    if !can_run("hostile_names_write_nothing", has_tool("mksquashfs"), "needs mksquashfs") {
        return;
    }
    let scratch = Scratch::new();
    ["tree/inner", "out/deep"].into_iter().for_each(|d| scratch.mkdir(d));
    fs::write(scratch.path("tree/inner/evilname"), "evil").unwrap();
    assert_eq!(scratch.run("mksquashfs", &["tree", "good.sqfs", "-noI", "-quiet", "-no-progress"]).code, Some(0));
    let good = fs::read(scratch.path("good.sqfs")).unwrap();
    let at = good.windows(8).position(|w| w == b"evilname").unwrap();
    for name in [b"../evil1", b"/tmp/evi", b"../../ev", b"evil\0nam"] {
        let mut image = good.clone();
        image[at..at + 8].copy_from_slice(name);
        fs::write(scratch.path("bad.sqfs"), image).unwrap();
        let finished = scratch.haosfs(&["image", "extract", "bad.sqfs", "-C", "out/deep"]);
        assert_eq!((finished.code, finished.stderr.lines().count()), (Some(1), 1), "{finished:?}");
        let files = scratch.run("find", &[".", "-path", "./tree", "-prune", "-o", "-type", "f", "-print"]).succeeded().stdout;
        let mut files: Vec<&str> = files.lines().collect();
        files.sort_unstable();
        assert_eq!(files, ["./bad.sqfs", "./good.sqfs"]);
    }
}
