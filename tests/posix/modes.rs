//! Permission bits, owners, and whom they stop.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::assertions::{lstat, refused};
use super::case::cases;
use crate::mounted::mount::run;
use crate::mounted::user::{NOBODY, as_user};

cases![
    every_mode_is_kept, umask_is_applied, open_descriptors_outlive_chmod, chmod_of_missing;
    chown_is_kept, chown_clears_setid, write_by_others_clears_setid, truncate_by_others_clears_setid, chown_by_others_is_refused,
    sgid_directories_pass_their_group, sticky_directories_protect, modes_stop_others, search_permission, access_asks_for_the_user,
    root_owns_what_root_makes, users_own_what_they_make, sgid_is_dropped_for_strangers, lchown_of_a_symlink,
];

fn mode(path: &Path) -> u32 {
    lstat(path).mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn every_mode_is_kept(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    for bits in (0..0o10000).step_by(0o111).chain([0o7777, 0]) {
        chmod(&dir.join("f"), bits).unwrap();
        assert_eq!(mode(&dir.join("f")), bits);
    }
    for bits in [0o1777, 0o2755, 0o700, 0o000, 0o755] {
        chmod(&dir.join("d"), bits).unwrap();
        assert_eq!(mode(&dir.join("d")), bits);
    }
}

fn umask_is_applied(dir: &Path) {
    run(Command::new("sh").current_dir(dir).args(["-c", "umask 027; : > f; mkdir d; mkfifo p"]));
    assert_eq!((mode(&dir.join("f")), mode(&dir.join("d")), mode(&dir.join("p"))), (0o640, 0o750, 0o640));
}

fn open_descriptors_outlive_chmod(dir: &Path) {
    let mut file = File::create(dir.join("f")).unwrap();
    chmod(&dir.join("f"), 0).unwrap();
    file.write_all(b"still").unwrap();
    assert_eq!(lstat(dir.join("f")).len(), 5);
    chmod(&dir.join("f"), 0o600).unwrap();
}

fn chmod_of_missing(dir: &Path) {
    refused(chmod(&dir.join("f"), 0o600), Errno::NOENT);
    symlink("f", dir.join("l")).unwrap();
    refused(chmod(&dir.join("l"), 0o600), Errno::NOENT);
}

fn chown_is_kept(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    for (uid, gid) in [(1000, 1001), (NOBODY, 7), (4_000_000_000, 4_000_000_001), (0, 0)] {
        chown(dir.join("f"), Some(uid), Some(gid)).unwrap();
        assert_eq!((lstat(dir.join("f")).uid(), lstat(dir.join("f")).gid()), (uid, gid));
    }
    chown(dir.join("f"), Some(5), None).unwrap();
    assert_eq!((lstat(dir.join("f")).uid(), lstat(dir.join("f")).gid()), (5, 0));
    chown(dir.join("f"), None, Some(6)).unwrap();
    assert_eq!((lstat(dir.join("f")).uid(), lstat(dir.join("f")).gid()), (5, 6));
}

fn chown_clears_setid(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    chmod(&path, 0o6755).unwrap();
    as_user(NOBODY, NOBODY, &[], || chown(&path, None, Some(NOBODY)).unwrap());
    assert_eq!(mode(&path), 0o755);
    chmod(&path, 0o6755).unwrap();
    chown(&path, Some(1), Some(1)).unwrap();
    assert_eq!(mode(&path), 0o755, "chown(2) clears the bits of executables for root too");
}

fn write_by_others_clears_setid(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"x").unwrap();
    chmod(&path, 0o6777).unwrap();
    as_user(NOBODY, NOBODY, &[], || fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"y").unwrap());
    assert_eq!(mode(&path), 0o777);
}

fn truncate_by_others_clears_setid(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"xyz").unwrap();
    chmod(&path, 0o6777).unwrap();
    as_user(NOBODY, NOBODY, &[], || fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1).unwrap());
    assert_eq!(mode(&path), 0o777);
}

fn chown_by_others_is_refused(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        refused(chown(&path, Some(NOBODY), None), Errno::PERM);
        refused(chmod(&path, 0o777), Errno::PERM);
    });
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    as_user(NOBODY, NOBODY, &[42], || {
        refused(chown(&path, Some(0), None), Errno::PERM);
        refused(chown(&path, None, Some(43)), Errno::PERM);
        chown(&path, None, Some(42)).unwrap();
    });
    assert_eq!(lstat(&path).gid(), 42);
}

fn sgid_directories_pass_their_group(dir: &Path) {
    let shared = dir.join("d");
    fs::create_dir(&shared).unwrap();
    chown(&shared, Some(0), Some(77)).unwrap();
    chmod(&shared, 0o2777).unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        fs::write(shared.join("f"), b"").unwrap();
        fs::create_dir(shared.join("e")).unwrap();
        symlink("x", shared.join("l")).unwrap();
    });
    for name in ["f", "e", "l"] {
        assert_eq!((lstat(shared.join(name)).gid(), lstat(shared.join(name)).uid()), (77, NOBODY), "{name}");
    }
    assert_eq!(mode(&shared.join("e")) & 0o2000, 0o2000);
    assert_eq!(mode(&shared.join("f")) & 0o2000, 0);
    for (name, bits, groups, found) in
        [("theirs", 0o2755, &[][..], 0o755), ("ours", 0o2755, &[77], 0o2755), ("locked", 0o2745, &[], 0o2745)]
    {
        as_user(NOBODY, NOBODY, groups, || {
            fs::OpenOptions::new().write(true).create_new(true).mode(bits).open(shared.join(name)).unwrap();
        });
        assert_eq!(format!("{:o}", mode(&shared.join(name))), format!("{found:o}"), "{name}");
    }
}

