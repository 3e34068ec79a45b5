//! The `haosfs` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    haosfs::cli::run(std::env::args_os())
}
