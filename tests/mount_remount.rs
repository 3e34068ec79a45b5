//! `mount -o remount`: ro and rw, nothing else.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cli/sbin.rs"]
mod sbin;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::process::Command;

use sbin::{Helper, Sbin, possible};

/// Options of the mount and of its superblock.
fn flags(sbin: &Sbin) -> (String, String) {
    let line = sbin.mountinfo("mnt").unwrap();
    let fields: Vec<&str> = line.split(' ').collect();
    (fields[5].to_owned(), fields.last().unwrap().split(',').next().unwrap().to_owned())
}

#[test]
fn a_union_becomes_read_only_and_writable_again() {
    if !possible("a_union_becomes_read_only_and_writable_again") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    sbin.sh("mount -t haosfs $IMG $MNT -o $UP,nosuid,nodev,noatime").succeeded();
    sbin.sh("echo one > $MNT/one").succeeded();
    sbin.sh("mount -o remount,ro $MNT").succeeded();
    assert_eq!(flags(&sbin), ("ro,nosuid,nodev,noatime".to_owned(), "ro".to_owned()));
    let refused = sbin.sh("echo two > $MNT/two");
    assert!(refused.stderr.contains("Read-only file system"), "{refused:?}");
    assert_eq!(sbin.sh("cat $MNT/one upper/one").succeeded().stdout, "one\none\n");
    sbin.sh("mount -o remount,ro $MNT && mount -o remount,rw $MNT && echo two > $MNT/two").succeeded();
    assert_eq!(flags(&sbin), ("rw,nosuid,nodev,noatime".to_owned(), "rw".to_owned()));
    // Without a word about it nothing changes.
    sbin.sh("/sbin/mount.haosfs $IMG $MNT -o remount && echo three > $MNT/three").succeeded();
    sbin.sh("umount mnt").succeeded();
    sbin.is_clean();
}

