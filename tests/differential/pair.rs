//! Two unions over the same lowers, one begun by the kernel's overlayfs and one by haosfs.

use std::collections::HashSet;
use std::fs::{create_dir, symlink_metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::act::act;
use super::landscape::Landscape;
use super::layers::Rights;
use super::listed::{Cache, Kernels, same_answer};
use super::same::same_unions;
use super::step::{Action, Step};
use crate::history::op::Op;
use crate::mounted::union::{Driver, Lower, Union};

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The layers below, topmost first.
    pub lowers: Vec<Lower>,
    /// Further options of `-o`, for both drivers.
    pub options: &'static [&'static str],
    /// Who runs it.
    pub rights: Rights,
}

/// The two unions. The driver of each changes when the uppers are handed over.
pub struct Pair {
    unions: [Union; 2],
    rights: Rights,
    lowers_have_acls: bool,
    indexed: bool,
    /// Inodes of the kernel's upper that were given another name since the mount.
    linked: HashSet<u64>,
}

impl Pair {
    /// Mounts both with uppers of their own in an empty directory.
    pub fn new(setup: &Setup, home: &Path) -> Self {
        let unions = [Driver::Kernel, Driver::Haosfs].map(|driver| {
            let home = home.join(driver.name());
            create_dir(&home).unwrap();
            Union::with_options(driver, &setup.lowers, &home, setup.options)
        });
        let lowers_have_acls = setup.lowers.iter().all(|lower| matches!(lower, Lower::Dir(_)));
        let indexed = setup.options.contains(&"index=on");
        Self { unions, rights: setup.rights, lowers_have_acls, indexed, linked: HashSet::new() }
    }

    /// The union that the kernel drives now, and the one that haosfs does.
    fn now(&self) -> (&Union, &Union) {
        let [a, b] = &self.unions;
        if a.driver() == Driver::Kernel { (a, b) } else { (b, a) }
    }

    /// What there is to choose from.
    pub fn landscape(&self) -> Landscape {
        Landscape::of(self.now().0.path()).unwrap()
    }

    /// Takes a step on both sides.
    ///
    /// # Errors
    /// What differs.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        match step.action {
            Action::Compare => self.compare(Cache::Used),
            Action::Remount => self.remount(|driver| driver),
            Action::HandOver => self.remount(|driver| match driver {
                Driver::Kernel => Driver::Haosfs,
                Driver::Haosfs | Driver::HaosfsUser => Driver::Kernel,
            }),
            _ => self.act(step),
        }
    }

    fn act(&mut self, step: &Step) -> Result<(), String> {
        let (kernel, ours) = self.now();
        let listed = Kernels {
            root: kernel.path().to_path_buf(),
            upper: kernel.upper().to_path_buf(),
            lowers_have_acls: self.lowers_have_acls,
            indexed: self.indexed,
            linked: &self.linked,
        };
        if listed.would_differ(step) {
            return Ok(());
        }
        let (expected, found) = (act(kernel.path(), step), act(ours.path(), step));
        if let Action::Model(Op::Link(_, to)) = &step.action
            && let Ok(meta) = symlink_metadata(kernel.upper().join(to))
        {
            self.linked.insert(meta.ino());
        }
        if same_answer(step, &expected, &found) {
            return Ok(());
        }
        let brief = |answer: &Result<Vec<u8>, haosfs::error::Errno>| match answer {
            Ok(bytes) => format!("Ok with {} bytes {:?}", bytes.len(), &bytes[..bytes.len().min(40)]),
            Err(errno) => format!("{errno:?}"),
        };
        Err(format!("the kernel answers {}, haosfs {}", brief(&expected), brief(&found)))
    }

    fn compare(&self, cache: Cache) -> Result<(), String> {
        let (kernel, ours) = self.now();
        same_unions(kernel, ours, self.rights, cache, self.indexed)
    }

    fn remount(&mut self, next: impl Fn(Driver) -> Driver) -> Result<(), String> {
        self.compare(Cache::Used)?;
        self.linked.clear();
        for union in &mut self.unions {
            union.remount_by(next(union.driver()));
        }
        self.compare(Cache::Empty).map_err(|why| format!("after the remount: {why}"))
    }
}
