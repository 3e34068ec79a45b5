//! rename(2) of, onto and between lower names.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::content::{HELLO, MTIME, big};
use super::union_cases;
use crate::mounted::mount::run;
use crate::mounted::union::Union;
use crate::suite::assertions::{exists, lstat, names, refused};

union_cases![
    a_lower_file_moves, a_lower_file_moves_deep, lower_directories_do_not_move, mv_copies_lower_directories, onto_a_lower_file,
    onto_a_whiteout, onto_a_lower_directory, exchange_lower_files, exchange_lower_with_upper, noreplace_sees_the_lower,
    new_directories_move_onto_whiteouts, new_directories_move_onto_emptied_lower_ones, back_and_forth, links_of_lower_move,
    a_lower_symlink_moves, files_move_out_of_removed_trees, directory_exchange_over_lower;
];

fn always(union: &mut Union, holds: impl Fn(&Path)) {
    holds(union.path());
    union.remount();
    holds(union.path());
}

fn with(flags: RenameFlags, from: &Path, to: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, from, CWD, to, flags)
}

fn a_lower_file_moves(union: &mut Union) {
    fs::rename(union.path().join("hello"), union.path().join("moved")).unwrap();
    always(union, |root| {
        assert!(!exists(root.join("hello")));
        assert_eq!(fs::read(root.join("moved")).unwrap(), HELLO);
        assert_eq!(std::os::unix::fs::MetadataExt::mtime(&lstat(root.join("moved"))), MTIME);
    });
}

fn a_lower_file_moves_deep(union: &mut Union) {
    fs::rename(union.path().join("big"), union.path().join("dir/sub/deeper/big")).unwrap();
    fs::rename(union.path().join("dir/sub/deep"), union.path().join("shallow")).unwrap();
    always(union, |root| {
        assert!(fs::read(root.join("dir/sub/deeper/big")).unwrap() == big());
        assert_eq!(fs::read(root.join("shallow")).unwrap(), b"dir/sub/deep");
        assert_eq!(names(root.join("dir/sub")), ["deeper"]);
    });
}

/// As the kernel without redirect_dir: programs then copy.
fn lower_directories_do_not_move(union: &mut Union) {
    refused(fs::rename(union.path().join("dir"), union.path().join("moved")), Errno::XDEV);
    fs::write(union.path().join("empty/f"), b"").unwrap();
    refused(fs::rename(union.path().join("empty"), union.path().join("moved")), Errno::XDEV);
    assert_eq!(names(union.path().join("dir")), ["a", "b", "c", "link3", "sub"]);
    assert!(!exists(union.path().join("moved")));
}

fn mv_copies_lower_directories(union: &mut Union) {
    run(Command::new("mv").arg(union.path().join("dir")).arg(union.path().join("moved")));
    always(union, |root| {
        assert!(!exists(root.join("dir")));
        assert_eq!(names(root.join("moved")), ["a", "b", "c", "link3", "sub"]);
        assert_eq!(fs::read(root.join("moved/sub/deeper/deepest")).unwrap(), b"dir/sub/deeper/deepest");
    });
}

fn onto_a_lower_file(union: &mut Union) {
    fs::write(union.path().join("new"), b"new").unwrap();
    fs::rename(union.path().join("new"), union.path().join("hello")).unwrap();
    fs::rename(union.path().join("dir/a"), union.path().join("dir/b")).unwrap();
    always(union, |root| {
        assert_eq!(fs::read(root.join("hello")).unwrap(), b"new");
        assert!(!exists(root.join("new")));
        assert_eq!(fs::read(root.join("dir/b")).unwrap(), b"dir/a");
        assert_eq!(names(root.join("dir")), ["b", "c", "link3", "sub"]);
    });
}

fn onto_a_whiteout(union: &mut Union) {
    fs::remove_file(union.path().join("hello")).unwrap();
    fs::rename(union.path().join("dir/a"), union.path().join("hello")).unwrap();
    with(RenameFlags::NOREPLACE, &union.path().join("dir/b"), &union.path().join("dir/a")).unwrap();
    always(union, |root| {
        assert_eq!(fs::read(root.join("hello")).unwrap(), b"dir/a");
        assert_eq!(fs::read(root.join("dir/a")).unwrap(), b"dir/b");
        assert_eq!(names(root.join("dir")), ["a", "c", "link3", "sub"]);
    });
}

fn onto_a_lower_directory(union: &mut Union) {
    fs::create_dir_all(union.path().join("new/inside")).unwrap();
    refused(fs::rename(union.path().join("new"), union.path().join("dir")), Errno::NOTEMPTY);
    fs::rename(union.path().join("new"), union.path().join("empty")).unwrap();
    refused(fs::rename(union.path().join("hello"), union.path().join("dir")), Errno::ISDIR);
    refused(fs::rename(union.path().join("empty"), union.path().join("hello")), Errno::NOTDIR);
    always(union, |root| assert_eq!(names(root.join("empty")), ["inside"]));
}

