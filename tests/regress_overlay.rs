//! What random histories showed (`differential`): each test says what the kernel's overlayfs does and what haosfs does, over an
//! image. Where the two differ, SEMANTICS.md has the line.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[path = "posix/raw.rs"]
#[allow(dead_code, reason = "one of its calls is used here")]
mod raw;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;

use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::open_temp_dir;
use mounted::squashfs;
use mounted::union::{Driver, Lower, Union};
use mounted::user::{NOBODY, as_user};
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
    accessat, copy_file_range, fallocate, lgetxattr, lremovexattr, lsetxattr, mknodat, renameat_with, statx, utimensat,
};
use rustix::io::{Errno, Result};

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

const BOTH: [Driver; 2] = [Driver::Kernel, Driver::Haosfs];
const OWNER: u32 = 1000;
const TEAM: u32 = 1001;
const ACCESS: &str = "system.posix_acl_access";
const CAPABILITY: &str = "security.capability";
/// `VFS_CAP_REVISION_2`: `CAP_NET_RAW` permitted and effective.
const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Runs a check by both drivers, each over an image of its own with an upper of its own.
fn by_both(test: &str, options: &[&str], grow: fn(&Path), check: impl Fn(Driver, &Union)) {
    if can_run(test, NEEDS) {
        for driver in BOTH {
            let ground = Ground::image(&[], grow);
            check(driver, &ground.mount(driver, options));
        }
    }
}

/// What the kernel's answers and what haosfs does.
fn pick<T>(driver: Driver, kernel: T, haosfs: T) -> T {
    if driver == Driver::Kernel { kernel } else { haosfs }
}

fn small_tree(tree: &Path) {
    for dir in ["full/below", "empty"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for name in ["file", "other", "full/file"] {
        fs::write(tree.join(name), name).unwrap();
    }
    // The kernel's squashfs answers EOPNOTSUPP about attributes when the image has no table of them at all.
    lsetxattr(tree, "user.table", b"1", XattrFlags::empty()).unwrap();
}

fn has(path: &Path, name: &str) -> bool {
    lgetxattr(path, name, [0; 64].as_mut_slice()).is_ok()
}

/// Asks for the mode and nothing else, so that nothing else makes the FUSE client ask anew.
fn perm(path: &Path) -> u32 {
    u32::from(statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MODE).unwrap().stx_mode) & 0o7777
}

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
    renameat_with(CWD, from, CWD, to, flags)
}

#[test]
fn directories_merged_below_have_one_link() {
    if !can_run("directories_merged_below_have_one_link", NEEDS) {
        return;
    }
    let dir = open_temp_dir();
    let lowers = ["top", "bottom"].map(|name| {
        let (tree, image) = (dir.path().join(name), dir.path().join(format!("{name}.sqfs")));
        fs::create_dir_all(tree.join("both").join(name)).unwrap();
        fs::create_dir_all(tree.join(format!("only-{name}")).join("below")).unwrap();
        squashfs::pack(&tree, &image, &[]);
        Lower::Image(image)
    });
    for driver in BOTH {
        let home = dir.path().join(driver.name());
        fs::create_dir(&home).unwrap();
        let union = Union::new(driver, &lowers, &home);
        let links = |name: &str| fs::metadata(union.path().join(name)).unwrap().nlink();
        assert_eq!((links("both"), links("only-top"), links("only-bottom")), (1, 3, 3), "{driver:?}");
    }
}

#[test]
fn what_is_refused_copies_nothing_up() {
    by_both("what_is_refused_copies_nothing_up", &[], small_tree, |driver, union| {
        let at = |name: &str| union.path().join(name);
        assert_eq!(rustix::fs::rmdir(at("full/below")), Ok(()), "{driver:?}");
        assert_eq!(rustix::fs::rmdir(at("full")), Err(Errno::NOTEMPTY), "{driver:?}");
        fs::create_dir(at("empty/new")).unwrap();
        assert_eq!(rename_with(&at("empty/new"), &at("full"), RenameFlags::empty()), Err(Errno::NOTEMPTY), "{driver:?}");
        assert_eq!(rename_with(&at("file"), &at("full"), RenameFlags::EXCHANGE), Err(Errno::XDEV), "{driver:?}");
        let union_upper = union.upper();
        assert!(fs::symlink_metadata(union_upper.join("file")).is_err(), "{driver:?}");
    });
    by_both("what_is_refused_copies_nothing_up", &[], small_tree, |driver, union| {
        fs::create_dir(union.path().join("new")).unwrap();
        fs::write(union.path().join("new/file"), b"").unwrap();
        assert_eq!(rustix::fs::rmdir(union.path().join("full")), Err(Errno::NOTEMPTY), "{driver:?}");
        assert_eq!(rustix::fs::rmdir(union.path().join("full/below/..")), Err(Errno::NOTEMPTY), "{driver:?}");
        assert!(fs::symlink_metadata(union.upper().join("full")).is_err(), "{driver:?}");
    });
}

