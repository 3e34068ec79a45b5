//! Kernels that lack something, by a seccomp(2) filter.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::Finished;

/// What a program shall not find.
#[allow(dead_code, reason = "each test binary uses a part")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    Nothing,
    /// fsopen(2): before Linux 5.2.
    MountApi,
    /// Descriptors as values of fsconfig(2): overlayfs before Linux 6.13.
    Descriptors,
    /// Loop devices.
    Loop,
}

/// `LOOP_CTL_GET_FREE` (include/uapi/linux/loop.h).
const GET_FREE: u32 = 0x4C82;

/// `FSCONFIG_SET_FD` (include/uapi/linux/mount.h).
const SET_FD: u32 = 5;

impl Lacking {
    /// Runs a program that lacks it.
    pub fn run(self, command: &mut Command) -> Finished {
        // SAFETY: between fork and exec only prctl(2) runs; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || self.take_away()) };
        Finished::from(command.output().unwrap())
    }

    fn take_away(self) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::MountApi => refuse(libc::SYS_fsopen, None, libc::ENOSYS),
            Self::Descriptors => refuse(libc::SYS_fsconfig, Some(SET_FD), libc::EINVAL),
            Self::Loop => refuse(libc::SYS_ioctl, Some(GET_FREE), libc::ENODEV),
        }
    }
}

/// Makes a system call, or those of it whose second argument is this, answer `errno` in this process and its children.
fn refuse(call: libc::c_long, second: Option<u32>, errno: i32) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k };
    let load = |at| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let equal = |value, jt, jf| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    // The low half of `seccomp_data.args[1]` of a little-endian machine.
    let second_is = second.map_or_else(|| equal(0, 0, 0), |value| equal(value, 0, 1));
    let mut filter = [
        load(0),
        equal(u32::try_from(call).unwrap_or_default(), 0, 3),
        load(24),
        second_is,
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 6, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to six instructions that live until the call returns; the kernel copies them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
