//! mount(8) and umount(8) themselves, with haosfs as their helper: exit codes, words, and what mountinfo shows.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod disk;
#[allow(dead_code)]
#[path = "appliance/machine.rs"]
mod machine;
#[path = "cli/sbin.rs"]
mod sbin;
#[path = "cli/support.rs"]
mod support;
mod tree;

use std::fs;

use machine::Machine;
use sbin::{Helper, Sbin, possible};

/// What the helper is called with: a change here is a change of util-linux, and helper_call.rs must know it.
#[test]
fn mount_8_calls_its_helper_like_this() {
    if !possible("mount_8_calls_its_helper_like_this") {
        return;
    }
    let sbin = Sbin::new(Helper::Recorder);
    for (script, expected) in [
        ("mount -t haosfs $IMG $MNT", "mount.haosfs[$D/image.sqfs][$D/mnt][-o][rw]"),
        ("mount -t fuse.haosfs $IMG $MNT -o nosuid", "mount.fuse.haosfs[$D/image.sqfs][$D/mnt][-o][rw,nosuid]"),
        ("mount -t haosfs image.sqfs mnt", "mount.haosfs[$D/image.sqfs][$D/mnt][-o][rw]"),
        ("mount -f -t haosfs $IMG $MNT", "mount.haosfs[$D/image.sqfs][$D/mnt][-f][-o][rw]"),
        ("mount -s -n -v -t haosfs $IMG $MNT -o x", "mount.haosfs[$D/image.sqfs][$D/mnt][-s][-n][-v][-o][rw,x]"),
        ("mount -t haosfs.x $IMG $MNT", "mount.haosfs[$D/image.sqfs][$D/mnt][-o][rw][-t][haosfs.x]"),
        ("mount -t haosfs none $MNT -o lowerdir=a:b", "mount.haosfs[none][$D/mnt][-o][rw,lowerdir=a:b]"),
        ("mount -t haosfs 'a b,c' $MNT", "mount.haosfs[a b,c][$D/mnt][-o][rw]"),
    ] {
        sbin.sh(script).succeeded();
        assert_eq!(sbin.recorded(), expected, "{script}");
    }
}

/// umount(8) looks for `umount.fuse.haosfs` only where statfs(2), which says `fuse`, will not do for it (libmount,
/// `lookup_umount_fs_by_statfs`).
#[test]
fn umount_8_calls_its_helper_like_this() {
    if !possible("umount_8_calls_its_helper_like_this") {
        return;
    }
    let sbin = Sbin::new(Helper::Recorder);
    sbin.sh("haosfs mount $IMG $MNT").succeeded();
    for (script, expected) in [
        ("umount mnt", "umount.fuse.haosfs[$D/mnt]"),
        ("umount -l $MNT", "umount.fuse.haosfs[$D/mnt][-l]"),
        ("umount -n -f -v -r $MNT 2>/dev/null", "umount.fuse.haosfs[$D/mnt][-n][-f][-v][-r]"),
        ("umount -i $MNT && haosfs mount $IMG $MNT && umount $MNT", ""),
    ] {
        let finished = sbin.sh(script);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(sbin.recorded(), expected, "{script}");
    }
    sbin.is_clean();
}

#[test]
fn fstab_reaches_the_helper_like_this() {
    if !possible("fstab_reaches_the_helper_like_this") {
        return;
    }
    let sbin = Sbin::new(Helper::Recorder);
    let options = "nofail,_netdev,x-systemd.automount,X-mount.mkdir,noauto,comment=c,user,upperdir=/u,workdir=/w";
    sbin.fstab(&format!("{} {} haosfs {options} 0 0\n", sbin.path("image.sqfs"), sbin.path("mnt")));
    // The order of what fstab says is not promised.
    for (script, remounts) in [("mount $MNT", false), ("mount -o remount,ro $MNT", true)] {
        sbin.sh(script).succeeded();
        let line = sbin.recorded();
        let words = line.strip_prefix("mount.haosfs[$D/image.sqfs][$D/mnt][-o][").unwrap().trim_end_matches(']');
        let words: Vec<&str> = words.split(',').collect();
        for word in ["nofail", "_netdev", "user", "upperdir=/u", "workdir=/w", "nosuid", "nodev", "noexec"] {
            assert!(words.contains(&word), "{word} not in {line}");
        }
        assert_eq!(words.contains(&"remount"), remounts, "{line}");
        assert!(!words.iter().any(|w| w.starts_with("x-") || w.starts_with("X-") || w.starts_with("comment")), "{line}");
    }
    let elsewhere = sbin.sh("mount -N /proc/self/ns/mnt -t haosfs $IMG $MNT");
    elsewhere.succeeded();
    let line = sbin.recorded();
    assert!(line.starts_with("mount.haosfs[$D/image.sqfs][$D/mnt][-o][") && line.contains("][-N][/proc/"), "{line}");
}