fn sticky_directories_protect(dir: &Path) {
    chmod(dir, 0o1777).unwrap();
    fs::write(dir.join("roots"), b"").unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        fs::write(dir.join("mine"), b"").unwrap();
        refused(fs::remove_file(dir.join("roots")), Errno::PERM);
        refused(fs::rename(dir.join("roots"), dir.join("x")), Errno::PERM);
        refused(fs::rename(dir.join("mine"), dir.join("roots")), Errno::PERM);
    });
    as_user(1234, 1234, &[], || refused(fs::remove_file(dir.join("mine")), Errno::PERM));
    as_user(NOBODY, NOBODY, &[], || fs::remove_file(dir.join("mine")).unwrap());
}

fn modes_stop_others(dir: &Path) {
    fs::write(dir.join("f"), b"secret").unwrap();
    chmod(&dir.join("f"), 0o640).unwrap();
    chown(dir.join("f"), Some(0), Some(42)).unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        refused(File::open(dir.join("f")), Errno::ACCESS);
        refused(File::create(dir.join("new")), Errno::ACCESS);
        refused(fs::create_dir(dir.join("d")), Errno::ACCESS);
        refused(fs::remove_file(dir.join("f")), Errno::ACCESS);
        refused(fs::rename(dir.join("f"), dir.join("g")), Errno::ACCESS);
    });
    as_user(NOBODY, NOBODY, &[42], || {
        assert_eq!(fs::read(dir.join("f")).unwrap(), b"secret");
        refused(fs::OpenOptions::new().append(true).open(dir.join("f")), Errno::ACCESS);
    });
    chmod(&dir.join("f"), 0o400).unwrap();
    fs::OpenOptions::new().append(true).open(dir.join("f")).unwrap();
}

fn search_permission(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    fs::write(dir.join("d/f"), b"x").unwrap();
    chmod(&dir.join("d"), 0o711).unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        assert_eq!(fs::read(dir.join("d/f")).unwrap(), b"x");
        refused(fs::read_dir(dir.join("d")).map(drop), Errno::ACCESS);
    });
    chmod(&dir.join("d"), 0o744).unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        refused(fs::symlink_metadata(dir.join("d/f")), Errno::ACCESS);
        assert_eq!(fs::read_dir(dir.join("d")).unwrap().count(), 1);
    });
}

fn access_asks_for_the_user(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    chmod(&path, 0o604).unwrap();
    let ask = |access| accessat(CWD, &path, access, AtFlags::EACCESS);
    ask(Access::READ_OK | Access::WRITE_OK).unwrap();
    refused(ask(Access::EXEC_OK), Errno::ACCESS);
    as_user(NOBODY, NOBODY, &[], || {
        ask(Access::READ_OK).unwrap();
        refused(ask(Access::WRITE_OK), Errno::ACCESS);
    });
    as_user(NOBODY, 0, &[], || refused(ask(Access::READ_OK), Errno::ACCESS));
}

fn root_owns_what_root_makes(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    symlink("f", dir.join("l")).unwrap();
    for name in ["f", "d", "l"] {
        assert_eq!((lstat(dir.join(name)).uid(), lstat(dir.join(name)).gid()), (0, 0), "{name}");
    }
}

fn users_own_what_they_make(dir: &Path) {
    chmod(dir, 0o777).unwrap();
    as_user(1234, 5678, &[], || {
        fs::write(dir.join("f"), b"").unwrap();
        fs::create_dir(dir.join("d")).unwrap();
        symlink("f", dir.join("l")).unwrap();
    });
    for name in ["f", "d", "l"] {
        assert_eq!((lstat(dir.join(name)).uid(), lstat(dir.join(name)).gid()), (1234, 5678), "{name}");
    }
}

fn sgid_is_dropped_for_strangers(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    chown(&path, Some(NOBODY), Some(42)).unwrap();
    as_user(NOBODY, NOBODY, &[], || chmod(&path, 0o2755).unwrap());
    assert_eq!(mode(&path), 0o755);
    as_user(NOBODY, NOBODY, &[42], || chmod(&path, 0o2755).unwrap());
    assert_eq!(mode(&path), 0o2755);
}

fn lchown_of_a_symlink(dir: &Path) {
    fs::write(dir.join("f"), b"").unwrap();
    symlink("f", dir.join("l")).unwrap();
    lchown(dir.join("l"), Some(3), Some(4)).unwrap();
    assert_eq!((lstat(dir.join("l")).uid(), lstat(dir.join("l")).gid(), lstat(dir.join("f")).uid()), (3, 4, 0));
}
