//! Times of single operations; the fastest of several turns counts, for noise only ever makes slower.

use std::time::{Duration, Instant};

const TURNS: usize = 9;
/// How long a turn should take.
const TURN: Duration = Duration::from_millis(4);

/// Seconds of one call.
pub fn of(mut work: impl FnMut()) -> f64 {
    let mut times = 1;
    while turn(&mut work, times) * f64::from(times) < TURN.as_secs_f64() {
        times *= 2;
    }
    (0..TURNS).map(|_| turn(&mut work, times)).fold(f64::MAX, f64::min)
}

/// Seconds of one call of what cannot be repeated at once: the fastest of three.
pub fn whole(mut work: impl FnMut()) -> f64 {
    (0..3).map(|_| turn(&mut work, 1)).fold(f64::MAX, f64::min)
}

fn turn(work: &mut impl FnMut(), times: u32) -> f64 {
    let began = Instant::now();
    (0..times).for_each(|_| work());
    began.elapsed().as_secs_f64() / f64::from(times)
}
