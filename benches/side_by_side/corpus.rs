//! What is measured on: a tree taken from this machine's own /usr by a fixed recipe (the second: results until commit aa2bc3f
//! are of the first, which left no add-on out), and the images packed from it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::row::{CHANGES, NAMES, READERS};

/// Size of the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Regular files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// Bytes of the big file.
pub const BIG: u64 = 117_308_864;
const MILLION: usize = 1000;

/// The corpus on disk. It is kept for the next run of the same recipe.
#[derive(Debug)]
pub struct Corpus {
    /// Holds everything else.
    pub dir: PathBuf,
    /// The image.
    pub image: PathBuf,
    /// An image of a million inodes.
    pub million: PathBuf,
    /// Regular files, bytes and directories that came of it.
    pub counts: [u64; 3],
}

impl Corpus {
    /// Makes the corpus, or finds it made.
    pub fn make(dir: &Path, recipe: Recipe) -> Self {
        fs::create_dir_all(dir).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        let stamp = dir.join("recipe");
        let wanted = format!("2 {} {}\n", recipe.files, recipe.bytes);
        let kept = fs::read_to_string(&stamp).unwrap_or_default();
        let counts = match kept.strip_prefix(&wanted) {
            Some(counts) => counts.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<u64>>().try_into().unwrap(),
            None => {
                let counts = build(dir, recipe);
                fs::write(&stamp, format!("{wanted}{} {} {}\n", counts[0], counts[1], counts[2])).unwrap();
                counts
            }
        };
        let corpus = Self { dir: dir.to_owned(), image: dir.join("image.sqfs"), million: dir.join("million.sqfs"), counts };
        corpus.warm();
        corpus
    }

    /// Reads the images, so that they are in the page cache.
    pub fn warm(&self) {
        for image in [&self.image, &self.million] {
            std::io::copy(&mut fs::File::open(image).unwrap(), &mut std::io::sink()).unwrap();
        }
    }
}

/// The lists of names that a row works on, one a line.
pub fn plan(plans: &Path, name: &str) -> Vec<PathBuf> {
    let bytes = fs::read(plans.join(name)).unwrap();
    bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(|line| OsStr::from_bytes(line).into()).collect()
}

fn build(dir: &Path, recipe: Recipe) -> [u64; 3] {
    let tree = dir.join("tree");
    let _gone = fs::remove_dir_all(&tree);
    println!("making the corpus in {} ...", dir.display());
    let (files, bytes) = copy(&tree, recipe);
    big(&tree);
    let dirs = sorted(&tree).iter().filter(|path| path.is_dir()).count() as u64 + 1;
    plans(dir, &tree, &files);
    pack(&[tree.as_os_str()], &dir.join("image.sqfs"), &[]);
    fs::remove_dir_all(&tree).unwrap();
    run(Command::new("tar").arg("-C").arg("/usr").arg("-cf").arg(dir.join("include.tar")).arg("include"));
    million(dir);
    [files.len() as u64 + 1, bytes + BIG, dirs]
}

/// Copies regular files, directories and links of /usr in the order of their names, so many that they make up the recipe. Where
/// /usr has too few, it is copied again into another directory, each file with a line of its own. An add-on is left out.
fn copy(tree: &Path, recipe: Recipe) -> (Vec<PathBuf>, u64) {
    let mut paths = sorted(Path::new("/usr"));
    if let Some(dir) = add_on(&paths) {
        println!("{} is left out, an add-on", dir.display());
        paths.retain(|path| !path.starts_with(&dir));
    }
    let largest = largest(&paths, recipe);
    let (mut files, mut bytes) = (Vec::new(), 0);
    for turn in 0.. {
        let before = files.len();
        for path in &paths {
            if files.len() >= recipe.files {
                return (files, bytes);
            }
            let name = PathBuf::from(format!("usr{turn}")).join(path.strip_prefix("/usr").unwrap());
            let Ok(meta) = path.symlink_metadata() else { continue };
            let to = tree.join(&name);
            if meta.is_symlink() {
                make_parent(&to);
                std::os::unix::fs::symlink(path.read_link().unwrap(), &to).unwrap();
            } else if meta.is_file() && meta.len() <= largest && copy_file(path, &to, turn) {
                bytes += meta.len();
                files.push(name);
            }
        }
        assert!(files.len() > before, "/usr has nothing to copy");
    }
    unreachable!("the loop has no end");
}

/// The size above which files are left out, so that as many as are wanted come to as many bytes as are wanted.
fn largest(paths: &[PathBuf], recipe: Recipe) -> u64 {
    let files = paths.iter().filter_map(|path| path.symlink_metadata().ok()).filter(std::fs::Metadata::is_file);
    let sizes: Vec<u64> = files.map(|meta| meta.len()).collect();
    let total = |most: u64| sizes.iter().filter(|size| **size <= most).cycle().take(recipe.files).sum::<u64>();
    let mut sorted = sizes.clone();
    sorted.sort_unstable();
    let fitting = sorted.partition_point(|most| total(*most) <= recipe.bytes);
    fitting.checked_sub(1).map_or(0, |last| sorted[last])
}

