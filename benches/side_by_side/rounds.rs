//! The rounds: every row on every driver in turn.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use crate::contender::{self, Contender, Mounted};
use crate::corpus::Corpus;
use crate::row::{Kind, Row};

/// The seconds of each round of one row on one driver: of its first turn, and of its second where it has one.
pub type Seconds = [Vec<f64>; 2];

/// What was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// In the order of the table.
    pub rows: Vec<Row>,
    /// In the order of the table.
    pub drivers: Vec<Contender>,
    /// By the names of row and driver.
    pub seconds: BTreeMap<(&'static str, &'static str), Seconds>,
    /// By driver: resident and anonymous KiB of its daemons at most, over all rows. What is anonymous is looked at fifty times a second.
    pub peaks: BTreeMap<&'static str, [u64; 2]>,
    /// The same by row and driver.
    pub row_peaks: BTreeMap<(&'static str, &'static str), [u64; 2]>,
}

impl Results {
    /// What daemons had at most in a row.
    pub fn peaks_of(&self, row: &str) -> BTreeMap<&'static str, [u64; 2]> {
        self.row_peaks.iter().filter(|((of, _), _)| *of == row).map(|((_, driver), peaks)| (*driver, *peaks)).collect()
    }

    /// The median of a row's turn.
    pub fn median(&self, row: &str, driver: &str, turn: usize) -> Option<f64> {
        let (_, seconds) = self.seconds.iter().find(|((r, d), _)| *r == row && *d == driver)?;
        median(seconds[turn].clone())
    }
}

/// `None` of none.
pub fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    match all.len() {
        0 => None,
        n if n % 2 == 1 => Some(all[middle]),
        _ => Some(f64::midpoint(all[middle - 1], all[middle])),
    }
}

/// Measures.
pub fn run(corpus: &Corpus, rows: &[Row], drivers: &[Contender], rounds: usize, options: &str) -> Results {
    // The measuring program itself must be where the ordinary user finds it.
    let program = corpus.dir.join("side-by-side");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut results = Results { rows: rows.to_vec(), drivers: drivers.to_vec(), ..Results::default() };
    contender::clear(&corpus.dir);
    for round in 0..rounds {
        for (number, row) in rows.iter().enumerate() {
            for driver in in_turn(drivers, round, number) {
                let (turns, peaks) = measure(corpus, &program, *row, driver, options);
                let seconds = results.seconds.entry((row.name, driver.name())).or_default();
                turns.iter().zip(seconds.iter_mut()).for_each(|(turn, all)| all.push(*turn));
                println!("round {} {:<12} {:<12} {turns:.3?} {}", round + 1, row.name, driver.name(), shown(peaks));
                if let Some(peaks) = peaks {
                    raise(results.peaks.entry(driver.name()).or_default(), peaks);
                    raise(results.row_peaks.entry((row.name, driver.name())).or_default(), peaks);
                }
            }
        }
    }
    contender::clear(&corpus.dir);
    results
}

/// Where there were more.
pub fn raise(most: &mut [u64; 2], peaks: [u64; 2]) {
    *most = [most[0].max(peaks[0]), most[1].max(peaks[1])];
}

/// Each begins in turn, and each comes behind each other one: what one leaves, such as pages that the host takes back, another one finds.
/// An even number of them goes 0, 1, n-1, 2, n-2 and so on from another one each time, an odd number every second time backwards.
fn in_turn(drivers: &[Contender], round: usize, row: usize) -> impl Iterator<Item = Contender> {
    let (all, turn) = (drivers.len(), round + row);
    let zigzag = move |at: usize| if at % 2 == 1 { at.div_ceil(2) } else { (all - at / 2) % all };
    (0..all).map(move |at| {
        let at = if all % 2 == 1 && turn % 2 == 1 { all - 1 - at } else { at };
        drivers[(zigzag(at) + turn) % all]
    })
}

fn shown(peaks: Option<[u64; 2]>) -> String {
    peaks.map_or_else(String::new, |[resident, anonymous]| format!("{resident} KiB resident, {anonymous} anonymous"))
}

fn measure(corpus: &Corpus, program: &Path, row: Row, driver: Contender, options: &str) -> (Vec<f64>, Option<[u64; 2]>) {
    let image = if row.kind == Kind::MountMillion { &corpus.million } else { &corpus.image };
    let (mounted, took) = driver.mount(&corpus.dir, image, options);
    let turns = match row.kind {
        Kind::Mount | Kind::MountMillion => {
            let began = Instant::now();
            // As root one sees nothing of an ordinary user's mount.
            let listed = driver.by(Path::new("ls")).arg(&mounted.stand.union).stdout(Stdio::null()).status().unwrap();
            assert!(listed.success());
            vec![took.as_secs_f64() + began.elapsed().as_secs_f64()]
        }
        Kind::Cold | Kind::ColdAndAgain => work(corpus, program, row, driver, &mounted),
    };
    let peaks = mounted.footprint.peaks();
    (turns, peaks)
}

fn work(corpus: &Corpus, program: &Path, row: Row, driver: Contender, mounted: &Mounted) -> Vec<f64> {
    let mut command = driver.by(program);
    command.args(["--act", row.name]).arg(&mounted.stand.union).arg(corpus.dir.join("plans"));
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{} on {}: {}", row.name, driver.name(), output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}
