//! Many threads at once over the same lower names.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;

use super::content::{MANY, big};
use super::union_cases;
use crate::mounted::union::Union;
use crate::suite::assertions::names;

union_cases![
    one_copy_up_for_all_writers, readers_see_old_or_new, one_of_many_removes, one_of_many_creates, a_crowd_in_one_directory,
    directories_come_and_go, renames_lose_nothing;
];

const THREADS: usize = 4;

/// Runs the same work in several threads that begin together.
fn together(work: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(THREADS);
    scope(|scope| {
        for who in 0..THREADS {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(who);
            });
        }
    });
}

fn one_copy_up_for_all_writers(union: &mut Union) {
    let path = union.path().join("big");
    together(|who| {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        (0..20).for_each(|_| file.write_all(&[b'0' + who as u8; 10]).unwrap());
    });
    let (bytes, old) = (fs::read(&path).unwrap(), big());
    assert_eq!(bytes.len(), old.len() + THREADS * 200);
    assert!(bytes[..old.len()] == old[..]);
    for who in 0..THREADS {
        assert_eq!(bytes[old.len()..].iter().filter(|&&b| b == b'0' + who as u8).count(), 200, "writer {who}");
    }
}

/// While one thread copies up by replacing a byte, the others read the whole file: with the old byte or the new one.
fn readers_see_old_or_new(union: &mut Union) {
    let (path, old) = (union.path().join("big"), big());
    together(|who| {
        if who == 0 {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[!old[1000]], 1000).unwrap();
            return;
        }
        for _ in 0..20 {
            let now = fs::read(&path).unwrap();
            assert_eq!(now.len(), old.len());
            assert!(now[..1000] == old[..1000] && now[1001..] == old[1001..]);
            assert!(now[1000] == old[1000] || now[1000] == !old[1000]);
        }
    });
    assert_eq!(fs::read(&path).unwrap()[1000], !old[1000]);
}

fn one_of_many_removes(union: &mut Union) {
    let removed = AtomicUsize::new(0);
    together(|_| {
        for i in 0..MANY {
            if fs::remove_file(union.path().join(format!("many/n{i:03}"))).is_ok() {
                removed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!((removed.into_inner(), names(union.path().join("many")).len()), (MANY, 0));
}

fn one_of_many_creates(union: &mut Union) {
    let created = AtomicUsize::new(0);
    fs::remove_file(union.path().join("many/n007")).unwrap();
    together(|_| {
        for i in 0..50 {
            let name = if i == 0 { "many/n007".to_owned() } else { format!("many/new{i}") };
            if File::create_new(union.path().join(name)).is_ok() {
                created.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!((created.into_inner(), names(union.path().join("many")).len()), (50, MANY + 49));
}

fn a_crowd_in_one_directory(union: &mut Union) {
    let dir = union.path().join("many");
    together(|who| {
        for i in (who..MANY).step_by(THREADS) {
            let (old, new) = (dir.join(format!("n{i:03}")), dir.join(format!("moved{i:03}")));
            fs::write(&old, who.to_string()).unwrap();
            fs::rename(&old, &new).unwrap();
            assert!(names(&dir).len() >= MANY - THREADS);
        }
    });
    let expected: Vec<String> = (0..MANY).map(|i| format!("moved{i:03}")).collect();
    assert!(names(&dir) == expected);
}

fn directories_come_and_go(union: &mut Union) {
    together(|who| {
        for round in 0..20 {
            let dir = union.path().join("dir/sub").join(format!("{who}"));
            fs::create_dir_all(dir.join("x/y")).unwrap();
            fs::write(dir.join("x/y/f"), round.to_string()).unwrap();
            fs::remove_dir_all(&dir).unwrap();
        }
    });
    assert_eq!(names(union.path().join("dir/sub")), ["deep", "deeper"]);
}

/// Every thread moves its own files to and fro between two lower directories.
fn renames_lose_nothing(union: &mut Union) {
    let (here, there) = (union.path().join("many"), union.path().join("empty"));
    together(|who| {
        for i in (who..100).step_by(THREADS) {
            let name = format!("n{i:03}");
            fs::rename(here.join(&name), there.join(&name)).unwrap();
            if i % 2 == 0 {
                fs::rename(there.join(&name), here.join(&name)).unwrap();
            }
        }
    });
    assert_eq!((names(&here).len(), names(&there).len()), (MANY - 50, 50));
}
