//! One row's work, in a process of its own: prints the seconds of each turn.

use std::path::Path;
use std::time::Instant;

use crate::corpus::plan;
use crate::row::{self, Kind, READERS};
use crate::{big_file, change, read};

/// Does the work of the row `name` on the union and prints a line for each turn.
pub fn perform(name: &str, union: &Path, plans: &Path) {
    let row = row::named(name).unwrap();
    let turns = if row.kind == Kind::ColdAndAgain { 2 } else { 1 };
    let work = prepare(name, union, plans);
    for _ in 0..turns {
        let began = Instant::now();
        work();
        println!("{}", began.elapsed().as_secs_f64());
    }
}

/// Everything that needs no union is done before the clock runs.
fn prepare<'a>(name: &str, union: &'a Path, plans: &'a Path) -> Box<dyn Fn() + 'a> {
    let paths = |list: &str| plan(plans, list).into_iter().map(|path| union.join(path)).collect::<Vec<_>>();
    let big = union.join("big");
    match name {
        "find" => Box::new(|| read::find(union)),
        "lstat" => {
            let names = paths("names");
            Box::new(move || read::lstat(&names))
        }
        "absent" => {
            let names = paths("absent");
            Box::new(move || read::absent(&names))
        }
        "open" => {
            let names = paths("names");
            Box::new(move || read::open(&names))
        }
        "tar" => Box::new(|| read::tar(union)),
        "readers" => {
            let orders: Vec<_> = (0..READERS).map(|number| paths(&format!("order-{number}"))).collect();
            Box::new(move || read::cat(&orders))
        }
        "cat4" => Box::new(|| read::cat_in_step(union, READERS)),
        "sequential" => Box::new(move || big_file::sequential(&big)),
        "random" => Box::new(move || big_file::random(&big)),
        "mapped" => Box::new(move || big_file::mapped(&big)),
        "copy-up" => Box::new(move || big_file::write_one(&big)),
        "chmod" => {
            let names = paths("changed");
            Box::new(move || change::chmod(&names))
        }
        "append" => {
            let names = paths("changed");
            Box::new(move || change::append(&names))
        }
        "unlink" => {
            let names = paths("changed");
            Box::new(move || change::unlink(&names))
        }
        "create" => Box::new(|| change::create(union, 0)),
        "create-4k" => Box::new(|| change::create(union, 4096)),
        "write" => Box::new(|| change::write(union)),
        "overwrite" => {
            let file = change::to_overwrite(union);
            Box::new(move || change::overwrite(&file))
        }
        "untar" => Box::new(|| change::untar(union, &plans.with_file_name("include.tar"))),
        _ => panic!("{name}: nothing to do"),
    }
}
