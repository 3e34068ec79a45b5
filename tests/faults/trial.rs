//! The same operation again and again, each time with the fault one step later.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use haosfs::error::Errno;

use crate::case::{Case, Loose};
use crate::ground::{self, PAST};
use crate::mounted::scratch::{Fs, Scratch};
use crate::mounted::union::{Driver, Lower, Union};
use crate::tree::compare::{Tolerance, differences};
use crate::tree::snapshot::Snapshot;

/// The kernel counts a merged directory's links as 1.
const TOLERANCE: Tolerance =
    Tolerance { nanoseconds: false, times: false, directory_links: true, xattrs: false, acls: false, hard_links: false };

/// Mounting is mostly waiting for the kernel.
const THREADS: usize = 4;

/// A lower and room for uppers.
pub struct Trial {
    scratch: Scratch,
    lower: [Lower; 1],
    runs: AtomicU32,
}

/// The trees that an operation may leave, and the steps from one to the other.
struct Reference {
    old: Vec<Snapshot>,
    new: Vec<Snapshot>,
    steps: Vec<String>,
}

/// Which tree a union shows; both where the operation changes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    old: bool,
    new: bool,
}

/// One union, with an upper of its own that goes with it.
struct Run<'a> {
    case: &'a Case,
    home: PathBuf,
    union: Union,
}

impl Trial {
    pub fn new() -> Self {
        let scratch = Scratch::new(Fs::Ext4);
        let tree = scratch.dir("tree");
        ground::grow(&tree);
        Self { scratch, lower: [Lower::Dir(tree)], runs: AtomicU32::new(0) }
    }

    /// What was written is a sound file system.
    pub fn end(self) {
        self.scratch.check();
    }

    /// Runs the operation with a death, `ENOSPC` and `EIO` at each of its steps.
    pub fn every_fault(&self, case: &Case) {
        let reference = self.reference(case);
        println!("{}: {} steps: {}", case.name, reference.steps.len(), reference.steps.join(" "));
        assert!(!reference.steps.is_empty(), "{}: the daemon counts nothing; was it built without debug assertions?", case.name);
        let next = AtomicUsize::new(1);
        let work = || {
            loop {
                let step = next.fetch_add(1, Ordering::Relaxed);
                if step > reference.steps.len() {
                    break;
                }
                self.die(case, &reference, step);
                for errno in [Errno::ENOSPC, Errno::EIO] {
                    self.fail(case, &reference, step, errno);
                }
            }
        };
        thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    }

    /// The steps of an operation, by the names of the system calls.
    pub fn steps(&self, case: &Case) -> Vec<String> {
        self.start(case, "die:0").act().1
    }

    fn start<'a>(&self, case: &'a Case, fault: &str) -> Run<'a> {
        let home = self.scratch.dir(&format!("home-{}", self.runs.fetch_add(1, Ordering::Relaxed)));
        let fault = format!("{fault}:{}", home.join("journal").display());
        let union = Union::with_fault(Driver::Haosfs, &self.lower, &home, case.options, fault);
        (case.before)(union.path());
        Run { case, home, union }
    }

    fn reference(&self, case: &Case) -> Reference {
        let mut run = self.start(case, "die:0");
        run.union.remount();
        let mut old = vec![run.shown()];
        run.act().0.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let mut new = vec![run.shown()];
        let mut run = self.start(case, "die:0");
        let (answer, steps) = run.act();
        answer.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        if case.loose == Loose::Links {
            // Names of a hard link that nobody has looked up are another file over a remount.
            old.push(self.start(case, "die:0").shown());
            new.extend(run.shown_by_kernel(&self.lower));
            new.push(run.shown());
        }
        run.union.remount();
        new.push(run.shown());
        assert_eq!(run.left_in_work(), [""; 0], "{}", case.name);
        Reference { old, new, steps }
    }

    fn die(&self, case: &Case, reference: &Reference, step: usize) {
        let tolerance = Tolerance { times: case.loose == Loose::Times, ..TOLERANCE };
        let mut run = self.start(case, &format!("die:{step}"));
        let (_, steps) = run.act();
        let what = format!("{}, dead before step {step} of {:?}", case.name, reference.steps);
        assert_eq!(steps, reference.steps[..step], "{what}");
        run.union.abandon();
        // The kernel keeps an index only where it may write, and mends it; so every other time haosfs has to.
        let by_kernel = match run.is_indexed() {
            true => step.is_multiple_of(2).then(|| run.taken_over_by_kernel(&self.lower)),
            false => run.shown_by_kernel(&self.lower),
        };
        run.union.mount();
        let shown = reference.tell(&what, &run.shown(), tolerance);
        if let Some(by_kernel) = by_kernel {
            assert_eq!(reference.tell(&format!("{what}, by the kernel"), &by_kernel, tolerance), shown, "{what}");
        }
        assert_eq!(run.left_in_work(), [""; 0], "{what}");
        if shown.old {
            (case.act)(run.union.path()).unwrap_or_else(|e| panic!("{what}, once more: {e}"));
            // Names of a hard link may be two files by now.
            let is_new = case.loose == Loose::Links || reference.tell(&what, &run.shown(), tolerance).new;
            assert!(is_new, "{what}, once more");
        }
    }

    fn fail(&self, case: &Case, reference: &Reference, step: usize, errno: Errno) {
        let word = if errno == Errno::EIO { "eio" } else { "enospc" };
        let run = self.start(case, &format!("{word}:{step}"));
        let (answer, steps) = run.act();
        let what = format!("{}, {errno:?} instead of step {step} of {:?}, then {:?}", case.name, reference.steps, &steps[step..]);
        assert_eq!(steps[..step], reference.steps[..step], "{what}");
        let failed = answer.err().map(|e| assert_eq!(e.raw_os_error(), Some(errno.0), "{what}")).is_some();
        // A time that cannot be set back stays.
        let times = case.loose == Loose::Times && steps[step - 1] == "utimens";
        let tolerance = Tolerance { times, ..TOLERANCE };
        for shown in run.shown_by_kernel(&self.lower).into_iter().chain([run.shown()]) {
            let shown = reference.tell(&what, &shown, tolerance);
            assert!(if failed { shown.old } else { shown.new }, "{what}: {shown:?}");
        }
        // What cannot be removed stays for the next mount.
        let is_removal = matches!(&*steps[step - 1], "unlink" | "rmdir");
        assert!(is_removal || run.left_in_work().is_empty(), "{what}: {:?}", run.left_in_work());
        if failed {
            (case.act)(run.union.path()).unwrap_or_else(|e| panic!("{what}, once more: {e}"));
            assert!(reference.tell(&what, &run.shown(), tolerance).new, "{what}, once more");
        }
    }
}