/// With an ext4 file system in `disk`; `None` where the test cannot run.
fn with_disk(test: &str) -> Option<Sbin> {
    if !possible(test) {
        return None;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let disk = sbin.scratch.path("disk");
    fs::File::create(&disk).unwrap().set_len(32 << 20).unwrap();
    // The namespace has no /sbin of that kind.
    let made = Command::new("/sbin/mkfs.ext4").arg("-qF").arg(&disk).status();
    support::can_run(test, made.is_ok_and(|status| status.success()), "needs mkfs.ext4").then_some(sbin)
}

/// The disk as it is at that moment, before the kernel writes out by itself.
#[test]
fn what_was_written_is_durable_once_read_only_or_with_sync() {
    const TEST: &str = "what_was_written_is_durable_once_read_only_or_with_sync";
    let Some(sbin) = with_disk(TEST) else { return };
    sbin.sh("mkdir c d && mount -o loop disk d").succeeded();
    sbin.sh("mkdir d/upper d/work").succeeded();
    for (options, then) in [("rw", "mount -o remount,ro $MNT"), ("sync,backend=auto", "true")] {
        let mount = format!("mount -t haosfs $IMG $MNT -o upperdir=$D/d/upper,workdir=$D/d/work,{options}");
        sbin.sh(&format!("{mount} && echo {options} > $MNT/new && {then} && cp disk after")).succeeded();
        let kept = sbin.sh("mount -o loop after c && cat c/upper/new; umount c").stdout;
        assert_eq!(kept, format!("{options}\n"));
        sbin.sh("umount mnt").succeeded();
    }
    sbin.sh("umount d").succeeded();
    sbin.is_clean();
}

/// Neither look-ups write to the upper nor do files that were read keep its file system writable; afterwards all is as before, and what
/// was looked up meanwhile stays one file.
#[test]
fn a_read_only_union_leaves_its_upper_alone() {
    const TEST: &str = "a_read_only_union_leaves_its_upper_alone";
    let Some(sbin) = with_disk(TEST) else { return };
    sbin.sh("mkdir d tree tree/a tree/b tree/c && mount -o loop disk d && mkdir d/upper d/work").succeeded();
    sbin.sh("echo old > tree/a/x; ln tree/a/x tree/b/x; ln tree/a/x tree/c/x").succeeded();
    let all = "find d/upper d/work -printf '%p %i %n %T@ %C@\\n' | sort";
    let up = "upperdir=$D/d/upper,workdir=$D/d/work";
    for access in ["rw", "ro"] {
        sbin.sh(&format!("mount -t haosfs $D/tree $MNT -o backend=fuse,{up},{access}")).succeeded();
        if access == "rw" {
            sbin.sh("echo new > $MNT/a/x && echo one > $MNT/one && mount -o remount,ro $MNT").succeeded();
        }
        let before = sbin.sh(all).succeeded().stdout;
        sbin.sh("ls -lR $MNT && cat $MNT/one $MNT/b/x").succeeded();
        assert_eq!(sbin.sh(all).succeeded().stdout, before, "{access}");
        sbin.sh("mount -o remount,ro d && cat $MNT/one && mount -o remount,rw d").succeeded();
        sbin.sh(&format!("mount -o remount,rw $MNT && echo {access} >> $MNT/one && echo two > $MNT/two")).succeeded();
        assert_eq!(sbin.sh("cat $MNT/b/x d/upper/b/x d/upper/c/x").succeeded().stdout, "new\nnew\nnew\n");
        sbin.sh("umount mnt").succeeded();
    }
    assert_eq!(sbin.sh("cat d/upper/one").succeeded().stdout, "one\nrw\nro\n");
    // A remount that the daemon is not told of.
    sbin.sh("rm -r d/upper/* && mount -t haosfs $D/tree $MNT -o backend=fuse,{up},ro".replace("{up}", up).as_str()).succeeded();
    sbin.sh("mount -i -o remount,rw $MNT && ls $MNT/b && echo newer > $MNT/a/x && ls $MNT/c && umount mnt").succeeded();
    assert_eq!(sbin.sh("cat d/upper/b/x d/upper/c/x").succeeded().stdout, "newer\nnewer\n");
    sbin.sh("umount d").succeeded();
    sbin.is_clean();
}

/// Words of mount(8)'s own: in fstab they must not keep a machine from booting.
#[test]
fn what_mount_8_says_of_any_file_system_is_done_or_passed_over() {
    if !possible("what_mount_8_says_of_any_file_system_is_done_or_passed_over") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "upper", "work"].map(|name| sbin.path(name));
    for (backend, sync) in [("fuse", "sync"), ("kernel", "async"), ("hybrid", "async")] {
        let words = format!("defaults,{sync},dirsync,lazytime,iversion,mand,nosymfollow,user=somebody,suid,dev,exec");
        let other = if sync == "sync" { "async" } else { "sync" };
        sbin.fstab(&format!("{image} {mnt} haosfs {words},upperdir={upper},workdir={work},backend={backend} 0 0\n"));
        sbin.sh("mount $MNT && ln -sf hello $MNT/link && test ! -e $MNT/link").succeeded();
        assert_eq!(flags(&sbin), ("rw,relatime,nosymfollow".to_owned(), "rw".to_owned()));
        assert_eq!(sbin.mountinfo("mnt").unwrap().contains(" rw,sync,"), sync == "sync", "{backend}");
        sbin.sh(&format!("/sbin/mount.haosfs $IMG $MNT -o remount,ro,{sync},nosymfollow")).succeeded();
        let words = format!("option {other}: a remount changes ro and rw");
        sbin.sh(&format!("/sbin/mount.haosfs $IMG $MNT -o remount,{other}")).failed(32, &words);
        sbin.sh("/sbin/mount.haosfs $IMG $MNT -o remount,symfollow").failed(32, "option symfollow: a remount changes");
        assert_eq!(flags(&sbin), ("ro,relatime,nosymfollow".to_owned(), "ro".to_owned()));
        assert_eq!(sbin.mountinfo("mnt").unwrap().contains(" ro,sync,"), sync == "sync", "{backend}");
        sbin.sh("haosfs umount $MNT").succeeded();
    }
    sbin.sh("mount -t haosfs $IMG $MNT -o sync,backend=kernel").failed(32, "only our daemon writes to the disk at once (sync)");
    sbin.sh("/sbin/mount.haosfs $IMG $MNT -o context=a").failed(1, "unknown option context");
    sbin.is_clean();
}

