//! Where a sandbox refuses fsopen(2), mount(2) takes its place.

#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use support::{Finished, HAOSFS, Scratch, can_run, is_root};

/// Makes fsopen(2) answer `errno` in this process and its children (seccomp(2)).
fn refuse_fsopen(errno: i32) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k };
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(libc::SYS_fsopen).unwrap_or_default()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to four instructions that live until the call returns; the kernel copies them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount_without_fsopen(scratch: &Scratch, errno: i32) -> Finished {
    let mut command = Command::new(HAOSFS);
    command.args(["mount", "image.sqfs", "mnt", "-o", "nosuid,noatime"]).current_dir(scratch.path(""));
    // SAFETY: between fork and exec only prctl(2) runs; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || refuse_fsopen(errno)) };
    Finished::from(command.output().unwrap())
}

#[test]
fn mount_2_takes_the_place_of_fsopen() {
    if !can_run("mount_2_takes_the_place_of_fsopen", is_root(), "needs root") {
        return;
    }
    let scratch = Scratch::with_image();
    for errno in [libc::ENOSYS, libc::EPERM] {
        mount_without_fsopen(&scratch, errno).succeeded();
        let line = scratch.mountinfo("mnt").unwrap();
        for part in [" ro,nosuid,noatime ", " - fuse.haosfs ", "user_id=0", "allow_other", "default_permissions"] {
            assert!(line.contains(part), "{part:?} not in {line:?}");
        }
        assert_eq!(fs::read_to_string(scratch.path("mnt/hello")).unwrap(), "hello\n");
        scratch.umount("mnt");
    }
}

#[test]
fn other_refusals_are_reported() {
    if !can_run("other_refusals_are_reported", is_root(), "needs root") {
        return;
    }
    let scratch = Scratch::with_image();
    mount_without_fsopen(&scratch, libc::ENOMEM).failed(32, "build the mount for ");
    assert_eq!(scratch.mountinfo("mnt"), None);
}
