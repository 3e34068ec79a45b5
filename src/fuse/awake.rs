//! How a request need not wait for a processor that was halted: in a burst none halts, which only root may claim, or the workers answer
//! where is asked (`beside`), or both.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::beside::{Beside, Work};
use crate::sys::cpu_latency::{self, CpuLatency, Idle};
use crate::sys::switches;
use crate::types::Latency;

/// Two switches of threads that are cheap.
const CHEAP: Duration = Duration::from_micros(3);

/// What is done in a burst.
#[derive(Debug, Default)]
pub(super) struct Awake {
    claim: Option<Claim>,
    beside: Option<Arc<Beside>>,
}

/// That no processor may take longer than so many microseconds to wake.
#[derive(Debug)]
struct Claim {
    latency: CpuLatency,
    micros: u32,
}

impl Awake {
    /// As this user may. `work` is done by who keeps a processor busy.
    pub(super) fn new(latency: Latency, work: Work) -> Self {
        let (micros, can_claim) = match (latency, cpu_latency::idle()) {
            (Latency::Auto, Idle::HaltsUnlessTold) => (0, true),
            (Latency::Auto, Idle::Halts) => (0, false),
            (Latency::Auto, Idle::Sleeps) | (Latency::Any, _) => return Self::default(),
            (Latency::Micros(micros), _) => (micros, true),
        };
        let opened = can_claim.then(CpuLatency::open);
        let is_awake = matches!(opened, Some(Ok(_)));
        let beside = (micros == 0).then(|| Beside::new(work)).flatten().filter(|_| !is_awake || are_switches_cheap());
        let claim = match opened {
            Some(Ok(latency)) => Some(Claim { latency, micros }),
            Some(Err(refused)) => {
                warn_of(latency, micros, beside.is_some(), &refused);
                None
            }
            None => None,
        };
        Self { claim, beside: beside.map(Arc::new) }
    }

    /// A burst begins.
    pub(super) fn begin(&self) {
        if let Some(beside) = &self.beside {
            beside.set_burst(true);
        }
        if let Some(claim) = &self.claim
            && let Err(e) = claim.latency.limit(claim.micros)
        {
            // The burst takes longer, and that is all.
            tracing::debug!("processors halt between requests: /dev/cpu_dma_latency: {e}");
        }
    }

    /// It has ended.
    pub(super) fn end(&self) {
        if let Some(beside) = &self.beside {
            beside.set_burst(false);
        }
        if let Some(claim) = &self.claim
            && let Err(e) = claim.latency.lift()
        {
            tracing::warn!("processors stay awake: /dev/cpu_dma_latency: {e}");
        }
    }

    /// Where the workers are, if that matters.
    pub(super) const fn beside(&self) -> Option<&Arc<Beside>> {
        self.beside.as_ref()
    }
}

/// Whether it takes less to have asker and worker take turns on one processor than to wake another one that does not halt. The first
/// are two switches of threads, the second took 2.3 us where it was measured.
fn are_switches_cheap() -> bool {
    switches::there_and_back().is_ok_and(|taken| {
        tracing::debug!("two switches of threads take {taken:?}");
        taken < CHEAP
    })
}

fn warn_of(latency: Latency, micros: u32, is_beside: bool, refused: &io::Error) {
    if latency == Latency::Auto || is_beside {
        tracing::debug!("processors may halt between requests: /dev/cpu_dma_latency: {refused}");
    } else {
        tracing::warn!("option cpu_latency={micros} has no effect: /dev/cpu_dma_latency: {refused}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_where_nothing_is_asked_for() {
        let awake = Awake::new(Latency::Any, Box::new(|| Ok(false)));
        assert!(awake.claim.is_none() && awake.beside().is_none());
    }
}
