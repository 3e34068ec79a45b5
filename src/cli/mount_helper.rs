//! What a call of mount(8) or umount(8) does, and the exit codes that they expect (mount(8), "EXIT STATUS").

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use super::arguments::MountArguments;
use super::helper_call::{Call, MountCall, UmountCall};
use super::log::Destination;
use super::{FAILURE, MOUNT_FAILURE, log_to};
use crate::commands;
use crate::error::{Error, Result};
use crate::mount;
use crate::sys::namespace;

/// A defect of our own (mount(8) calls it "internal mount bug").
const DEFECT: u8 = 4;

/// Does what was read from the command line. Errors go to standard error in one line.
pub fn answer(call: Result<Call>) -> ExitCode {
    let done = catch_unwind(AssertUnwindSafe(|| match call.map_err(|e| (FAILURE, e))? {
        Call::Mount(call) => mount_one(call),
        Call::Umount(call) => umount_one(&call),
    }));
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err((code, e))) => {
            eprintln!("haosfs: {e}");
            ExitCode::from(code)
        }
        // The panic has told of itself.
        Err(_) => ExitCode::from(DEFECT),
    }
}

fn mount_one(call: MountCall) -> Result<(), (u8, Error)> {
    enter(call.namespace.as_deref())?;
    let MountCall { spec, dir, mut options, sloppy, fake, verbose, fuse, .. } = call;
    let told = verbose.then(|| (spec.clone(), dir.clone(), options.join(",".as_ref())));
    if let Some((spec, dir, options)) = &told {
        println!("haosfs: mounting {} on {} with options {}", spec.display(), dir.display(), options.display());
    }
    if fuse {
        // What else is said of it comes later, and wins.
        options.insert(0, "backend=fuse".into());
    }
    super::mount(MountArguments {
        image: spec.clone(),
        mountpoint: dir.clone(),
        options,
        sloppy,
        verbose,
        dry_run: fake,
        ..MountArguments::default()
    })?;
    if let Some((spec, dir, _)) = told {
        let outcome = if fake { "can be mounted" } else { "is mounted" };
        println!("haosfs: {} {outcome} on {}", spec.display(), dir.display());
    }
    Ok(())
}

fn umount_one(call: &UmountCall) -> Result<(), (u8, Error)> {
    enter(call.namespace.as_deref())?;
    log_to(&Destination::Stderr)?;
    let unmounted =
        if call.force { mount::unmount_forced(&call.dir, call.lazy) } else { commands::umount::run(&call.dir, call.lazy) };
    if let (true, Err(e)) = (call.read_only, &unmounted) {
        tracing::warn!("{e}");
        commands::remount::read_only(&call.dir).map_err(|e| (MOUNT_FAILURE, e))?;
        if call.verbose {
            println!("haosfs: {} is read-only now", call.dir.display());
        }
        return Ok(());
    }
    unmounted.map_err(|e| (MOUNT_FAILURE, e))?;
    if call.verbose {
        println!("haosfs: {} is unmounted", call.dir.display());
    }
    Ok(())
}

/// mount(8) goes back to its own namespace before it calls a helper: that one has to enter the other itself.
fn enter(namespace: Option<&std::path::Path>) -> Result<(), (u8, Error)> {
    let Some(file) = namespace else { return Ok(()) };
    namespace::enter_mount_namespace(file).map_err(|e| (MOUNT_FAILURE, Error::sys("enter the mount namespace", file, e)))
}
