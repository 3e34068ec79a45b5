//! Tables for the `-o` vocabulary.

use super::*;

fn parse(list: &str) -> Result<MountOptions> {
    let mut options = MountOptions::default();
    options.read(OsStr::new(list)).map(|()| options)
}

#[test]
fn overlayfs_layers_are_paths_with_escapes() {
    let options = parse(r"lowerdir=/a:/b\:c:/d\,e,upperdir=/u p,workdir=/w\\x").unwrap();
    assert_eq!(options.lowerdir, ["/a", "/b:c", "/d,e"].map(PathBuf::from));
    assert_eq!(options.upperdir, Some(PathBuf::from("/u p")));
    assert_eq!(options.workdir, Some(PathBuf::from(r"/w\x")));
    let added = parse("lowerdir+=/a:b,lowerdir+=/c").unwrap();
    assert_eq!(added.lowerdir, ["/a:b", "/c"].map(PathBuf::from));
}

#[test]
fn paths_are_bytes() {
    let mut options = MountOptions::default();
    options.read(OsStr::from_bytes(b"upperdir=/\xff\xfe")).unwrap();
    assert_eq!(options.upperdir, Some(PathBuf::from(OsStr::from_bytes(b"/\xff\xfe"))));
}

#[test]
fn values_are_read() {
    let default = MountOptions::default;
    let table = [
        ("", default()),
        ("rw", default()),
        ("ro", MountOptions { access: Access::ReadOnly, ..default() }),
        ("ro,rw", default()),
        (
            "nosuid,nodev,noexec,noatime",
            MountOptions { nosuid: true, nodev: true, noexec: true, atime: Atime::Never, ..default() },
        ),
        ("nosymfollow,sync", MountOptions { nosymfollow: true, sync: true, ..default() }),
        ("nosymfollow,sync,symfollow,async", default()),
        ("noatime,strictatime", MountOptions { atime: Atime::Strict, ..default() }),
        ("nosuid,nodev,noexec,suid,dev,exec,noatime,relatime", default()),
        ("allow_other,default_permissions", MountOptions { allow_other: true, ..default() }),
        ("offset=4096", MountOptions { offset: Some(4096), ..default() }),
        ("uid=1000,gid=100", MountOptions { uid: Some(1000), gid: Some(100), ..default() }),
        ("squash_to_uid=7,squash_to_gid=8", MountOptions { uid: Some(7), gid: Some(8), ..default() }),
        ("squash_to_root", MountOptions { uid: Some(0), gid: Some(0), ..default() }),
        ("fsync=auto", default()),
        ("fsync=strict", MountOptions { fsync: Fsync::Strict, ..default() }),
        ("fsync=volatile", MountOptions { fsync: Fsync::Volatile, ..default() }),
        ("volatile", MountOptions { fsync: Fsync::Volatile, ..default() }),
        ("userxattr", MountOptions { userxattr: true, ..default() }),
        (
            "data_cache=16M,metadata_cache=512K,listing_cache=1g",
            MountOptions {
                data_cache: Some(16 << 20),
                metadata_cache: Some(512 << 10),
                listing_cache: Some(1 << 30),
                ..default()
            },
        ),
        ("xino=off", MountOptions { xino: Xino::Off, ..default() }),
        ("xino=on", MountOptions { xino: Xino::On, ..default() }),
        ("threads=4", MountOptions { threads: Some(4), ..default() }),
        ("cpu_latency=any", MountOptions { cpu_latency: Latency::Any, ..default() }),
        ("cpu_latency=0", MountOptions { cpu_latency: Latency::Micros(0), ..default() }),
        ("cpu_latency=2,cpu_latency=auto", default()),
        ("fsname=a=b", MountOptions { fsname: Some("a=b".into()), ..default() }),
        ("metacopy=off,nfs_export=off,xino=auto,subtype=haosfs", default()),
        ("uuid=on", MountOptions { uuid: Uuid::On, ..default() }),
        ("uuid=off", MountOptions { uuid: Uuid::Off, ..default() }),
        ("uuid=null", default()),
        ("index=off", MountOptions { index: Some(false), ..default() }),
        ("index=on", MountOptions { index: Some(true), ..default() }),
        ("redirect_dir=on", MountOptions { redirect_dir: Some(RedirectDir::On), ..default() }),
        ("redirect_dir=off", MountOptions { redirect_dir: Some(RedirectDir::Follow), ..default() }),
        ("redirect_dir=follow", MountOptions { redirect_dir: Some(RedirectDir::Follow), ..default() }),
        ("redirect_dir=nofollow", MountOptions { redirect_dir: Some(RedirectDir::NoFollow), ..default() }),
        ("metacopy=on", MountOptions { metacopy: true, ..default() }),
    ];
    for (list, expected) in table {
        assert_eq!(parse(list).unwrap(), expected, "{list}");
    }
}

