//! Layer 7: the command line.

mod arguments;
mod boot_arguments;
mod boot_guard_arguments;
mod config_arguments;
mod helper_call;
mod install_arguments;
mod log;
mod mount_helper;
mod rauc_arguments;
mod update_arguments;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::commands;
use crate::commands::mount::Manner;
use crate::commands::remount;
use crate::config::mount_options::MountOptions;
use crate::config::remount::Remount;
use crate::error::{Errno, Error, Result};
use crate::mount::Request;
use crate::sys::steadfast;
use arguments::{Arguments, Command, MountArguments};
use boot_arguments::BootArguments;
use config_arguments::ConfigCommand;
use log::Destination;
use update_arguments::UpdateCommand;

/// Wrong usage, and failures of everything but mounting (mount(8) knows it as "incorrect invocation").
const FAILURE: u8 = 1;

/// A mount or an unmount failed (mount(8)).
const MOUNT_FAILURE: u8 = 32;

/// The system has no room for a daemon, or a signal came before it was ready (mount(8)).
const SYSTEM_ERROR: u8 = 2;
const INTERRUPTED: u8 = 8;

/// Wrong usage of `haosfs check`, and what kept it from checking anything (fsck(8)).
const CHECK_USAGE: u8 = 16;
const CHECK_FAILURE: u8 = 8;

/// Runs the program with these arguments, the first of which is its own name. Called as `mount.haosfs` or `umount.haosfs`, it is
/// that helper. Errors go to standard error in one line.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.first().is_some_and(|name| Path::new(name).file_name() == Some(rauc_arguments::NAME.as_ref())) {
        arguments.insert(1, rauc_arguments::NAME.into());
    }
    if let Some(call) = helper_call::read(&arguments) {
        return mount_helper::answer(call);
    }
    let usage = if arguments.get(1).is_some_and(|name| name == "check") { CHECK_USAGE } else { FAILURE };
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(e) => {
            // Help and version are errors to clap, too. There is nobody to tell when they cannot be printed.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(usage) } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(parsed.command) {
        Ok(code) => ExitCode::from(code),
        Err((code, e)) => {
            eprintln!("haosfs: {e}");
            ExitCode::from(code)
        }
    }
}

/// The command line as clap knows it, for completions.
#[must_use]
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Runs the program as nothing but the helper of mount(8) and umount(8), whatever its name.
pub fn run_helper(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    mount_helper::answer(helper_call::read_helper(&arguments))
}

/// Returns the exit code.
fn dispatch(command: Command) -> Result<u8, (u8, Error)> {
    match command {
        Command::Mount(arguments) => mount(arguments)?,
        Command::Umount { mountpoint, lazy } => {
            log_to(&Destination::Stderr).map_err(|(_, e)| (MOUNT_FAILURE, e))?;
            commands::umount::run(&mountpoint, lazy).map_err(|e| (MOUNT_FAILURE, e))?;
        }
        Command::Doctor { source, options, json } => {
            log_to(&Destination::Stderr)?;
            let mut read = MountOptions::default();
            options.iter().try_for_each(|list| read.read(list)).map_err(|e| (FAILURE, e))?;
            quiet_at_the_end(commands::doctor::run(source.map(|source| (source, read)), json))?;
        }
        Command::Status { mountpoint, json } => {
            log_to(&Destination::Stderr)?;
            quiet_at_the_end(commands::status::run(mountpoint.as_deref(), json))?;
        }
        Command::Check(arguments) => {
            log_to(&Destination::Stderr)?;
            return commands::check::run(&arguments.into_request()).map_err(|e| (CHECK_FAILURE, e));
        }
        Command::Image(command) => {
            log_to(&Destination::Stderr)?;
            quiet_at_the_end(commands::image::run(&command.into_action()))?;
        }
        Command::Config(command) => return config(command),
        Command::Update(command) => return update(command),
        Command::RaucBackend(arguments) => {
            log_to(&Destination::Stderr)?;
            let (ini, action) = arguments.into_action();
            quiet_at_the_end(commands::rauc_backend::run(&ini, &action))?;
        }
        Command::Boot(arguments) => boot(arguments)?,
        Command::BootGuard(arguments) => {
            log_to(&Destination::Stderr)?;
            return commands::boot_guard::run(&arguments.into_request()).map_err(|e| (FAILURE, e));
        }
        Command::Install(arguments) => {
            log_to(&Destination::Stderr)?;
            let remove = arguments.remove;
            let at = arguments.into_destination();
            let done = if remove { commands::install::remove(&at) } else { commands::install::install(&at) };
            done.map_err(|e| (FAILURE, e))?;
        }
        Command::Demo => {
            log_to(&Destination::Stderr)?;
            commands::demo::run().map_err(|e| (FAILURE, e))?;
        }
    }
    Ok(0)
}

