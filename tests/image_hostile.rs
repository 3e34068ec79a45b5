//! Images that are damaged, by chance or by intent: errors, and never a panic, a hang, or memory without end.
// What fails in the support of tests fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod image;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::mutate::{exercise, mutate};
use image::pack::{self, pack};
use image::random::Random;
use image::skip;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Mutations of each image.
const MUTATIONS: u64 = 250;
/// Bytes of private memory that a process may take for them.
const MEMORY: u64 = 256 << 20;
/// How long one image may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Says in a child process which image to damage.
const CHILD: &str = "HAOSFS_TEST_HOSTILE";

const PACKED: [&[&str]; 10] = [
    &["-comp", "gzip"],
    &["-comp", "lzo"],
    &["-comp", "xz"],
    &["-comp", "lz4"],
    &["-comp", "zstd"],
    // Without compression of metadata, damage reaches the structures and does not end in the decoder.
    &["-noI", "-noX", "-b", "4K"],
    &["-noI", "-noX", "-noD", "-noF"],
    &["-noI", "-noX", "-comp", "lz4", "-always-use-fragments"],
    &["-noI", "-noX", "-comp", "zstd", "-no-fragments"],
    &["-noI", "-noD", "-noF", "-comp", "xz", "-no-exports"],
];

fn small_tree(root: &Path) {
    image::tree::build_small(root);
}

/// Damages one image in many ways; runs in a process of its own, whose memory is limited.
fn run_child(dir: &Path) {
    let limit = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    setrlimit(Resource::Data, limit).unwrap();
    let original = fs::read(dir.join("image")).unwrap();
    let donor = fs::read(dir.join("donor")).unwrap();
    let progress = File::create(dir.join("progress")).unwrap();
    let mut opened = 0_u64;
    for seed in 0..MUTATIONS {
        progress.write_all_at(&seed.to_le_bytes(), 0).unwrap();
        let path = dir.join("damaged");
        fs::write(&path, mutate(&original, &donor, &mut Random(seed))).unwrap();
        opened += u64::from(exercise(&path));
    }
    progress.write_all_at(&MUTATIONS.to_le_bytes(), 0).unwrap();
    assert!(opened > MUTATIONS / 10, "only {opened} of the damaged images could be opened at all");
}

/// A child at work, ended with the test.
struct Worker {
    process: Child,
    dir: PathBuf,
    last: (u64, Instant),
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Worker {
    fn new(dir: &Path) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mutations", "--nocapture"])
            .env(CHILD, dir)
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { process, dir: dir.into(), last: (0, Instant::now()) }
    }

    /// True when all is done; panics when it went wrong or takes too long over one image.
    fn is_done(&mut self) -> bool {
        let mut seed = [0; 8];
        let _ = File::open(self.dir.join("progress")).map(|file| file.read_exact_at(&mut seed, 0));
        let seed = u64::from_le_bytes(seed);
        if let Some(status) = self.process.try_wait().unwrap() {
            let said = fs::read_to_string(self.dir.join("stderr")).unwrap();
            assert!(status.success() && seed == MUTATIONS, "{}, seed {seed}: {status}\n{said}", self.dir.display());
            return true;
        }
        if seed != self.last.0 {
            self.last = (seed, Instant::now());
        }
        assert!(self.last.1.elapsed() < TIME_LIMIT, "{}, seed {seed}: no end in sight", self.dir.display());
        false
    }
}

#[test]
fn mutations() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return run_child(Path::new(&dir));
    }
    if !pack::available() {
        return skip("mutations", "needs mksquashfs");
    }
    let dir = tempfile::tempdir().unwrap();
    small_tree(&dir.path().join("tree"));
    let images: Vec<PathBuf> = (0..PACKED.len()).map(|n| dir.path().join(n.to_string())).collect();
    for (at, options) in images.iter().zip(PACKED) {
        fs::create_dir(at).unwrap();
        pack(&dir.path().join("tree"), &at.join("image"), options);
    }
    for (at, next) in images.iter().zip(images.iter().cycle().skip(1)) {
        fs::copy(next.join("image"), at.join("donor")).unwrap();
    }
    let mut waiting = images.iter();
    let mut working: Vec<Worker> = waiting.by_ref().take(2).map(|at| Worker::new(at)).collect();
    while !working.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
        let before = working.len();
        working.retain_mut(|worker| !worker.is_done());
        working.extend(waiting.by_ref().take(before - working.len()).map(|at| Worker::new(at)));
    }
}