#[test]
fn a_union_in_use_or_without_an_upper_stays_as_it_is() {
    if !possible("a_union_in_use_or_without_an_upper_stays_as_it_is") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    sbin.sh("mount -t haosfs $IMG $MNT -o $UP").succeeded();
    sbin.sh("exec 3> $MNT/open; mount -o remount,ro $MNT").failed(32, "is busy: files are open for writing");
    assert_eq!(flags(&sbin).1, "rw");
    sbin.sh("umount mnt && mount -t haosfs $IMG $MNT").succeeded();
    sbin.sh("mount -o remount,rw $MNT").failed(32, "has no upper directory, so it stays read-only");
    assert_eq!(flags(&sbin).1, "ro");
    sbin.sh("umount mnt && mount -t haosfs $IMG $MNT -o ro,$UP && mount -o remount,rw $MNT && touch $MNT/new").succeeded();
    sbin.sh("umount mnt").succeeded();
    sbin.sh("/sbin/mount.haosfs $IMG $MNT -o remount,ro").failed(32, "is not a haosfs mount, which alone can be remounted");
    sbin.is_clean();
}

#[test]
fn other_changes_are_refused_by_name() {
    if !possible("other_changes_are_refused_by_name") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    sbin.sh("mount -t haosfs $IMG $MNT -o $UP,nosuid").succeeded();
    for (options, word) in
        [("remount,ro,noexec", "noexec"), ("remount,noatime", "noatime"), ("remount,ro,strictatime", "strictatime")]
    {
        let words = format!("option {word}: a remount changes ro and rw, nothing else; unmount and mount again with {word}");
        sbin.sh(&format!("mount -o {options} $MNT")).failed(32, &words);
        sbin.sh(&format!("/sbin/mount.haosfs $IMG $MNT -o {options}")).failed(32, &words);
    }
    // mount(8) itself drops what is the default, so only a direct call can ask for it.
    sbin.sh("/sbin/mount.haosfs $IMG $MNT -o remount,ro,suid").failed(32, "option suid: a remount changes ro and rw");
    sbin.sh("mount -o remount,ro,frobnicate $MNT").failed(1, "unknown option frobnicate");
    sbin.sh("mount -f -o remount,ro $MNT").succeeded();
    assert_eq!(flags(&sbin), ("rw,nosuid,relatime".to_owned(), "rw".to_owned()));
    sbin.sh("umount mnt").succeeded();
    sbin.is_clean();
}

/// mount(8) then adds all that fstab says.
#[test]
fn fstab_s_options_are_no_change() {
    if !possible("fstab_s_options_are_no_change") {
        return;
    }
    let sbin = Sbin::new(Helper::Haosfs);
    let [image, mnt, upper, work] = ["image.sqfs", "mnt", "upper", "work"].map(|name| sbin.path(name));
    let options = format!("nofail,nosuid,noatime,upperdir={upper},workdir={work},data_cache=1M,x-systemd.requires=a.service");
    sbin.fstab(&format!("{image} {mnt} haosfs {options} 0 0\n"));
    sbin.sh("mount $MNT && mount -o remount,ro $MNT").succeeded();
    assert_eq!(flags(&sbin), ("ro,nosuid,noatime".to_owned(), "ro".to_owned()));
    sbin.sh("mount -o remount,rw $MNT && touch $MNT/new").succeeded();
    sbin.sh("mount -o remount,ro,noexec $MNT").failed(32, "option noexec");
    sbin.sh("umount mnt").succeeded();
    sbin.is_clean();
}
