//! The time of an operation as a multiple of reference work, both taken in turns; of each the fastest turn counts, for noise only
//! ever makes slower.

use std::time::{Duration, Instant};

use crate::work::{self, Subject};

const TURNS: usize = 40;
/// How long a turn should take.
const TURN: Duration = Duration::from_millis(2);

pub fn of(name: &str) -> f64 {
    let subject = Subject::new();
    let (mut operation, mut reference) = (work::operation(&subject, name), work::reference(name));
    let times = [repeats(&mut *operation), repeats(&mut *reference)];
    let mut best = [f64::MAX; 2];
    for _ in 0..TURNS {
        best[0] = best[0].min(turn(&mut *operation, times[0]));
        best[1] = best[1].min(turn(&mut *reference, times[1]));
    }
    best[0] / best[1]
}

/// How often it is to be done to fill a turn.
fn repeats(work: &mut dyn FnMut()) -> u32 {
    let mut times = 1;
    while turn(work, times) * f64::from(times) < TURN.as_secs_f64() {
        times *= 2;
    }
    times
}

/// Seconds of one.
fn turn(work: &mut dyn FnMut(), times: u32) -> f64 {
    let began = Instant::now();
    (0..times).for_each(|_| work());
    began.elapsed().as_secs_f64() / f64::from(times)
}
