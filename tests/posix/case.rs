//! Running a table of functions on a target and comparing what failed with the list of exceptions.

use std::fs::{Permissions, create_dir, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::exceptions::{Exception, reason};
use crate::mounted::user::{NOBODY, as_user};

/// Who may run a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody who owns the directory.
    Anyone,
    /// Only root: it changes owners, makes devices or becomes another user.
    Root,
}

/// As whom a target is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Root, to whom every function is open.
    Root,
    /// The ordinary user "nobody", in threads of a process of root's.
    Nobody,
    /// Whoever this process is, without becoming anybody else: root of a user namespace.
    Itself,
}

impl Actor {
    /// True when the functions of `who` are open to it.
    pub fn may(self, who: Who) -> bool {
        self == Self::Root || who == Who::Anyone
    }
}

/// One promise.
#[derive(Clone, Copy)]
pub struct Case {
    /// The function's name.
    pub name: &'static str,
    /// Who may run it.
    pub who: Who,
    /// Asserts the promise in an empty directory.
    pub run: fn(&Path),
}

/// A table of functions of a path: those before the bar run as anyone, those after it as root only.
macro_rules! cases {
    ($($anyone:ident),* $(,)? ; $($root:ident),* $(,)?) => {
        pub const CASES: &[$crate::suite::case::Case] = &[
            $($crate::suite::case::Case { name: stringify!($anyone), who: $crate::suite::case::Who::Anyone, run: $anyone },)*
            $($crate::suite::case::Case { name: stringify!($root), who: $crate::suite::case::Who::Root, run: $root },)*
        ];
    };
}
pub(crate) use cases;

/// True when `HAOSFS_POSIX` is not set or is a part of the name.
pub fn is_wanted(name: &str) -> bool {
    std::env::var("HAOSFS_POSIX").map_or(true, |part| name.contains(&part))
}

/// Runs every function that the actor may run, in a directory of its own under `root`.
pub fn run_in(target: &str, root: &Path, actor: Actor, cases: &[Case]) {
    let mut verdict = Verdict::new(target);
    for case in cases.iter().filter(|case| is_wanted(case.name) && actor.may(case.who)) {
        let dir = root.join(case.name);
        verdict.judge(case.name, || match actor {
            Actor::Root => {
                create_dir(&dir).unwrap();
                set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
                chown(&dir, Some(0), Some(0)).unwrap();
                (case.run)(&dir);
            }
            Actor::Itself => {
                create_dir(&dir).unwrap();
                (case.run)(&dir);
            }
            Actor::Nobody => as_user(NOBODY, NOBODY, &[], || {
                create_dir(&dir).unwrap();
                (case.run)(&dir);
            }),
        });
    }
    verdict.close();
}

/// Counts what held and what did not.
pub struct Verdict<'a> {
    target: &'a str,
    held: usize,
    excused: usize,
    wrong: Vec<String>,
}

impl<'a> Verdict<'a> {
    /// Nothing judged yet.
    pub const fn new(target: &'a str) -> Self {
        Self { target, held: 0, excused: 0, wrong: Vec::new() }
    }

    /// Runs one function. A failure without an exception is wrong, and so is an exception for what holds.
    pub fn judge(&mut self, name: &str, work: impl FnOnce()) {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        let exception: Option<&Exception> = reason(self.target, name);
        match (outcome, exception) {
            (Ok(()), None) => self.held += 1,
            (Err(_), Some(_)) => self.excused += 1,
            (Ok(()), Some(exception)) if exception.always => {
                self.wrong.push(format!("{name}: holds, but is listed as an exception: {}", exception.why));
            }
            (Ok(()), Some(_)) => self.held += 1,
            (Err(panic), None) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                self.wrong.push(format!("{name}: {}", text.unwrap_or("panicked")));
            }
        }
    }

    /// Fails the test when anything was wrong.
    pub fn close(self) {
        println!("{}: {} hold, {} excepted, {} wrong", self.target, self.held, self.excused, self.wrong.len());
        assert!(self.wrong.is_empty(), "on {}:\n  {}", self.target, self.wrong.join("\n  "));
        assert!(self.held > 0, "{}: nothing was run", self.target);
    }
}
