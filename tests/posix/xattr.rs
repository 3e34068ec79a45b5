//! Extended attributes (xattr(7)).

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::{Errno, Result};

use super::assertions::{pattern, refused};
use super::case::cases;
use crate::mounted::user::{NOBODY, as_user};

cases![
    set_get_list_remove, create_and_replace, empty_values, short_buffers, long_names_and_values, many_attributes, of_directories,
    user_attributes_of_symlinks_are_refused, unknown_namespaces_are_refused, attributes_follow_rename, by_descriptor, binary_values;
    trusted_attributes, capabilities, writing_drops_capabilities, others_see_no_trusted,
];

/// Value of an attribute, of the name itself.
pub fn get(path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut value = vec![0; 65536];
    let len = lgetxattr(path, name, value.as_mut_slice())?;
    value.truncate(len);
    Ok(value)
}

/// Sets an attribute, of the name itself.
pub fn set(path: &Path, name: &str, value: &[u8], flags: XattrFlags) -> Result<()> {
    lsetxattr(path, name, value, flags)
}

/// Names of all attributes but SELinux' label, sorted.
pub fn list(path: &Path) -> Vec<String> {
    let mut buffer = vec![0; 65536];
    let len = llistxattr(path, buffer.as_mut_slice()).unwrap();
    let names = buffer[..len].split(|&b| b == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.retain(|name| name != "security.selinux");
    names.sort();
    names
}

fn file(dir: &Path) -> std::path::PathBuf {
    fs::write(dir.join("f"), b"x").unwrap();
    dir.join("f")
}

fn set_get_list_remove(dir: &Path) {
    let path = file(dir);
    assert_eq!(list(&path), [""; 0]);
    set(&path, "user.b", b"two", XattrFlags::empty()).unwrap();
    set(&path, "user.a", b"one", XattrFlags::empty()).unwrap();
    assert_eq!(list(&path), ["user.a", "user.b"]);
    assert_eq!(get(&path, "user.a").unwrap(), b"one");
    set(&path, "user.a", b"other and longer", XattrFlags::empty()).unwrap();
    assert_eq!(get(&path, "user.a").unwrap(), b"other and longer");
    lremovexattr(&path, "user.a").unwrap();
    refused(get(&path, "user.a"), Errno::NODATA);
    refused(lremovexattr(&path, "user.a"), Errno::NODATA);
    assert_eq!(list(&path), ["user.b"]);
}

fn create_and_replace(dir: &Path) {
    let path = file(dir);
    refused(set(&path, "user.a", b"1", XattrFlags::REPLACE), Errno::NODATA);
    set(&path, "user.a", b"2", XattrFlags::CREATE).unwrap();
    refused(set(&path, "user.a", b"3", XattrFlags::CREATE), Errno::EXIST);
    assert_eq!(get(&path, "user.a").unwrap(), b"2");
    set(&path, "user.a", b"4", XattrFlags::REPLACE).unwrap();
    assert_eq!(get(&path, "user.a").unwrap(), b"4");
}

fn empty_values(dir: &Path) {
    let path = file(dir);
    set(&path, "user.empty", b"", XattrFlags::empty()).unwrap();
    assert_eq!(get(&path, "user.empty").unwrap(), b"");
    assert_eq!(list(&path), ["user.empty"]);
}

fn short_buffers(dir: &Path) {
    let path = file(dir);
    set(&path, "user.a", b"0123456789", XattrFlags::empty()).unwrap();
    refused(lgetxattr(&path, "user.a", &mut [0; 9][..]), Errno::RANGE);
    assert_eq!(lgetxattr(&path, "user.a", &mut [0; 10][..]).unwrap(), 10);
    assert_eq!(rustix::fs::lgetxattr_query(&path, "user.a").unwrap(), 10);
    refused(llistxattr(&path, &mut [0; 3][..]), Errno::RANGE);
    assert!(rustix::fs::llistxattr_query(&path).unwrap() >= 7);
}

/// ext4 keeps the attributes of a file in one block; elsewhere a value may have 64 KiB.
fn long_names_and_values(dir: &Path) {
    let path = file(dir);
    let longest = format!("user.{}", "n".repeat(250));
    set(&path, &longest, b"v", XattrFlags::empty()).unwrap();
    assert_eq!(get(&path, &longest).unwrap(), b"v");
    let error = set(&path, &format!("{longest}x"), b"v", XattrFlags::empty()).unwrap_err();
    assert!([Errno::RANGE, Errno::OPNOTSUPP].contains(&error), "{error:?}");
    for len in [2000, 60_000, 65_536] {
        let value = pattern(len, 1);
        match set(&path, "user.long", &value, XattrFlags::empty()) {
            Ok(()) => assert!(get(&path, "user.long").unwrap() == value, "{len} bytes"),
            Err(e) => assert!(len > 2000 && [Errno::NOSPC, Errno::TOOBIG].contains(&e), "{len} bytes: {e:?}"),
        }
    }
    refused(set(&path, "user.long", &[0; 65_537], XattrFlags::empty()), Errno::TOOBIG);
}

fn many_attributes(dir: &Path) {
    let path = file(dir);
    for i in 0..60_u8 {
        set(&path, &format!("user.n{i:02}"), &[i], XattrFlags::CREATE).unwrap();
    }
    assert_eq!(list(&path).len(), 60);
    assert_eq!(get(&path, "user.n42").unwrap(), [42]);
}

fn of_directories(dir: &Path) {
    fs::create_dir(dir.join("d")).unwrap();
    set(&dir.join("d"), "user.a", b"1", XattrFlags::empty()).unwrap();
    assert_eq!(list(&dir.join("d")), ["user.a"]);
    fs::create_dir(dir.join("d/e")).unwrap();
    assert_eq!(list(&dir.join("d/e")), [""; 0]);
}

fn user_attributes_of_symlinks_are_refused(dir: &Path) {
    symlink("f", dir.join("l")).unwrap();
    refused(set(&dir.join("l"), "user.a", b"1", XattrFlags::empty()), Errno::PERM);
}

fn unknown_namespaces_are_refused(dir: &Path) {
    let path = file(dir);
    refused(set(&path, "nobody.a", b"1", XattrFlags::empty()), Errno::OPNOTSUPP);
    refused(get(&path, "nobody.a"), Errno::OPNOTSUPP);
    refused(set(&dir.join("none"), "user.a", b"1", XattrFlags::empty()), Errno::NOENT);
}

fn attributes_follow_rename(dir: &Path) {
    let path = file(dir);
    set(&path, "user.a", b"1", XattrFlags::empty()).unwrap();
    fs::rename(&path, dir.join("g")).unwrap();
    assert_eq!(get(&dir.join("g"), "user.a").unwrap(), b"1");
}

fn by_descriptor(dir: &Path) {
    let handle = File::open(file(dir)).unwrap();
    rustix::fs::fsetxattr(&handle, "user.a", b"1", XattrFlags::empty()).unwrap();
    fs::remove_file(dir.join("f")).unwrap();
    let mut value = [0; 4];
    assert_eq!(rustix::fs::fgetxattr(&handle, "user.a", &mut value[..]).unwrap(), 1);
    rustix::fs::fremovexattr(&handle, "user.a").unwrap();
    refused(rustix::fs::fgetxattr(&handle, "user.a", &mut value[..]), Errno::NODATA);
}

fn binary_values(dir: &Path) {
    let path = file(dir);
    let every: Vec<u8> = (0..=255).collect();
    set(&path, "user.every", &every, XattrFlags::empty()).unwrap();
    assert_eq!(get(&path, "user.every").unwrap(), every);
}

fn trusted_attributes(dir: &Path) {
    let path = file(dir);
    set(&path, "trusted.a", b"1", XattrFlags::empty()).unwrap();
    assert_eq!((list(&path), get(&path, "trusted.a").unwrap()), (vec!["trusted.a".to_owned()], b"1".to_vec()));
    symlink("f", dir.join("l")).unwrap();
    set(&dir.join("l"), "trusted.a", b"2", XattrFlags::empty()).unwrap();
    assert_eq!(get(&dir.join("l"), "trusted.a").unwrap(), b"2");
    assert_eq!(get(&path, "trusted.a").unwrap(), b"1");
    lremovexattr(&path, "trusted.a").unwrap();
    assert_eq!(list(&path), [""; 0]);
}

/// `cap_net_raw=ep`, as `linux/capability.h` encodes revision 2.
pub const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn capabilities(dir: &Path) {
    let path = file(dir);
    set(&path, "security.capability", &CAP_NET_RAW, XattrFlags::empty()).unwrap();
    assert_eq!(get(&path, "security.capability").unwrap(), CAP_NET_RAW);
    assert_eq!(list(&path), ["security.capability"]);
    as_user(NOBODY, NOBODY, &[], || refused(set(&path, "security.capability", &CAP_NET_RAW, XattrFlags::empty()), Errno::PERM));
}

fn writing_drops_capabilities(dir: &Path) {
    let path = file(dir);
    set(&path, "security.capability", &CAP_NET_RAW, XattrFlags::empty()).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"y").unwrap();
    refused(get(&path, "security.capability"), Errno::NODATA);
}

fn others_see_no_trusted(dir: &Path) {
    let path = file(dir);
    set(&path, "trusted.a", b"1", XattrFlags::empty()).unwrap();
    as_user(NOBODY, NOBODY, &[], || {
        refused(get(&path, "trusted.a"), Errno::NODATA);
        refused(set(&path, "trusted.a", b"2", XattrFlags::empty()), Errno::PERM);
        refused(set(&path, "user.a", b"2", XattrFlags::empty()), Errno::ACCESS);
    });
}