#[test]
fn mount_8_mounts_by_both_types() {
    if !possible("mount_8_mounts_by_both_types") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    for kind in ["haosfs", "fuse.haosfs"] {
        sbin.sh(&format!("mount -t {kind} $IMG $MNT -o $UP,nosuid,noatime,nofail,_netdev")).succeeded();
        let line = sbin.mountinfo("mnt").unwrap();
        for part in [" rw,nosuid,noatime ", " - fuse.haosfs ", &sbin.path("image.sqfs"), "user_id=0", "allow_other"] {
            assert!(line.contains(part), "{part:?} not in {line:?}");
        }
        assert_eq!(sbin.sh("cat $MNT/hello && echo new > $MNT/new && cat upper/new").succeeded().stdout, "hello\nnew\n");
        // The daemon has ended when the helper is back: the upper can be used at once.
        sbin.sh("umount mnt").succeeded();
        assert_eq!(sbin.mountinfo("mnt"), None);
        assert_eq!(sbin.daemons(), []);
    }
    sbin.sh("mount -t haosfs none $MNT -o lowerdir=$D/image.sqfs:$D/outside").succeeded();
    assert!(sbin.mountinfo("mnt").unwrap().contains(" - fuse.haosfs none ro,"));
    sbin.sh("umount $MNT").succeeded();
    sbin.is_clean();
}

#[test]
fn fake_sloppy_and_verbose_calls_do_what_mount_8_says() {
    if !possible("fake_sloppy_and_verbose_calls_do_what_mount_8_says") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    sbin.sh("mount -f -t haosfs $IMG $MNT -o $UP").succeeded();
    assert_eq!(sbin.mountinfo("mnt"), None);
    sbin.sh("mount -f -t haosfs $D/gone $MNT").failed(32, "gone does not exist");
    fs::write(sbin.scratch.path("text"), "not an image at all\n").unwrap();
    for (source, options) in [("$D/text", "$UP"), ("$IMG", "backend=hybrid,lowerdir+=$D/text")] {
        let source = if options.contains("lowerdir") { "none" } else { source };
        sbin.sh(&format!("mount -f -t haosfs {source} $MNT -o {options}")).failed(32, "text: superblock at offset 0");
    }
    assert!(fs::read_dir(sbin.path("work")).unwrap().next().is_none());
    sbin.sh("mount -t haosfs $IMG $D/outside -o $UP").succeeded();
    sbin.sh("mount -f -t haosfs $IMG $MNT -o $UP").failed(32, "in use by another mount");
    sbin.sh("haosfs umount $D/outside && mkdir -p work/work/incompat/volatile").succeeded();
    sbin.sh("mount -f -t haosfs $IMG $MNT -o $UP").failed(32, "last used with the feature \"volatile\"");
    sbin.sh("rm -r work/work/incompat").succeeded();
    sbin.sh("mount -s -f -t haosfs $IMG $MNT -o frobnicate").succeeded_warning("unknown option frobnicate is passed over");
    let told = sbin.sh("mount -v -t haosfs $IMG $MNT -o ro").succeeded().stdout;
    let (image, mnt) = (sbin.path("image.sqfs"), sbin.path("mnt"));
    assert!(told.contains(&format!("haosfs: mounting {image} on {mnt} with options ro\n")), "{told}");
    assert!(told.contains(&format!("haosfs: {image} is mounted on {mnt}\n")), "{told}");
    let told = sbin.sh("umount -v mnt 2>&1").succeeded().stdout;
    assert!(told.contains(&format!("haosfs: {mnt} is unmounted\n")), "{told}");
    sbin.is_clean();
}