#[test]
fn an_acl_that_is_not_there_can_be_removed() {
    by_both("an_acl_that_is_not_there_can_be_removed", &[], small_tree, |driver, union| {
        fs::write(union.path().join("new"), b"").unwrap();
        assert_eq!(lremovexattr(union.path().join("new"), ACCESS), Ok(()), "{driver:?}");
        assert_eq!(lremovexattr(union.path().join("new"), "user.absent"), Err(Errno::NODATA), "{driver:?}");
    });
}

#[test]
fn removing_an_acl_takes_set_group_id() {
    by_both("removing_an_acl_takes_set_group_id", &[], small_tree, |driver, union| {
        let new = |name: &str, owner: u32, group: u32| {
            let path = union.path().join(name);
            fs::create_dir(&path).unwrap();
            chown(&path, Some(owner), Some(group)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o2755)).unwrap();
            path
        };
        let by_owner = |path: &Path| as_user(OWNER, OWNER, &[TEAM], || lremovexattr(path, ACCESS));
        for (name, owner, group, answer, mode) in [
            ("of others", OWNER, 0, Ok(()), 0o755),
            ("of the team", OWNER, TEAM, Ok(()), 0o2755),
            ("root's", 0, 0, Err(Errno::PERM), 0o2755),
        ] {
            let path = new(name, owner, group);
            assert_eq!((by_owner(&path), perm(&path)), (answer, mode), "{driver:?}: {name}");
            assert_eq!(perm(&union.upper().join(name)), mode, "{driver:?}: {name}");
        }
    });
}

#[test]
fn only_y_marks_a_directory_opaque() {
    by_both("only_y_marks_a_directory_opaque", &[], small_tree, |driver, union| {
        lsetxattr(union.path().join("full"), "user.overlay.opaque", b"yes", XattrFlags::empty()).unwrap();
        assert_eq!(fs::read(union.path().join("full/file")).unwrap(), b"full/file", "{driver:?}");
        assert_eq!(fs::read_dir(union.path().join("full")).unwrap().count(), 2, "{driver:?}");
    });
}

/// What the overlay of an ordinary user would mean is an attribute like any other, be it of an image or set in the union.
#[test]
fn marks_of_a_user_s_overlay_are_copied_up() {
    const MARK: &str = "user.overlay.opaque";
    if !can_run("marks_of_a_user_s_overlay_are_copied_up", NEEDS) {
        return;
    }
    for driver in BOTH {
        let ground = Ground::image(&[], |tree| {
            small_tree(tree);
            lsetxattr(tree.join("full"), MARK, b"y", XattrFlags::empty()).unwrap();
        });
        let mut union = ground.mount(driver, &[]);
        let full = union.path().join("full");
        fs::write(full.join("new"), "new").unwrap();
        lsetxattr(full.join("below"), MARK, b"y", XattrFlags::empty()).unwrap();
        union.remount();
        for (name, content) in [("full/new", "new"), ("full/file", "full/file")] {
            assert_eq!(fs::read_to_string(union.path().join(name)).unwrap(), content, "{driver:?}");
        }
        for name in ["full", "full/below"] {
            let mut value = [0; 8];
            assert_eq!(lgetxattr(union.path().join(name), MARK, &mut value[..]), Ok(1), "{driver:?} {name}");
        }
        fs::rename(&full, union.path().join("moved")).unwrap_err();
        fs::remove_dir(full.join("below")).unwrap();
    }
}

