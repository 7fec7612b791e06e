//! The completed window: how much of it there may be, over the whole table, at every instant.
//!
//! A response is counted in before it is retained and counted out when it is dropped, so the
//! bounds hold at every instant and not just on average. Which one makes room: the one that would
//! expire soonest, which under one ttl is the oldest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::sync::AtomicUsize;

/// A response that is replayed until it expires.
pub(super) struct Completed<V> {
    pub value: Arc<V>,
    pub expires: Instant,
    /// Completions of a shard in order; tells apart those that expire together.
    pub seq: u64,
    pub weight: usize,
}

/// The bounds, and what is taken of them.
pub(super) struct Window {
    max_entries: usize,
    max_bytes: usize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

impl Window {
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { max_entries, max_bytes, entries: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Whether a response of that weight could stand in an empty window.
    pub fn admits(&self, weight: usize) -> bool {
        self.max_entries > 0 && weight <= self.max_bytes
    }

    /// Counts a response in, or says that something must go first.
    pub fn reserve(&self, weight: usize) -> bool {
        if !add_within(&self.entries, 1, self.max_entries) {
            return false;
        }
        let fits = add_within(&self.bytes, weight, self.max_bytes);
        if !fits {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    /// Entries and bytes: never more than the bounds, whatever is going on.
    pub fn held(&self) -> (u64, u64) {
        let entries = self.entries.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        (entries as u64, bytes as u64)
    }

    pub fn release(&self, weight: usize) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
    }
}

fn add_within(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(amount).filter(|sum| *sum <= max)
        })
        .is_ok()
}

/// When a response completed now stops being replayed. For ever is a century.
pub(super) fn expiry(ttl: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = crate::clock::now();
    now.checked_add(ttl.min(CENTURY)).unwrap_or(now)
}