impl Reference {
    #[track_caller]
    fn tell(&self, what: &str, found: &Snapshot, tolerance: Tolerance) -> Shown {
        let from = |trees: &[Snapshot]| {
            trees.iter().map(|tree| differences(tree, found, tolerance)).min_by_key(Vec::len).unwrap_or_default()
        };
        let (from_old, from_new) = (from(&self.old), from(&self.new));
        let shown = Shown { old: from_old.is_empty(), new: from_new.is_empty() };
        assert!(
            shown.old || shown.new,
            "{what}: neither the old tree\n  {}\nnor the new one\n  {}",
            from_old.join("\n  "),
            from_new.join("\n  ")
        );
        shown
    }
}

impl Run<'_> {
    /// The operation, and the steps that it took.
    fn act(&self) -> (io::Result<()>, Vec<String>) {
        let journal = self.home.join("journal");
        fs::write(&journal, "").unwrap();
        let answer = (self.case.act)(self.union.path());
        let steps = fs::read_to_string(&journal).unwrap().lines().map(str::to_owned).collect();
        fs::remove_file(&journal).unwrap();
        (answer, steps)
    }

    fn shown(&self) -> Snapshot {
        self.view(self.union.path())
    }

    fn is_indexed(&self) -> bool {
        self.case.options.contains(&"index=on")
    }

    /// As the kernel shows it that mounts it to be written to.
    fn taken_over_by_kernel(&self, lowers: &[Lower]) -> Snapshot {
        let union = Union::with_options(Driver::Kernel, lowers, &self.home, &["index=on"]);
        self.view(union.path())
    }

    /// The kernel lists a whiteout in a directory of the upper alone, though it shows nothing of it; then there is no tree.
    fn shown_by_kernel(&self, lowers: &[Lower]) -> Option<Snapshot> {
        if let Loose::Whiteout(name) = self.case.loose
            && fs::symlink_metadata(self.union.upper().join(name)).is_ok_and(|meta| meta.file_type().is_char_device())
        {
            return None;
        }
        if self.is_indexed() {
            return None;
        }
        let known = |option: &&&str| !option.starts_with("fsync");
        let options: Vec<&str> = self.case.options.iter().filter(known).copied().collect();
        Some(self.view(Union::as_the_kernel_shows(self.union.upper(), lowers, &options).path()))
    }

    /// Times of directories are left out, and of what is new only that it is.
    fn view(&self, root: &Path) -> Snapshot {
        let mut snapshot = Snapshot::read(root).unwrap_or_else(|e| panic!("{}: {e}", self.case.name)).without_root();
        for seen in snapshot.names.values_mut() {
            let is_dir = seen.mode & libc::S_IFMT == libc::S_IFDIR;
            if is_dir {
                seen.mtime = (0, 0);
            } else if seen.mtime.0 > PAST {
                seen.mtime = (i64::MAX, 0);
            }
            if self.case.loose == Loose::Links {
                seen.nlink = 0;
                seen.first_name.clear();
            }
        }
        snapshot
    }

    /// Names in the work directory, but for the whiteout that others are links of.
    fn left_in_work(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.join("work/work")).unwrap().map(Result::unwrap);
        let left = entries.filter(|entry| !entry.file_type().unwrap().is_char_device());
        left.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.union.abandon();
        if let Err(e) = fs::remove_dir_all(&self.home) {
            eprintln!("{}: {e}", self.home.display());
        }
    }
}
