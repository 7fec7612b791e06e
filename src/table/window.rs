//! The completed window: how much of it there may be, over the whole table, at every instant.
//!
//! A response is counted in before it is kept and counted out when it is dropped, so the bounds
//! hold at every instant and not just on average. Responses stand in their lines and in no other
//! list: `upkeep` finds what has expired, and what has to make room, by walking over the lines.

use std::sync::atomic::Ordering;

use crate::clock::{self, Moment, NEVER, Span};
use crate::sync::{AtomicU64, AtomicUsize, Mutex};
use crate::timer::AlarmKey;

/// The bounds, and what is taken of them.
pub(super) struct Window {
    max_entries: usize,
    max_bytes: usize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    /// The line to look at next for something that may go.
    pub hand: AtomicUsize,
    /// When the first response expires that the reaper hasn't come for; never later than true.
    pub soonest: AtomicU64,
    pub sweep: Mutex<Sweep>,
}

/// The reaper's walk over the lines.
#[derive(Default)]
pub(super) struct Sweep {
    pub alarm: Option<AlarmKey>,
    /// It doesn't begin sooner than that.
    pub not_before: Moment,
    pub under_way: bool,
}

impl Window {
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            max_entries,
            max_bytes,
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            soonest: AtomicU64::new(NEVER),
            sweep: Mutex::default(),
        }
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

/// When a response completed now stops being replayed. For ever is a century.
pub(super) fn expiry(ttl: Span) -> Moment {
    const CENTURY: Span = 100 * 365 * 24 * 60 * 60 * 1_000_000_000;
    clock::after(ttl.min(CENTURY))
}

fn add_within(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(amount).filter(|sum| *sum <= max)
        })
        .is_ok()
}
