//! haosfs as the helper of mount(8) and umount(8): installed as `mount.haosfs`, `mount.fuse.haosfs`, `umount.haosfs` and
//! `umount.fuse.haosfs`, of which the name tells what to do. It mounts, serves and unmounts as the program `haosfs` does under these
//! names, for systems that need nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    haosfs::cli::run_helper(std::env::args_os())
}
