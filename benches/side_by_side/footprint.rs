//! The memory of daemons, looked at while they work.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

const BETWEEN: Duration = Duration::from_millis(20);

/// Watches some processes; the peaks are those of their sums, in KiB.
#[derive(Debug)]
pub struct Footprint {
    pids: Vec<u32>,
    peaks: Arc<[AtomicU64; 2]>,
    end: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Footprint {
    /// Begins.
    pub fn watch(pids: Vec<u32>) -> Self {
        let (peaks, end) = (Arc::new([AtomicU64::new(0), AtomicU64::new(0)]), Arc::new(AtomicBool::new(false)));
        let watcher = (!pids.is_empty()).then(|| {
            let (pids, peaks, end) = (pids.clone(), Arc::clone(&peaks), Arc::clone(&end));
            thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    look(&pids, &peaks);
                    sleep(BETWEEN);
                }
            })
        });
        Self { pids, peaks, end, watcher }
    }

    /// Resident and anonymous KiB at most; `None` without daemons.
    pub fn peaks(&self) -> Option<[u64; 2]> {
        look(&self.pids, &self.peaks);
        (!self.pids.is_empty()).then(|| [0, 1].map(|at| self.peaks[at].load(Ordering::Relaxed)))
    }

    /// Returns when the daemons have ended.
    pub fn wait_for_end(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            watcher.join().unwrap();
        }
        for _ in 0..200 {
            if self.pids.iter().all(|pid| fs::metadata(format!("/proc/{pid}")).is_err()) {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        println!("daemons {:?} do not end", self.pids);
    }
}

fn look(pids: &[u32], peaks: &[AtomicU64; 2]) {
    let mut sums = [0, 0];
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        for (sum, key) in sums.iter_mut().zip(["VmHWM:", "RssAnon:"]) {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
            *sum += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        }
    }
    for (peak, sum) in peaks.iter().zip(sums) {
        peak.fetch_max(sum, Ordering::Relaxed);
    }
}
