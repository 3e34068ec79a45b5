//! The time of an operation as a multiple of reference work, both taken by criterion, in turns; of each the fastest sample counts, for
//! noise only ever makes slower.

use std::fs;
use std::path::Path;
use std::time::Duration;

use criterion::Criterion;

use crate::work::{self, Subject};

const TURNS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(20);
const TURN: Duration = Duration::from_millis(100);
/// The fewest that criterion takes.
const SAMPLES: usize = 10;

pub fn of(name: &str, subject: &Subject) -> f64 {
    let (mut operation, mut reference) = (work::operation(subject, name), work::reference(name));
    let out = tempfile::tempdir().unwrap();
    let timing = Criterion::default().sample_size(SAMPLES).warm_up_time(WARM_UP).measurement_time(TURN);
    let mut criterion = timing.without_plots().output_directory(out.path());
    let mut best = [f64::MAX; 2];
    for turn in 0..TURNS {
        for (place, work) in [&mut operation, &mut reference].into_iter().enumerate() {
            let id = format!("{name}-{place}-{turn}");
            criterion.bench_function(&id, |bencher| bencher.iter(&mut *work));
            best[place] = best[place].min(fastest(&out.path().join(id)));
        }
    }
    best[0] / best[1]
}

/// Nanoseconds of one iteration, by the samples that criterion has left.
fn fastest(directory: &Path) -> f64 {
    let text = fs::read_to_string(directory.join("new/sample.json")).unwrap();
    let sample: serde_json::Value = serde_json::from_str(&text).unwrap();
    let numbers = |name: &str| sample[name].as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
    numbers("times").zip(numbers("iters")).map(|(time, times)| time / times).fold(f64::MAX, f64::min)
}
