//! Faults to order, for tests of what a crash or an error leaves in an upper. Only builds with debug assertions have them; in
//! others [`point`] is nothing.
//!
//! `HAOSFS_FAULT=WHAT:N:JOURNAL` counts the system calls that change or synchronise files from the moment at which the file
//! JOURNAL exists, and adds a line with the name of each to it. The N-th, with N from 1, is not made: `die` ends the process by
//! `SIGKILL` instead, `enospc` and `eio` answer that error. With N = 0 all are made.

/// What a system call that changes a file asks first, by its name.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) const fn point(_call: &str) -> Result<(), crate::error::Errno> {
    Ok(())
}

#[cfg(debug_assertions)]
pub(super) use ordered::point;

#[cfg(debug_assertions)]
mod ordered {
    use std::fs::File;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use crate::error::Errno;

    const VARIABLE: &str = "HAOSFS_FAULT";

    struct Order {
        /// `None` is death.
        errno: Option<Errno>,
        at: u64,
        journal: PathBuf,
        made: AtomicU64,
    }

    static ORDER: OnceLock<Option<Order>> = OnceLock::new();

    /// What a system call that changes a file asks first, by its name.
    pub(in crate::sys) fn point(call: &str) -> Result<(), Errno> {
        match ORDER.get_or_init(read) {
            Some(order) => order.meet(call),
            None => Ok(()),
        }
    }

    fn read() -> Option<Order> {
        let text = std::env::var(VARIABLE).ok()?;
        let order = parse(&text);
        if order.is_none() {
            tracing::error!("{VARIABLE}={text}: not of the form die:N:JOURNAL, enospc:N:JOURNAL or eio:N:JOURNAL");
        }
        order
    }

    fn parse(text: &str) -> Option<Order> {
        let (what, rest) = text.split_once(':')?;
        let (at, journal) = rest.split_once(':')?;
        let errno = match what {
            "die" => None,
            "enospc" => Some(Errno::ENOSPC),
            "eio" => Some(Errno::EIO),
            _ => return None,
        };
        Some(Order { errno, at: at.parse().ok()?, journal: journal.into(), made: AtomicU64::new(0) })
    }

    impl Order {
        fn meet(&self, call: &str) -> Result<(), Errno> {
            let Ok(mut journal) = File::options().append(true).open(&self.journal) else { return Ok(()) };
            // A journal that cannot be written to is found short by whoever reads it.
            let _ = writeln!(journal, "{call}");
            if self.made.fetch_add(1, Ordering::Relaxed) + 1 != self.at {
                return Ok(());
            }
            match self.errno {
                Some(errno) => Err(errno),
                None => Ok(kill_process(getpid(), Signal::KILL)?),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders() {
            let order = parse("enospc:3:/tmp/a:b").unwrap();
            assert_eq!((order.errno, order.at, order.journal), (Some(Errno::ENOSPC), 3, "/tmp/a:b".into()));
            assert!(parse("die:0:/j").is_some_and(|order| order.errno.is_none()));
            for wrong in ["", "die", "die:1", "die:x:/j", "erofs:1:/j"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