#[test]
fn what_is_wrong_is_told_with_mount_8_s_codes() {
    if !possible("what_is_wrong_is_told_with_mount_8_s_codes") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    fs::write(sbin.scratch.path("text"), "not an image at all\n".repeat(100)).unwrap();
    for (script, code, words) in [
        ("mount -t haosfs $IMG $MNT -o frobnicate", 1, "unknown option frobnicate"),
        ("mount -t haosfs $IMG $MNT -o threads=0", 1, "option threads=0: expected a number from 1 to 256"),
        ("mount -t haosfs.x $IMG $MNT", 1, "type haosfs.x: expected haosfs"),
        ("/sbin/mount.haosfs $IMG", 1, "usage: mount.haosfs SPEC DIR"),
        ("/sbin/umount.haosfs", 1, "usage: umount.haosfs DIR"),
        ("mount -t haosfs $D/gone.sqfs $MNT", 32, "lower layer $D/gone.sqfs does not exist"),
        ("mount -t haosfs $D/text $MNT", 32, "$D/text: superblock at offset 0"),
        ("mount -t haosfs $IMG $MNT -o upperdir=$D/gone,workdir=$D/work", 32, "upper directory $D/gone does not exist"),
        ("/sbin/mount.haosfs $IMG $D/nowhere", 32, "mountpoint $D/nowhere does not exist"),
        ("/sbin/umount.haosfs $MNT", 32, "$D/mnt is not a haosfs mount"),
        ("/sbin/mount.haosfs $IMG $MNT -N $D/text", 32, "enter the mount namespace $D/text"),
    ] {
        let words = words.replace("$D", sbin.path("").trim_end_matches('/'));
        sbin.sh(script).failed(code, &words);
        assert_eq!(sbin.mountinfo("mnt"), None, "{script}");
    }
    sbin.sh("mount -t haosfs $IMG $MNT -o $UP").succeeded();
    sbin.sh("mount -t haosfs $IMG $MNT").failed(32, "is busy: it is already a haosfs mount of ");
    sbin.sh("mount -t haosfs $IMG $D/outside -o $UP").failed(32, "in use by another mount");
    sbin.sh("exec 3< $MNT/hello; umount mnt").failed(32, "is busy: sh (pid ");
    // The same by umount(8) itself, which then asks no helper.
    let plain = sbin.sh("exec 3< $MNT/hello; umount $MNT");
    assert_eq!((plain.code, plain.stderr.contains("target is busy")), (Some(32), true), "{plain:?}");
    sbin.sh("umount $MNT").succeeded();
    sbin.is_clean();
}

#[test]
fn fstab_mounts_and_unmounts() {
    if !possible("fstab_mounts_and_unmounts") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let [d, image, mnt] = ["", "image.sqfs", "mnt"].map(|name| sbin.path(name));
    let d = d.trim_end_matches('/');
    let up = format!("upperdir={d}/upper,workdir={d}/work");
    fs::write(sbin.scratch.path("own"), format!("{image} {mnt} haosfs {up},nofail,x-systemd.requires-mounts-for=/data 0 0\n"))
        .unwrap();
    for script in ["mount -T own $MNT", "mount -a -T own", "mount -a -T own -t haosfs"] {
        sbin.sh(script).succeeded();
        assert!(sbin.mountinfo("mnt").unwrap().contains(" - fuse.haosfs "), "{script}");
        sbin.sh("umount $MNT").succeeded();
    }
    // `mount -a` mounts nothing twice.
    sbin.sh("mount -a -T own && mount -a -T own").succeeded();
    assert_eq!(sbin.daemons().len(), 1);
    sbin.sh("umount $MNT").succeeded();
    let bad = format!("{image} {mnt} haosfs frobnicate 0 0\n");
    fs::write(sbin.scratch.path("own"), bad).unwrap();
    sbin.sh("mount -T own $MNT").failed(1, "unknown option frobnicate");
    sbin.is_clean();
}