/// The directory of the second level, such as /usr/lib/NAME, that holds more than two fifths of everything: what follows it in the
/// order of names, of the system itself, would have no place beside it.
fn add_on(paths: &[PathBuf]) -> Option<PathBuf> {
    let mut counts = BTreeMap::<PathBuf, usize>::new();
    // The root, usr, and two more.
    for path in paths.iter().filter(|path| path.components().count() > 4) {
        *counts.entry(path.components().take(4).collect()).or_default() += 1;
    }
    counts.into_iter().find(|(_, count)| *count > paths.len() * 2 / 5).map(|(dir, _)| dir)
}

fn copy_file(from: &Path, to: &Path, turn: usize) -> bool {
    let Ok(mut content) = fs::read(from) else { return false };
    if turn > 0 {
        content.extend_from_slice(format!("{turn}\n").as_bytes());
    }
    make_parent(to);
    fs::write(to, content).unwrap();
    true
}

fn make_parent(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
}

/// Everything below a directory on its file system, sorted.
fn sorted(root: &Path) -> Vec<PathBuf> {
    let out = Command::new("find").arg(root).args(["-xdev", "-mindepth", "1", "-print0"]).output().unwrap().stdout;
    let mut paths: Vec<PathBuf> = out
        .split(|&b| b == 0)
        // Names with a new line cannot stand in a plan.
        .filter(|path| !path.is_empty() && !path.contains(&b'\n'))
        .map(|path| std::ffi::OsString::from_vec(path.to_vec()).into())
        .collect();
    paths.sort();
    paths
}

/// The big file: the largest libraries and programs of all of /usr one after the other.
fn big(tree: &Path) {
    let mut paths: Vec<(u64, PathBuf)> = sorted(Path::new("/usr"))
        .into_iter()
        .filter_map(|path| path.symlink_metadata().ok().filter(|meta| meta.is_file()).map(|meta| (meta.len(), path)))
        .collect();
    paths.sort_by(|a, b| b.cmp(a));
    let mut file = fs::File::create(tree.join("big")).unwrap();
    let mut left = BIG;
    for (_, path) in paths {
        let content = fs::read(path).unwrap();
        let part = &content[..content.len().min(usize::try_from(left).unwrap())];
        file.write_all(part).unwrap();
        left -= part.len() as u64;
        if left == 0 {
            return;
        }
    }
    panic!("/usr has less than {BIG} bytes");
}

/// Random names, by a fixed seed.
fn plans(dir: &Path, tree: &Path, files: &[PathBuf]) {
    let plans = dir.join("plans");
    fs::create_dir_all(&plans).unwrap();
    let mut random = fastrand::Rng::with_seed(20);
    let mut all = files.to_vec();
    random.shuffle(&mut all);
    let names: Vec<&PathBuf> = all.iter().cycle().take(NAMES).collect();
    let small = |path: &&&PathBuf| (1..=64 << 10).contains(&tree.join(path).metadata().unwrap().len());
    let changed: Vec<&PathBuf> = all.iter().rev().collect::<Vec<_>>().iter().filter(small).take(CHANGES).copied().collect();
    assert_eq!(changed.len(), CHANGES, "the corpus has too few files of up to 64 KiB");
    let write = |name: &str, paths: &[&PathBuf], suffix: &[u8]| {
        let lines: Vec<u8> = paths.iter().flat_map(|path| [path.as_os_str().as_bytes(), suffix, b"\n"].concat()).collect();
        fs::write(plans.join(name), lines).unwrap();
    };
    write("names", &names, b"");
    write("absent", &names, b".absent");
    write("changed", &changed, b"");
    all.push("big".into());
    for number in 0..READERS {
        random.shuffle(&mut all);
        write(&format!("order-{number}"), &all.iter().collect::<Vec<_>>(), b"");
    }
}

/// Packs by mksquashfs' defaults, but zstd.
fn pack(sources: &[&OsStr], image: &Path, more: &[&str]) {
    let _gone = fs::remove_file(image);
    let mut command = Command::new("mksquashfs");
    command.args(sources).arg(image).args(["-comp", "zstd", "-noappend", "-no-progress", "-quiet", "-all-root"]).args(more);
    run(&mut command);
}

fn million(dir: &Path) {
    let mut text = String::new();
    for d in 0..MILLION {
        writeln!(text, "d{d} d 755 0 0").unwrap();
        (0..MILLION).for_each(|f| writeln!(text, "d{d}/file-{f} c 644 0 0 1 {}", f % 256).unwrap());
    }
    let definitions = dir.join("definitions");
    fs::write(&definitions, text).unwrap();
    let empty = dir.join("empty");
    fs::create_dir_all(&empty).unwrap();
    pack(&[empty.as_os_str()], &dir.join("million.sqfs"), &["-pf", definitions.to_str().unwrap()]);
    fs::remove_file(&definitions).unwrap();
    fs::remove_dir(&empty).unwrap();
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}
