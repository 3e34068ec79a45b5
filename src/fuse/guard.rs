//! What a panic costs: the request in which it happens, which is answered `EIO`, and nothing else.
//!
//! fuser would lose the thread, and with its first thread the mount. Where it panics by itself nobody would answer the request, and
//! its asker would wait for ever: then the daemon ends, and the mount answers `ENOTCONN`.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use crate::error::{Errno, Error, Result};

/// How fuser names the threads that answer requests.
const WORKER: &str = "fuser-";

thread_local! {
    static IN_UNION: Cell<bool> = const { Cell::new(false) };
}

/// Runs one operation. What it locked is unlocked when it unwinds, and every change is one system call: the union goes on as it is.
///
/// # Errors
/// Those of the operation; `EIO` where it panicked.
pub(super) fn guarded<T>(operation: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = IN_UNION.replace(true);
    let answer = panic::catch_unwind(AssertUnwindSafe(operation));
    IN_UNION.set(outer);
    answer.unwrap_or_else(|_| Err(Error::sys("answer", "a request that met a defect of haosfs", Errno::EIO)))
}

/// From now on a panic is logged, and ends the daemon where it comes in a thread that answers requests, but outside of
/// [`guarded`].
pub(super) fn watch() {
    panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        let thread = std::thread::current();
        let is_worker = thread.name().is_some_and(|name| name.starts_with(WORKER));
        if is_worker && !IN_UNION.try_with(Cell::get).unwrap_or(false) {
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_request_s_error() {
        let worker = std::thread::Builder::new().name(format!("{WORKER}0"));
        let answers = worker.spawn(|| {
            watch();
            let broken = guarded(|| -> Result<u8> { panic!("on purpose") });
            let nested = guarded(|| guarded(|| -> Result<u8> { panic!("on purpose") }).or_else(|_| guarded(|| Ok(2))));
            let whole = guarded(|| Ok(3));
            let _watched = panic::take_hook();
            (broken.map_err(|e| e.errno()), nested.unwrap_or(0), whole.unwrap_or(0))
        });
        assert_eq!(answers.unwrap().join().unwrap(), (Err(Errno::EIO), 2, 3));
    }
}