/// The source that is shown is the file, so that `mount -a` knows what is mounted.
#[test]
fn mount_8_mounts_by_haos_ini() {
    let tools = ["mkfs.ext4", "losetup", "partx", "mksquashfs"];
    let found = tools.into_iter().all(|tool| support::has_tool(tool) || fs::exists(format!("/usr/sbin/{tool}")).unwrap());
    let reason = "needs losetup, partx, mksquashfs and mkfs.ext4";
    let test = "mount_8_mounts_by_haos_ini";
    if !possible(test) || !support::can_run(test, found, reason) {
        return;
    }
    let machine = Machine::with("ext4");
    let sbin = Sbin::new(Helper::Haosfs);
    let (ini, mnt) = (machine.ini().into_os_string().into_string().unwrap(), sbin.path("mnt"));
    for (kind, options, shown) in [
        ("haosfs", "noatime", "overlay"),
        ("haosfs", "noatime,backend=hybrid", "overlay"),
        ("haosfs", "noatime,backend=fuse", "fuse.haosfs"),
        ("fuse.haosfs", "noatime", "fuse.haosfs"),
    ] {
        let what = format!("{kind} {options}");
        sbin.fstab(&format!("{ini} {mnt} {kind} {options},nofail,_netdev,x-systemd.automount 0 0\n"));
        sbin.sh(&format!("mount -t {kind} {ini} $MNT -o {options}")).succeeded();
        let line = sbin.mountinfo("mnt").unwrap();
        assert!(line.contains(" rw,noatime ") && line.contains(&format!(" - {shown} {ini} ")), "{what}: {line}");
        sbin.sh("mount -a && mount -a -t haosfs,fuse.haosfs").succeeded();
        sbin.sh("mount -o remount,ro $MNT && ! touch $MNT/new 2>/dev/null && mount -o remount,rw $MNT && touch $MNT/new")
            .succeeded();
        sbin.sh("/sbin/umount.haosfs $MNT -f && mount -a && umount $MNT").succeeded();
        // umount(8) does not wait for a daemon.
        sbin.is_clean();
        sbin.sh("mount -a && test -e $MNT/new && haosfs umount $MNT").succeeded();
        sbin.is_clean();
        machine.assert_nothing_is_left();
        assert_eq!(machine.meta("clean"), "yes", "{what}");
    }
}

#[test]
fn umount_8_has_its_ways() {
    if !possible("umount_8_has_its_ways") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let mount = "mount -t haosfs $IMG $MNT -o $UP";
    sbin.sh(&format!("{mount} && exec 3< $MNT/hello && umount -l $MNT && cat <&3")).succeeded();
    sbin.is_clean();
    // Forced, the daemon is stopped as well: it would never answer.
    sbin.sh(mount).succeeded();
    let pid = sbin.daemons()[0];
    sbin.sh(&format!("kill -STOP {pid} && (timeout -s KILL 2 umount -f $MNT; kill -CONT {pid})"));
    sbin.is_clean();
    // Busy, it can at least be made read-only.
    let busy = sbin.sh(&format!("{mount} && exec 3< $MNT/hello && umount -r mnt && ! touch $MNT/no 2>/dev/null"));
    assert_eq!(busy.code, Some(0), "{busy:?}");
    assert!(busy.stderr.contains("is busy: sh (pid "), "{busy:?}");
    assert!(sbin.mountinfo("mnt").unwrap().contains(" ro,"), "{:?}", sbin.mountinfo("mnt"));
    sbin.sh("umount $MNT").succeeded();
    sbin.is_clean();
}

/// mount(8) goes back to its own namespace before it calls the helper.
#[test]
fn another_mount_namespace_is_entered() {
    if !possible("another_mount_namespace_is_entered") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let script = "unshare -m --propagation private sleep 60 & n=/proc/$!/ns/mnt
        until [ $(readlink $n) != $(readlink /proc/self/ns/mnt) ]; do sleep 0.02; done
        mount -N $n -t haosfs $IMG $MNT -o $UP || exit 1
        nsenter --mount=$n cat $MNT/hello || exit 2
        ls $MNT
        umount -N $n $MNT || exit 3
        kill $!";
    assert_eq!(sbin.sh(script).succeeded().stdout, "hello\n");
    sbin.is_clean();
}
