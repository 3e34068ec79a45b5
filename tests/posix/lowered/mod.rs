//! What a union promises about content that lives in its lower: one function per promise, each on a fresh upper.

pub mod content;
pub mod copy_up;
pub mod directories;
pub mod identity;
pub mod kept;
pub mod layers;
pub mod parallel;
pub mod removal;
pub mod renames;
pub mod space;

use std::fs::create_dir;
use std::path::Path;

use super::case::{Actor, Verdict, Who, is_wanted};
use crate::mounted::union::{Driver, Lower, Union};
use crate::mounted::user::{NOBODY, as_user};

/// One promise of a union over the known content.
#[derive(Clone, Copy)]
pub struct UnionCase {
    /// The function's name.
    pub name: &'static str,
    /// Who may run it.
    pub who: Who,
    /// Asserts the promise.
    pub run: fn(&mut Union),
}

/// A table as [`super::case::cases`], of functions of a union.
macro_rules! union_cases {
    ($($anyone:ident),* $(,)? ; $($root:ident),* $(,)?) => {
        pub const CASES: &[$crate::suite::lowered::UnionCase] = &[
            $($crate::suite::lowered::UnionCase { name: stringify!($anyone), who: $crate::suite::case::Who::Anyone, run: $anyone },)*
            $($crate::suite::lowered::UnionCase { name: stringify!($root), who: $crate::suite::case::Who::Root, run: $root },)*
        ];
    };
}
pub(crate) use union_cases;

/// Runs every function that the actor may run on a union of `lower` and an upper of its own in `homes`.
pub fn run_over(target: &str, driver: Driver, actor: Actor, lower: &Lower, homes: &Path, options: &[&str]) {
    let mut verdict = Verdict::new(target);
    let tables =
        [copy_up::CASES, kept::CASES, removal::CASES, directories::CASES, renames::CASES, identity::CASES, parallel::CASES]
            .concat();
    for case in tables.into_iter().filter(|case| is_wanted(case.name) && actor.may(case.who)) {
        let home = homes.join(case.name);
        verdict.judge(case.name, || {
            create_dir(&home).unwrap();
            let mut union = Union::with_options(driver, std::slice::from_ref(lower), &home, options);
            match actor {
                Actor::Nobody => as_user(NOBODY, NOBODY, &[], || (case.run)(&mut union)),
                Actor::Root | Actor::Itself => (case.run)(&mut union),
            }
        });
    }
    verdict.close();
}