#[test]
fn what_mount_passes_on_is_ignored() {
    for list in [
        "nofail,_netdev,user,users,owner,group,x-systemd.automount,x-a=b,X-mount.mkdir,comment=hi,defaults,auto,,noauto",
        "user=somebody,dirsync,lazytime,nolazytime,iversion,noiversion,mand,nomand",
    ] {
        assert_eq!(parse(list).unwrap(), MountOptions::default());
    }
}

#[test]
fn refusals_name_the_option_and_what_was_expected() {
    for (list, message) in [
        ("frobnicate", "unknown option frobnicate"),
        ("frobnicate=1", "unknown option frobnicate"),
        ("ro=1", "unknown option ro"),
        ("remount", "unknown option remount"),
        ("sync=1", "unknown option sync"),
        ("context=system_u:object_r:removable_t", "unknown option context"),
        ("offset=x", "option offset=x: expected BYTES"),
        ("offset", "option offset: expected offset=BYTES"),
        ("threads=0", "option threads=0: expected a number from 1 to 256"),
        ("cpu_latency=1001", "option cpu_latency=1001: expected auto, any or a number from 0 to 1000"),
        ("cpu_latency=off", "expected auto, any or"),
        ("threads=257", "expected a number from 1 to 256"),
        ("uid=4294967295", "option uid=4294967295: expected a number from 0 to 4294967294"),
        ("uid=-1", "expected a number"),
        ("fsync=never", "option fsync=never: expected auto, strict or volatile"),
        ("data_cache=12Q", "option data_cache=12Q: expected BYTES"),
        ("nfs_export=on", "option nfs_export: this overlayfs feature is not supported; expected off"),
        ("uuid=new", "option uuid=new: expected null, off, auto or on"),
        ("index=1", "option index=1: expected on or off"),
        ("redirect_dir=yes", "option redirect_dir=yes: expected on, off, follow or nofollow"),
        ("metacopy=1", "option metacopy=1: expected on or off"),
        ("lowerdir=/a::/b", "option lowerdir: a path between colons is empty"),
        ("lowerdir=", "option lowerdir=: expected PATH"),
        ("upperdir=", "option upperdir=: expected PATH"),
        ("workdir", "option workdir: expected workdir=PATH"),
        ("xino=maybe", "option xino=maybe: expected off, auto or on"),
        ("subtype=other", "option subtype=other: expected haosfs"),
    ] {
        let error = parse(list).unwrap_err().to_string();
        assert!(error.contains(message), "{list}: {error}");
    }
}

#[test]
fn features_that_exclude_each_other_are_refused() {
    let check = |list| parse(list).unwrap().check();
    for list in ["metacopy=on", "metacopy=on,redirect_dir=on", "userxattr", "userxattr,redirect_dir=off", "redirect_dir=on"] {
        assert!(check(list).is_ok(), "{list}");
    }
    for (list, message) in [
        ("metacopy=on,redirect_dir=off", "option metacopy=on: needs redirect_dir=on"),
        ("metacopy=on,userxattr", "option userxattr: excludes redirect_dir=on and metacopy=on"),
        ("userxattr,redirect_dir=on", "option userxattr: excludes redirect_dir=on and metacopy=on"),
    ] {
        let error = check(list).unwrap_err().to_string();
        assert!(error.contains(message), "{list}: {error}");
    }
}