#[test]
fn chown_without_owners_takes_set_id_from_pipes() {
    let grow = |tree: &Path| {
        mknodat(CWD, tree.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        fs::set_permissions(tree.join("pipe"), Permissions::from_mode(0o6755)).unwrap();
    };
    by_both("chown_without_owners_takes_set_id_from_pipes", &[], grow, |driver, union| {
        lchown(union.path().join("pipe"), None, None).unwrap();
        assert_eq!(perm(&union.path().join("pipe")), 0o755, "{driver:?}");
    });
}

/// Two images; in the top one `opaque` hides what the bottom one has under that name.
fn layers_with_an_opaque_directory(dir: &Path) -> [Lower; 2] {
    ["top", "bottom"].map(|name| {
        let (tree, image) = (dir.join(name), dir.join(format!("{name}.sqfs")));
        fs::create_dir_all(tree.join("opaque/dir")).unwrap();
        fs::create_dir_all(tree.join("plain/dir")).unwrap();
        for at in ["opaque/file", "opaque/dir/file", "plain/dir/file"] {
            fs::write(tree.join(at), name).unwrap();
        }
        if name == "top" {
            lsetxattr(tree.join("opaque"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        }
        fs::write(tree.join("opaque/dir").join(name), name).unwrap();
        squashfs::pack(&tree, &image, &[]);
        Lower::Image(image)
    })
}

#[test]
fn redirects_lead_through_opaque_directories() {
    if !can_run("redirects_lead_through_opaque_directories", NEEDS) {
        return;
    }
    for writer in BOTH {
        let dir = open_temp_dir();
        let lowers = layers_with_an_opaque_directory(dir.path());
        let mut union = Union::with_options(writer, &lowers, dir.path(), &["metacopy=on", "redirect_dir=on"]);
        let at = |name: &str| union.path().join(name);
        fs::rename(at("opaque/dir"), at("plain/moved")).unwrap();
        fs::rename(at("opaque/file"), at("plain/dir/renamed")).unwrap();
        fs::rename(at("plain/dir"), at("dir")).unwrap();
        for reader in BOTH {
            union.remount_by(reader);
            let content = |name: &str| fs::read_to_string(union.path().join(name)).unwrap();
            assert_eq!(content("plain/moved/file"), "top", "{writer:?} {reader:?}");
            assert_eq!(content("dir/renamed"), "top", "{writer:?} {reader:?}");
            assert_eq!(fs::read_dir(union.path().join("plain/moved")).unwrap().count(), 2, "{writer:?} {reader:?}");
        }
    }
}

/// FUSE lets anybody ask for it: whoever is neither root nor the owner gets nothing by it.
#[test]
fn nobody_takes_set_id_from_the_files_of_others() {
    let grow = |tree: &Path| {
        fs::write(tree.join("file"), b"").unwrap();
        fs::set_permissions(tree.join("file"), Permissions::from_mode(0o6777)).unwrap();
    };
    by_both("nobody_takes_set_id_from_the_files_of_others", &[], grow, |driver, union| {
        let file = union.path().join("file");
        for _ in ["below", "in the upper"] {
            let answer = as_user(NOBODY, NOBODY, &[], || lchown(&file, None, None));
            assert_eq!(answer.is_ok(), pick(driver, false, true), "{driver:?}");
            assert_eq!(perm(&file), 0o6777, "{driver:?}");
            fs::set_permissions(&file, Permissions::from_mode(0o6777)).unwrap();
        }
        as_user(NOBODY, NOBODY, &[], || OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap());
        assert_eq!(perm(&file), 0o777, "{driver:?}");
    });
}

fn capable_tree(tree: &Path) {
    fs::write(tree.join("capable"), [7; 5000]).unwrap();
    fs::set_permissions(tree.join("capable"), Permissions::from_mode(0o4755)).unwrap();
    lsetxattr(tree.join("capable"), CAPABILITY, &CAP_NET_RAW, XattrFlags::empty()).unwrap();
}

#[test]
fn attributes_apart_keep_capabilities() {
    by_both("attributes_apart_keep_capabilities", &["metacopy=on"], capable_tree, |driver, union| {
        let capable = union.path().join("capable");
        fs::set_permissions(&capable, Permissions::from_mode(0o700)).unwrap();
        assert!(has(&capable, CAPABILITY), "{driver:?}");
        assert!(has(&union.upper().join("capable"), "trusted.overlay.metacopy"), "{driver:?}");
    });
}

#[test]
fn writing_takes_set_id_of_capable_files() {
    by_both("writing_takes_set_id_of_capable_files", &[], capable_tree, |driver, union| {
        let capable = union.path().join("capable");
        OpenOptions::new().write(true).open(&capable).unwrap().write_all(b"written").unwrap();
        assert!(!has(&capable, CAPABILITY), "{driver:?}");
        assert_eq!(perm(&capable), pick(driver, 0o4755, 0o755), "{driver:?}");
    });
}

#[test]
fn mapped_writes_take_capabilities() {
    by_both("mapped_writes_take_capabilities", &[], capable_tree, |driver, union| {
        let capable = union.path().join("capable");
        let mut map = raw::map_shared(&OpenOptions::new().read(true).write(true).open(&capable).unwrap());
        map[10] = 1;
        map.flush().unwrap();
        drop(map);
        assert_eq!(has(&capable, CAPABILITY), pick(driver, true, false), "{driver:?}");
    });
}

/// A file whose group is root's neither nor the writer's, and may not execute it: set-group-id goes with an outsider's change, and at
/// once. The owner's changes ask for the mode, those of others do not.
#[test]
fn changes_by_an_outsider_take_set_group_id() {
    let grow = |tree: &Path| {
        fs::write(tree.join("file"), b"below").unwrap();
        chown(tree.join("file"), Some(OWNER), Some(TEAM)).unwrap();
        fs::set_permissions(tree.join("file"), Permissions::from_mode(0o6666)).unwrap();
    };
    by_both("changes_by_an_outsider_take_set_group_id", &[], grow, |driver, union| {
        let file = union.path().join("file");
        let open = || OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let changes: [(&str, &(dyn Fn() + Sync)); 4] = [
            ("write", &|| open().write_all(b"written").unwrap()),
            ("copy", &|| assert_eq!(copy_file_range(open(), Some(&mut 0), open(), Some(&mut 100), 7), Ok(7))),
            ("truncate", &|| open().set_len(1).unwrap()),
            ("allocate", &|| fallocate(open(), FallocateFlags::KEEP_SIZE, 0, 4096).unwrap()),
        ];
        for ((name, change), user) in changes.iter().flat_map(|change| [(change, OWNER), (change, NOBODY)]) {
            for (groups, after) in [(&[TEAM][..], 0o2666), (&[], 0o666)] {
                fs::set_permissions(&file, Permissions::from_mode(0o6666)).unwrap();
                assert_eq!(perm(&file), 0o6666);
                as_user(user, user, groups, change);
                assert_eq!(perm(&file), after, "{driver:?}: {name} by {user}, groups {groups:?}");
            }
        }
        fs::set_permissions(&file, Permissions::from_mode(0o6666)).unwrap();
        as_user(OWNER, OWNER, &[], || chown(&file, None, Some(OWNER)).unwrap());
        assert_eq!(perm(&file), 0o666, "{driver:?}: chown");
    });
}

#[test]
fn reading_from_the_page_cache_leaves_the_access_time() {
    by_both(
        "reading_from_the_page_cache_leaves_the_access_time",
        &[],
        |_| (),
        |driver, union| {
            let file = union.path().join("file");
            fs::write(&file, [7; 4096]).unwrap();
            let long_ago = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
            let kept = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            utimensat(CWD, &file, &Timestamps { last_access: long_ago, last_modification: kept }, AtFlags::empty()).unwrap();
            assert_eq!(fs::read(&file).unwrap(), [7; 4096]);
            let stamped = fs::metadata(&file).unwrap().atime() != long_ago.tv_sec;
            assert_eq!(stamped, pick(driver, true, false), "{driver:?}");
        },
    );
}

#[test]
fn acls_of_what_only_an_image_has() {
    by_both("acls_of_what_only_an_image_has", &[], small_tree, |driver, union| {
        // Version 2; rwx for the owner, r-x for the group and others, none of them by number.
        let none = u32::MAX;
        let list = [2, 0x0007_0001, none, 0x0005_0004, none, 0x0005_0020, none].map(u32::to_le_bytes).concat();
        let set = lsetxattr(union.path().join("empty"), "system.posix_acl_default", &list, XattrFlags::empty());
        assert_eq!(set, pick(driver, Err(Errno::OPNOTSUPP), Ok(())), "{driver:?}");
    });
}

#[test]
fn files_are_copied_out_of_a_lower() {
    by_both("files_are_copied_out_of_a_lower", &[], small_tree, |driver, union| {
        let (from, to) = (File::open(union.path().join("file")).unwrap(), File::create(union.path().join("new")).unwrap());
        let copied = copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), 4);
        assert_eq!(copied, pick(driver, Err(Errno::XDEV), Ok(4)), "{driver:?}");
    });
}

#[test]
fn opening_for_writing_copies_nothing_up() {
    by_both("opening_for_writing_copies_nothing_up", &[], small_tree, |driver, union| {
        OpenOptions::new().write(true).open(union.path().join("file")).unwrap();
        assert_eq!(union.upper().join("file").exists(), pick(driver, true, false), "{driver:?}");
    });
}

#[test]
fn links_of_copied_up_files_have_one_number() {
    by_both("links_of_copied_up_files_have_one_number", &[], small_tree, |driver, union| {
        let at = |name: &str| union.path().join(name);
        fs::hard_link(at("file"), at("link")).unwrap();
        let same = fs::metadata(at("file")).unwrap().ino() == fs::metadata(at("link")).unwrap().ino();
        assert_eq!(same, pick(driver, false, true), "{driver:?}");
        let renamed = rename_with(&at("file"), &at("link"), RenameFlags::empty());
        assert_eq!(renamed, pick(driver, Err(Errno::STALE), Ok(())), "{driver:?}");
        let mut content = String::new();
        File::open(at("link")).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "file", "{driver:?}");
    });
}