fn exchange_lower_files(union: &mut Union) {
    with(RenameFlags::EXCHANGE, &union.path().join("hello"), &union.path().join("dir/a")).unwrap();
    always(union, |root| {
        assert_eq!(fs::read(root.join("hello")).unwrap(), b"dir/a");
        assert_eq!(fs::read(root.join("dir/a")).unwrap(), HELLO);
    });
}

fn exchange_lower_with_upper(union: &mut Union) {
    fs::create_dir(union.path().join("new")).unwrap();
    with(RenameFlags::EXCHANGE, &union.path().join("hello"), &union.path().join("new")).unwrap();
    always(union, |root| {
        assert!(lstat(root.join("hello")).is_dir());
        assert_eq!(fs::read(root.join("new")).unwrap(), HELLO);
    });
}

fn noreplace_sees_the_lower(union: &mut Union) {
    fs::write(union.path().join("new"), b"new").unwrap();
    refused(with(RenameFlags::NOREPLACE, &union.path().join("new"), &union.path().join("hello")), Errno::EXIST);
    refused(with(RenameFlags::EXCHANGE, &union.path().join("new"), &union.path().join("none")), Errno::NOENT);
    assert_eq!(fs::read(union.path().join("hello")).unwrap(), HELLO);
}

fn new_directories_move_onto_whiteouts(union: &mut Union) {
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    fs::create_dir_all(union.path().join("new/sub")).unwrap();
    fs::rename(union.path().join("new"), union.path().join("dir")).unwrap();
    always(union, |root| {
        assert_eq!(names(root.join("dir")), ["sub"]);
        assert_eq!(names(root.join("dir/sub")), [""; 0]);
    });
}

fn new_directories_move_onto_emptied_lower_ones(union: &mut Union) {
    fs::remove_file(union.path().join("dir/sub/deep")).unwrap();
    fs::remove_dir_all(union.path().join("dir/sub/deeper")).unwrap();
    fs::create_dir_all(union.path().join("new/x")).unwrap();
    fs::rename(union.path().join("new"), union.path().join("dir/sub")).unwrap();
    always(union, |root| assert_eq!(names(root.join("dir/sub")), ["x"]));
}

fn back_and_forth(union: &mut Union) {
    for _ in 0..10 {
        fs::rename(union.path().join("hello"), union.path().join("other")).unwrap();
        assert!(!exists(union.path().join("hello")));
        fs::rename(union.path().join("other"), union.path().join("hello")).unwrap();
        assert!(!exists(union.path().join("other")));
    }
    always(union, |root| assert_eq!(fs::read(root.join("hello")).unwrap(), HELLO));
}

fn links_of_lower_move(union: &mut Union) {
    fs::rename(union.path().join("link1"), union.path().join("moved")).unwrap();
    always(union, |root| {
        assert_eq!(fs::read(root.join("moved")).unwrap(), b"linked");
        assert_eq!(fs::read(root.join("link2")).unwrap(), b"linked");
        assert!(!exists(root.join("link1")));
    });
}

fn a_lower_symlink_moves(union: &mut Union) {
    fs::rename(union.path().join("symlink"), union.path().join("renamed")).unwrap();
    always(union, |root| {
        assert_eq!(fs::read_link(root.join("renamed")).unwrap().as_os_str(), "hello");
        assert!(!exists(root.join("symlink")));
    });
}

fn files_move_out_of_removed_trees(union: &mut Union) {
    fs::rename(union.path().join("dir/a"), union.path().join("saved")).unwrap();
    let open = File::open(union.path().join("dir/sub/deep")).unwrap();
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    fs::rename(union.path().join("saved"), union.path().join("dir")).unwrap();
    assert_eq!(std::io::read_to_string(open).unwrap(), "dir/sub/deep");
    always(union, |root| assert_eq!(fs::read(root.join("dir")).unwrap(), b"dir/a"));
}

/// New directories exchange; what comes to stand over a lower one hides it.
fn directory_exchange_over_lower(union: &mut Union) {
    fs::create_dir_all(union.path().join("new/mine")).unwrap();
    refused(with(RenameFlags::EXCHANGE, &union.path().join("new"), &union.path().join("dir")), Errno::XDEV);
    fs::remove_dir_all(union.path().join("dir")).unwrap();
    fs::create_dir_all(union.path().join("dir/other")).unwrap();
    with(RenameFlags::EXCHANGE, &union.path().join("new"), &union.path().join("dir")).unwrap();
    always(union, |root| {
        assert_eq!(names(root.join("dir")), ["mine"]);
        assert_eq!(names(root.join("new")), ["other"]);
    });
}
