//! POSIX access control lists (acl(5)), set and read as the raw attributes `system.posix_acl_*`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{XattrFlags, lremovexattr};
use rustix::io::Errno;

use super::assertions::{lstat, refused};
use super::case::cases;
use super::xattr::{get, set};
use crate::mounted::user::{NOBODY, as_user};

cases![
    ; access_lists_let_in, the_mask_limits, chmod_changes_the_mask, default_lists_are_inherited, the_umask_gives_way_to_default_lists,
    default_lists_come_and_go,
    minimal_lists_become_modes, damaged_lists_are_refused, only_owners_set_lists, removing_a_list,
];

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// Tags of acl(5) as `linux/posix_acl.h` numbers them.
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Encodes (tag, permission bits, id) entries as `linux/posix_acl_xattr.h` version 2.
fn encode(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for &(tag, bits, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// user:: rw, user NOBODY `bits`, group:: none, mask, other none.
fn with_nobody(bits: u16, mask: u16) -> Vec<u8> {
    let none = u32::MAX;
    encode(&[(USER_OBJ, 6, none), (USER, bits, NOBODY), (GROUP_OBJ, 0, none), (MASK, mask, none), (OTHER, 0, none)])
}

fn mode(path: &Path) -> u32 {
    lstat(path).mode() & 0o7777
}

fn access_lists_let_in(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"shared").unwrap();
    set(&path, ACCESS, &with_nobody(4, 7), XattrFlags::empty()).unwrap();
    assert_eq!(get(&path, ACCESS).unwrap(), with_nobody(4, 7));
    as_user(NOBODY, NOBODY, &[], || {
        assert_eq!(fs::read(&path).unwrap(), b"shared");
        refused(fs::OpenOptions::new().append(true).open(&path), Errno::ACCESS);
    });
    as_user(1234, 1234, &[], || refused(fs::File::open(&path), Errno::ACCESS));
}

fn the_mask_limits(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"shared").unwrap();
    set(&path, ACCESS, &with_nobody(6, 2), XattrFlags::empty()).unwrap();
    assert_eq!(mode(&path), 0o620);
    as_user(NOBODY, NOBODY, &[], || {
        refused(fs::File::open(&path), Errno::ACCESS);
        fs::OpenOptions::new().append(true).open(&path).unwrap();
    });
}

fn chmod_changes_the_mask(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"shared").unwrap();
    set(&path, ACCESS, &with_nobody(6, 6), XattrFlags::empty()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(get(&path, ACCESS).unwrap(), with_nobody(6, 4));
    as_user(NOBODY, NOBODY, &[], || {
        fs::File::open(&path).unwrap();
        refused(fs::OpenOptions::new().append(true).open(&path), Errno::ACCESS);
    });
}

fn default_lists_are_inherited(dir: &Path) {
    let list = with_nobody(6, 7);
    set(dir, DEFAULT, &list, XattrFlags::empty()).unwrap();
    assert_eq!(get(dir, DEFAULT).unwrap(), list);
    fs::create_dir(dir.join("d")).unwrap();
    assert_eq!(get(&dir.join("d"), DEFAULT).unwrap(), list);
    fs::write(dir.join("d/f"), b"x").unwrap();
    assert_eq!(get(&dir.join("d/f"), ACCESS).unwrap(), with_nobody(6, 6));
    refused(get(&dir.join("d/f"), DEFAULT), Errno::NODATA);
    assert_eq!(mode(&dir.join("d/f")), 0o660);
}

fn the_umask_gives_way_to_default_lists(dir: &Path) {
    set(dir, DEFAULT, &with_nobody(6, 6), XattrFlags::empty()).unwrap();
    crate::mounted::mount::run(std::process::Command::new("sh").current_dir(dir).args(["-c", "umask 077; : > f"]));
    assert_eq!(mode(&dir.join("f")), 0o660);
}

fn default_lists_come_and_go(dir: &Path) {
    let made = |name: &str| {
        let script = format!("umask 077; : > {name}; mkdir {name}-d");
        crate::mounted::mount::run(std::process::Command::new("sh").current_dir(dir).args(["-c", &script]));
        (mode(&dir.join(name)), mode(&dir.join(format!("{name}-d"))))
    };
    for turn in 0..2 {
        assert_eq!(made(&format!("without-{turn}")), (0o600, 0o700));
        set(dir, DEFAULT, &with_nobody(6, 6), XattrFlags::empty()).unwrap();
        assert_eq!(made(&format!("with-{turn}")), (0o660, 0o660));
        lremovexattr(dir, DEFAULT).unwrap();
    }
}

fn minimal_lists_become_modes(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    let minimal = encode(&[(USER_OBJ, 7, u32::MAX), (GROUP_OBJ, 5, u32::MAX), (OTHER, 1, u32::MAX)]);
    set(&path, ACCESS, &minimal, XattrFlags::empty()).unwrap();
    assert_eq!(mode(&path), 0o751);
    refused(get(&path, ACCESS), Errno::NODATA);
}

fn damaged_lists_are_refused(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    for list in [&b"xx"[..], &encode(&[(USER_OBJ, 7, u32::MAX)]), &[9; 28]] {
        assert!(set(&path, ACCESS, list, XattrFlags::empty()).is_err(), "{list:?}");
    }
    refused(set(&path, DEFAULT, &with_nobody(6, 6), XattrFlags::empty()), Errno::ACCESS);
}

fn only_owners_set_lists(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    as_user(NOBODY, NOBODY, &[], || refused(set(&path, ACCESS, &with_nobody(6, 6), XattrFlags::empty()), Errno::PERM));
}

fn removing_a_list(dir: &Path) {
    set(dir, DEFAULT, &with_nobody(6, 6), XattrFlags::empty()).unwrap();
    lremovexattr(dir, DEFAULT).unwrap();
    refused(get(dir, DEFAULT), Errno::NODATA);
    fs::write(dir.join("f"), b"").unwrap();
    refused(get(&dir.join("f"), ACCESS), Errno::NODATA);
}