/// The kernel's VFS asks the inode of the name that is used, whose mode is the one that it had before.
#[test]
fn a_change_by_one_link_counts_for_the_other() {
    by_both("a_change_by_one_link_counts_for_the_other", &[], small_tree, |driver, union| {
        let at = |name: &str| union.path().join(name);
        fs::hard_link(at("file"), at("link")).unwrap();
        fs::set_permissions(at("link"), Permissions::from_mode(0o2755)).unwrap();
        assert_eq!(perm(&at("file")), 0o2755, "{driver:?}");
        let may_run = accessat(CWD, at("file"), Access::EXEC_OK, AtFlags::empty());
        assert_eq!(may_run, pick(driver, Err(Errno::ACCESS), Ok(())), "{driver:?}");
        chown(at("file"), Some(OWNER), None).unwrap();
        assert_eq!((perm(&at("file")), perm(&at("link"))), pick(driver, (0o2755, 0o2755), (0o755, 0o755)), "{driver:?}");
    });
}

/// The kernel's copies up to the size that the inode of the name that is used has, and that is the one from before the write.
#[test]
fn a_write_by_one_link_is_copied_by_the_other() {
    by_both("a_write_by_one_link_is_copied_by_the_other", &[], small_tree, |driver, union| {
        let at = |name: &str| union.path().join(name);
        fs::hard_link(at("file"), at("link")).unwrap();
        assert_eq!(fs::metadata(at("link")).unwrap().len(), 4, "{driver:?}");
        fs::write(at("copy"), b"").unwrap();
        fs::write(at("file"), b"something longer").unwrap();
        let (source, target) = (File::open(at("link")).unwrap(), OpenOptions::new().write(true).open(at("copy")).unwrap());
        assert_eq!(copy_file_range(&source, None, &target, None, 100), Ok(pick(driver, 4, 16)), "{driver:?}");
    });
}

#[test]
fn directories_on_the_way_keep_their_link_count() {
    by_both("directories_on_the_way_keep_their_link_count", &[], small_tree, |driver, union| {
        let full = union.path().join("full");
        assert_eq!(fs::metadata(&full).unwrap().nlink(), 3, "{driver:?}");
        fs::write(full.join("below/new"), b"").unwrap();
        assert_eq!(fs::metadata(&full).unwrap().nlink(), pick(driver, 1, 3), "{driver:?}");
        fs::write(full.join("new"), b"").unwrap();
        assert_eq!(fs::metadata(&full).unwrap().nlink(), 1, "{driver:?}");
    });
}
