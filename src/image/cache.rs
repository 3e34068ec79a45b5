//! Byte-budgeted caches that decode each thing once, however many ask for it at the same time.

use std::cell::Cell;
use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::error::Result;

/// Something that takes memory.
pub trait Weight {
    /// Bytes of memory, with what belongs to it.
    fn weight(&self) -> u64;
}

thread_local! {
    static GIVES_WAY: Cell<bool> = const { Cell::new(false) };
}

/// Has nobody wait for what this thread makes meanwhile, as others may keep it from its processor for long: what they need just then,
/// they make themselves.
pub fn giving_way<T>(work: impl FnOnce() -> T) -> T {
    let outer = GIVES_WAY.replace(true);
    let done = work();
    GIVES_WAY.set(outer);
    done
}

/// Whether this thread is at such work.
#[must_use]
pub fn gives_way() -> bool {
    GIVES_WAY.get()
}

/// Bookkeeping per entry, in bytes, estimated from quick_cache's own structures.
const OVERHEAD: u64 = 96;

#[derive(Clone)]
struct ByWeight;

impl<K, V: Weight> Weighter<K, V> for ByWeight {
    fn weight(&self, _key: &K, value: &V) -> u64 {
        value.weight().saturating_add(OVERHEAD)
    }
}

/// A cache of at most a number of bytes. What is heavier than a share of it is handed out, but not kept.
pub struct Budgeted<K, V>(Cache<K, V, ByWeight>);

impl<K: Eq + Hash + Clone, V: Weight + Clone> Budgeted<K, V> {
    /// A cache of `budget` bytes for values of usually `typical` bytes.
    ///
    /// It is split into few enough shards that each holds 32 typical values, as what is in use at one time may fall into one. A
    /// third is left to newcomers, so that readers of many long files at once do not drive out each other's block between reads.
    #[must_use]
    pub fn new(budget: u64, typical: u64) -> Self {
        const MAX_SHARDS: u64 = 16;
        let items = budget / typical.max(1);
        let shards = (items / 32).clamp(1, MAX_SHARDS);
        // A power of two not above: quick_cache rounds up.
        Self::sharded(budget, items, 1_u64 << shards.ilog2())
    }

    /// The same without shards, so that values of up to the half of it are kept, too.
    #[must_use]
    pub fn in_one(budget: u64, typical: u64) -> Self {
        Self::sharded(budget, budget / typical.max(1), 1)
    }

    fn sharded(budget: u64, items: u64, shards: u64) -> Self {
        let mut options = OptionsBuilder::new();
        options
            .shards(usize::try_from(shards).unwrap_or(1))
            // quick_cache halves the shards until each has 32 of the estimated entries.
            .estimated_items_capacity(usize::try_from(items.max(32 * shards)).unwrap_or(usize::MAX))
            .weight_capacity(budget)
            .hot_allocation(0.67);
        let cache = match options.build() {
            Ok(options) => Cache::with_options(options, ByWeight, DefaultHashBuilder::default(), DefaultLifecycle::default()),
            // Unreachable: both numbers that `build` asks for are set.
            Err(_) => Cache::with_weighter(32, budget, ByWeight),
        };
        Self(cache)
    }

    /// The value of `key`; `make` is run where it is absent, by one caller while others wait. Errors are not kept.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        if GIVES_WAY.get() {
            return self.get_or_add(key, make);
        }
        match self.0.get_value_or_guard(&key, None) {
            GuardResult::Value(value) => Ok(value),
            GuardResult::Guard(guard) => {
                let value = make()?;
                // Refused only when the entry was removed or made meanwhile.
                let _ = guard.insert(value.clone());
                Ok(value)
            }
            GuardResult::Timeout => make(),
        }
    }

    fn get_or_add(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        if let Some(value) = self.0.get(&key) {
            return Ok(value);
        }
        let value = make()?;
        self.0.insert(key, value.clone());
        Ok(value)
    }

    /// The value of `key` where it is kept.
    pub fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    /// Whether the value of `key` is kept. It does not count as used.
    pub fn has(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Bytes in use.
    pub fn weight(&self) -> u64 {
        self.0.weight()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Errno;

    impl Weight for u64 {
        fn weight(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn nobody_waits_for_who_gives_way() {
        let cache = Budgeted::<u64, u64>::new(1000, 10);
        let (may_end, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (begun, has_begun) = std::sync::mpsc::channel();
            let cache = &cache;
            let slow = scope.spawn(move || {
                giving_way(|| {
                    cache.get_or(7, || {
                        begun.send(()).unwrap();
                        waits.recv().unwrap();
                        Ok(1)
                    })
                })
            });
            has_begun.recv().unwrap();
            assert_eq!(cache.get_or(7, || Ok(2)).unwrap(), 2);
            may_end.send(()).unwrap();
            assert_eq!(slow.join().unwrap().unwrap(), 1);
        });
        assert!(cache.get(&7).is_some());
        giving_way(|| assert_eq!(cache.get_or(8, || Ok(3)).unwrap(), 3));
        assert_eq!(cache.get_or(8, || Ok(4)).unwrap(), 3, "it is kept");
    }

    #[test]
    fn a_value_is_made_once_for_all_who_wait() {
        let (cache, made) = (Budgeted::new(1 << 20, 1000), AtomicUsize::new(0));
        let make = || {
            made.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(30));
            Ok(1000_u64)
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(cache.get_or("key", make).unwrap(), 1000));
            }
        });
        assert_eq!(made.into_inner(), 1);
        assert_eq!(cache.get(&"key"), Some(1000));
    }

    #[test]
    fn an_error_is_not_kept() {
        let cache = Budgeted::<_, u64>::new(1 << 20, 1000);
        assert!(cache.get_or(1, || Err(Errno::EIO.into())).is_err());
        assert_eq!(cache.get_or(1, || Ok(5)).unwrap(), 5);
    }

    #[test]
    fn the_budget_is_kept_and_eight_typical_values_fit_any() {
        for (budget, typical) in [(1 << 20, 1 << 17), (16 << 20, 1 << 17), (8 << 20, 1 << 20), (6 << 20, 8192)] {
            let cache = Budgeted::new(budget, typical);
            for key in 0..2000 {
                cache.get_or(key, || Ok(typical)).unwrap();
                assert!(cache.weight() <= budget);
            }
            assert!(cache.get(&1999).is_some(), "the newest of {typical} bytes is gone from {budget}");
            assert!(cache.weight() > budget / 2, "{} of {budget}", cache.weight());
        }
    }

    #[test]
    fn what_is_heavy_is_kept_in_one() {
        let (sharded, in_one) = (Budgeted::new(1 << 18, 256), Budgeted::in_one(1 << 18, 256));
        for cache in [&sharded, &in_one] {
            cache.get_or(1, || Ok(100_000)).unwrap();
        }
        assert_eq!((sharded.get(&1), in_one.get(&1)), (None, Some(100_000)));
    }

    #[test]
    fn what_is_too_heavy_is_handed_out() {
        let cache = Budgeted::new(1000, 100);
        assert_eq!(cache.get_or(1, || Ok(5000)).unwrap(), 5000);
        assert_eq!(cache.weight(), 0);
    }
}