fn config(command: ConfigCommand) -> Result<u8, (u8, Error)> {
    log_to(&Destination::Stderr)?;
    match commands::config::run(&command.into_action()) {
        Err(e) if e.errno() == Errno::EPIPE => Ok(0),
        answer => answer.map_err(|e| (FAILURE, e)),
    }
}

fn update(command: UpdateCommand) -> Result<u8, (u8, Error)> {
    log_to(&Destination::Stderr)?;
    match commands::update::run(&command.into_action()) {
        Err(failure) if failure.error.errno() != Errno::EPIPE => Err((failure.code, failure.error)),
        _ => Ok(0),
    }
}

/// A reader that has seen enough (`haosfs image ls x | head`) is no failure.
fn quiet_at_the_end(answer: Result<()>) -> Result<(), (u8, Error)> {
    match answer {
        Err(e) if e.errno() == Errno::EPIPE => Ok(()),
        answer => answer.map_err(|e| (FAILURE, e)),
    }
}

fn mount(arguments: MountArguments) -> Result<(), (u8, Error)> {
    let destination = match (&arguments.log, arguments.foreground || arguments.dry_run) {
        (Some(file), _) => Destination::File(file.clone()),
        (None, true) => Destination::Stderr,
        (None, false) => Destination::Syslog,
    };
    if let Some(remount) = Remount::asked(&arguments.options, arguments.sloppy).map_err(|e| (FAILURE, e))? {
        return remount_union(&arguments, &remount);
    }
    let (manner, verbose) = (arguments.manner(), arguments.verbose);
    let request = Request { dry_run: manner == Manner::DryRun, ..request(arguments).map_err(|e| (FAILURE, e))? };
    if request.options.rootfs && manner != Manner::DryRun && !steadfast::is_marked() {
        // Without the mark the daemon warns of itself.
        let _not_possible = steadfast::mark();
    }
    log_to(&destination).map_err(|(_, e)| (MOUNT_FAILURE, e))?;
    for name in &request.options.passed_over {
        tracing::warn!("unknown option {name} is passed over");
    }
    commands::mount::run(request, manner, verbose).map(drop).map_err(|e| (mount_code(&e), e))
}

/// Whatever comes of it, it is the kernel's log that is there early and late.
fn boot(arguments: BootArguments) -> Result<(), (u8, Error)> {
    if !steadfast::is_marked() {
        // Without the mark the daemon warns of itself.
        let _not_possible = steadfast::mark();
    }
    log_to(&Destination::Kernel)?;
    commands::boot::run(&arguments.into_request()).map_err(|e| (mount_code(&e), e))
}

fn remount_union(arguments: &MountArguments, remount: &Remount) -> Result<(), (u8, Error)> {
    log_to(&Destination::Stderr)?;
    for name in &remount.passed_over {
        tracing::warn!("unknown option {name} is passed over");
    }
    let way = if arguments.dry_run { remount::Manner::DryRun } else { remount::Manner::Real };
    remount::run(&arguments.mountpoint, remount, way).map_err(|e| (MOUNT_FAILURE, e))
}

/// By what the kernel answered to this process; a daemon's error has no number here.
fn mount_code(e: &Error) -> u8 {
    match e.errno() {
        Errno::EINTR => INTERRUPTED,
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE => SYSTEM_ERROR,
        _ => MOUNT_FAILURE,
    }
}

fn request(arguments: MountArguments) -> Result<Request> {
    let options = arguments.mount_options()?;
    let MountArguments { image, mountpoint, lower, upper, work, .. } = arguments;
    Request::new(image, mountpoint, lower, upper, work, options)
}

fn log_to(destination: &Destination) -> Result<(), (u8, Error)> {
    log::start(destination).map_err(|e| (FAILURE, e))
}
