//! Whiteouts and opaque directories: what is removed stays removed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use rustix::io::Errno;

use super::content::HELLO;
use super::union_cases;
use crate::mounted::union::Union;
use crate::suite::assertions::{exists, lstat, names, refused};
use crate::suite::xattr::get;

union_cases![
    unlink_hides_a_lower_file, unlinked_lower_files_live_on, removed_and_made_again, a_whole_tree_goes, a_tree_made_again_is_empty,
    rmdir_asks_the_merged_view, rmdir_of_nothing_but_whiteouts, mkdir_over_a_whiteout_is_opaque, symlink_over_a_removed_directory,
    file_over_a_removed_directory, directory_over_a_removed_file, whiteouts_are_not_listed, whiteouts_are_not_found, removing_copied_up_files,
    removing_everything, removal_in_a_new_directory_leaves_no_whiteout;
    whiteouts_are_what_the_kernel_makes, opaque_is_what_the_kernel_makes,
];

fn always(union: &mut Union, holds: impl Fn(&Path)) {
    holds(union.path());
    union.remount();
    holds(union.path());
}

fn unlink_hides_a_lower_file(union: &mut Union) {
    fs::remove_file(union.path().join("hello")).unwrap();
    fs::remove_file(union.path().join("dir/a")).unwrap();
    always(union, |root| {
        assert!(!exists(root.join("hello")) && !exists(root.join("dir/a")));
        assert_eq!(names(root.join("dir")), ["b", "c", "link3", "sub"]);
        refused(fs::remove_file(root.join("hello")), Errno::NOENT);
    });
}

fn unlinked_lower_files_live_on(union: &mut Union) {
    let mut file = File::open(union.path().join("hello")).unwrap();
    fs::remove_file(union.path().join("hello")).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, HELLO);
    assert_eq!(file.metadata().unwrap().nlink(), 0);
}

fn removed_and_made_again(union: &mut Union) {
    for round in 0..3_u8 {
        fs::remove_file(union.path().join("hello")).unwrap();
        fs::write(union.path().join("hello"), [round]).unwrap();
    }
    always(union, |root| assert_eq!(fs::read(root.join("hello")).unwrap(), [2]));
}

fn a_whole_tree_goes(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    always(union, |root| {
        assert!(!exists(root.join("dir")));
        refused(fs::symlink_metadata(root.join("dir/a")), Errno::NOENT);
    });
}

fn a_tree_made_again_is_empty(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    fs::create_dir_all(union.path().join("dir/sub")).unwrap();
    always(union, |root| {
        assert_eq!(names(root.join("dir")), ["sub"]);
        assert_eq!(names(root.join("dir/sub")), [""; 0]);
        refused(fs::symlink_metadata(root.join("dir/sub/deep")), Errno::NOENT);
    });
}

fn rmdir_asks_the_merged_view(union: &mut Union) {
    let dir = union.path().join("dir");
    refused(fs::remove_dir(&dir), Errno::NOTEMPTY);
    fs::write(union.path().join("empty/new"), b"").unwrap();
    refused(fs::remove_dir(union.path().join("empty")), Errno::NOTEMPTY);
    fs::remove_file(union.path().join("empty/new")).unwrap();
    fs::remove_dir(union.path().join("empty")).unwrap();
    always(union, |root| assert!(!exists(root.join("empty"))));
}

fn rmdir_of_nothing_but_whiteouts(union: &mut Union) {
    let dir = union.path().join("dir");
    fs::remove_dir_all(dir.join("sub")).unwrap();
    for name in ["a", "b", "c", "link3"] {
        refused(fs::remove_dir(&dir), Errno::NOTEMPTY);
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert_eq!(names(&dir), [""; 0]);
    fs::remove_dir(&dir).unwrap();
    always(union, |root| assert!(!exists(root.join("dir"))));
}

fn mkdir_over_a_whiteout_is_opaque(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir/sub")).unwrap();
    fs::create_dir(union.path().join("dir/sub")).unwrap();
    fs::write(union.path().join("dir/sub/new"), b"").unwrap();
    always(union, |root| assert_eq!(names(root.join("dir/sub")), ["new"]));
}

fn symlink_over_a_removed_directory(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    symlink("empty", union.path().join("dir")).unwrap();
    always(union, |root| {
        assert!(lstat(root.join("dir")).is_symlink());
        assert_eq!(names(root.join("dir")), [""; 0]);
    });
}

fn file_over_a_removed_directory(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    fs::write(union.path().join("dir"), b"now a file").unwrap();
    always(union, |root| {
        assert_eq!(fs::read(root.join("dir")).unwrap(), b"now a file");
        refused(fs::symlink_metadata(root.join("dir/a")), Errno::NOTDIR);
    });
    fs::remove_file(union.path().join("dir")).unwrap();
    always(union, |root| assert!(!exists(root.join("dir"))));
}

fn directory_over_a_removed_file(union: &mut Union) {
    fs::remove_file(union.path().join("hello")).unwrap();
    fs::create_dir(union.path().join("hello")).unwrap();
    always(union, |root| assert_eq!(names(root.join("hello")), [""; 0]));
    fs::remove_dir(union.path().join("hello")).unwrap();
    always(union, |root| assert!(!exists(root.join("hello"))));
}

fn whiteouts_are_not_listed(union: &mut Union) {
    for i in (0..super::content::MANY).step_by(2) {
        fs::remove_file(union.path().join(format!("many/n{i:03}"))).unwrap();
    }
    always(union, |root| {
        let left = names(root.join("many"));
        assert_eq!((left.len(), left[0].as_str()), (super::content::MANY / 2, "n001"));
    });
}

fn whiteouts_are_not_found(union: &mut Union) {
    let path = union.path().join("hello");
    fs::remove_file(&path).unwrap();
    refused(File::open(&path), Errno::NOENT);
    refused(fs::rename(&path, union.path().join("x")), Errno::NOENT);
    refused(fs::hard_link(&path, union.path().join("x")), Errno::NOENT);
    refused(fs::read_link(&path), Errno::NOENT);
    refused(fs::remove_dir(&path), Errno::NOENT);
    assert!(!exists(union.path().join("x")));
}

fn removing_copied_up_files(union: &mut Union) {
    fs::write(union.path().join("hello"), b"copied").unwrap();
    fs::remove_file(union.path().join("hello")).unwrap();
    always(union, |root| assert!(!exists(root.join("hello"))));
}

fn removing_everything(union: &mut Union) {
    for entry in fs::read_dir(union.path()).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
    always(union, |root| assert_eq!(names(root), [""; 0]));
}

fn removal_in_a_new_directory_leaves_no_whiteout(union: &mut Union) {
    fs::create_dir(union.path().join("new")).unwrap();
    fs::write(union.path().join("new/f"), b"").unwrap();
    fs::remove_file(union.path().join("new/f")).unwrap();
    fs::write(union.path().join("dir/other"), b"").unwrap();
    fs::remove_file(union.path().join("dir/other")).unwrap();
    union.unmount();
    assert_eq!(names(union.upper().join("new")), [""; 0]);
    assert_eq!(names(union.upper().join("dir")), [""; 0], "nothing below has that name");
}

fn whiteouts_are_what_the_kernel_makes(union: &mut Union) {
    fs::remove_file(union.path().join("hello")).unwrap();
    union.unmount();
    let meta = lstat(union.upper().join("hello"));
    assert_eq!((meta.file_type().is_char_device(), meta.rdev()), (true, 0));
}

fn opaque_is_what_the_kernel_makes(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    fs::create_dir(union.path().join("dir")).unwrap();
    union.unmount();
    assert_eq!(get(&union.upper().join("dir"), "trusted.overlay.opaque").unwrap(), b"y");
}
