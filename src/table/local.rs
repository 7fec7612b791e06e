//! What each thread has of its own in a table: its counters, flights to use again, and some of the
//! places that the limit on flights leaves.
//!
//! A cycle so writes no line that another thread writes too, but for its key's. The counters of all
//! threads together are the table's.
//!
//! A place here belongs to the thread that has its number (see `thread`), and passes on with it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::sync::OnceCell;

use super::flight::Flight;
use super::form::Form;
use super::stats::Stats;
use crate::sync::{Mutex, MutexGuard};
use crate::thread;

/// On cache lines of its own: neighbours must not slow each other down.
#[repr(align(128))]
pub(super) struct Local<F: Form> {
    pub tally: Tally,
    /// How many places among the flights the thread takes at once, and how many are too many to
    /// keep.
    pub batch: usize,
    pub enough: usize,
    /// Places among the flights that this thread may give without asking.
    pub credit: Unshared<Cell<usize>>,
    /// So many of the spares are there.
    spares: Unshared<Cell<usize>>,
    spare: Unshared<[Spare<F>; SPARES]>,
}

type Spare<F> = Cell<Option<Box<Flight<F>>>>;

/// As many as a thread leads at once, as a rule; some 3 KB.
const SPARES: usize = 32;

/// What only the thread touches that has the place.
pub(super) struct Unshared<T>(T);

// SAFETY: a place is given to the thread alone that has its number, and numbers pass from thread to
// thread through a lock; the one for threads without a number is under a lock. What others read, in
// `sum`, are the counters, which are atomics. A flight may be sent: its parts may (see `line`).
unsafe impl<T> Sync for Unshared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Unshared<T> {}

impl<T> std::ops::Deref for Unshared<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Counters that one thread writes and all may read.
#[derive(Default)]
pub(super) struct Tally {
    pub leads: Count,
    pub shared: Count,
    pub replayed: Count,
    pub bypassed: Count,
    pub timeouts: Count,
    pub cancels: Count,
    pub promotions: Count,
    pub takeovers: Count,
    pub stale: Count,
    pub evictions: Count,
    pub landed: Count,
    pub joined: Count,
    pub left: Count,
}

/// A number that its one writer adds to. A `std` atomic even in models: nobody decides by it.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    #[inline(always)]
    pub fn add(&self, more: u64) {
        // No read-modify-write: there is no other writer, and it would cost as much as a lock.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    #[inline(always)]
    pub fn up(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<F: Form> Local<F> {
    /// What threads hold and don't use is out of the others' reach, so only as many take more than
    /// one at once as can't hold more than a sixteenth of `most`, and none if it is small.
    fn new(number: usize, most: usize) -> Self {
        let many = most >= 1 << 16 && number < most >> 10;
        Self {
            batch: if many { 32 } else { 1 },
            enough: if many { 64 } else { 1 },
            tally: Tally::default(),
            credit: Unshared(Cell::new(0)),
            spares: Unshared(Cell::new(0)),
            spare: Unshared([const { Cell::new(None) }; SPARES]),
        }
    }

    /// A flight to fill in, if there is one.
    #[inline(always)]
    pub fn take_spare(&self) -> Option<Box<Flight<F>>> {
        let last = self.spares.get().wrapping_sub(1);
        let flight = self.spare.get(last)?.take();
        self.spares.set(last);
        flight
    }

    /// Keeps a flight that ended, its key dropped and nothing left of it, for the next one.
    #[inline(always)]
    pub fn keep_spare(&self, flight: Box<Flight<F>>) {
        let spares = self.spares.get();
        if let Some(place) = self.spare.get(spares) {
            place.set(Some(flight));
            self.spares.set(spares + 1);
        }
    }
}

pub(super) struct Locals<F: Form> {
    /// By the thread's number.
    first: Box<[Local<F>; FIRST]>,
    /// Those after it; each chunk is as long as all before it.
    chunks: [OnceCell<Chunk<F>>; 29],
    /// For threads that have no number, because they end.
    late: Local<F>,
    last: Mutex<()>,
    /// The limit on flights.
    most: usize,
    /// Where the numbers of this generation of forks begin.
    base: u64,
}

type Chunk<F> = Box<[OnceCell<Box<Local<F>>>]>;

/// This thread's part of a table.
pub(super) struct Here<'a, F: Form> {
    local: &'a Local<F>,
    /// For `late`: threads without a number take turns.
    _turn: Option<MutexGuard<'a, ()>>,
}

impl<F: Form> std::ops::Deref for Here<'_, F> {
    type Target = Local<F>;
    #[inline(always)]
    fn deref(&self) -> &Local<F> {
        self.local
    }
}

const FIRST: usize = 8;

impl<F: Form> Locals<F> {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            base: thread::base(crate::fork::generation()),
            first: Box::new(std::array::from_fn(|number| Local::new(number, most))),
            chunks: [const { OnceCell::new() }; 29],
            late: Local::new(usize::MAX, most),
            last: Mutex::new(()),
        }
    }

    /// The calling thread's, if it has been here before.
    #[inline(always)]
    pub fn mine(&self) -> Option<&Local<F>> {
        let number = thread::above(self.base);
        #[allow(clippy::cast_possible_truncation)] // it is small
        if number < FIRST as u64 {
            Some(&self.first[number as usize])
        } else {
            self.mine_after(number)
        }
    }

    /// The calling thread's. Not to be held across user code or another of these: a thread without
    /// a number would wait for itself.
    #[inline]
    pub fn here(&self) -> Here<'_, F> {
        match thread::number() {
            Some(number) if number < FIRST => Here { local: &self.first[number], _turn: None },
            number => self.elsewhere(number),
        }
    }

    #[cold]
    #[inline(never)]
    fn mine_after(&self, number: u64) -> Option<&Local<F>> {
        let number = usize::try_from(number).ok()?;
        let chunk = (number / FIRST).ilog2();
        self.chunks.get(chunk as usize)?.get()?[number - (FIRST << chunk)]
            .get()
            .map(|local| &**local)
    }

    #[cold]
    fn elsewhere(&self, number: Option<usize>) -> Here<'_, F> {
        let Some(number) = number else {
            return Here { _turn: Some(self.last.lock()), local: &self.late };
        };
        let chunk = (number / FIRST).ilog2();
        let length = FIRST << chunk;
        let chunk = self.chunks[chunk as usize]
            .get_or_init(|| (0..length).map(|_| OnceCell::new()).collect());
        let local = chunk[number - length].get_or_init(|| Box::new(Local::new(number, self.most)));
        Here { local, _turn: None }
    }

    /// All counters together.
    pub fn sum(&self) -> Stats {
        let chunks = self.chunks.iter().filter_map(OnceCell::get);
        let more =
            chunks.flat_map(|chunk| chunk.iter().filter_map(OnceCell::get)).map(|local| &**local);
        let mut stats = Stats::default();
        for Local { tally, .. } in self.first.iter().chain(more).chain([&self.late]) {
            stats.leads += tally.leads.get();
            stats.shared += tally.shared.get();
            stats.replayed += tally.replayed.get();
            stats.bypassed += tally.bypassed.get();
            stats.timeouts += tally.timeouts.get();
            stats.cancels += tally.cancels.get();
            stats.promotions += tally.promotions.get();
            stats.takeovers += tally.takeovers.get();
            stats.stale += tally.stale.get();
            stats.evictions += tally.evictions.get();
            // A lead is a flight's first, or its next.
            stats.in_flight = stats.in_flight.wrapping_add(tally.leads.get());
            stats.in_flight = stats.in_flight.wrapping_sub(tally.promotions.get());
            stats.in_flight = stats.in_flight.wrapping_sub(tally.takeovers.get());
            stats.in_flight = stats.in_flight.wrapping_sub(tally.landed.get());
            stats.waiting = stats.waiting.wrapping_add(tally.joined.get());
            stats.waiting = stats.waiting.wrapping_sub(tally.left.get());
        }
        // Read one after the other: what one thread counted in, another may have counted out.
        stats.in_flight = positive(stats.in_flight);
        stats.waiting = positive(stats.waiting);
        stats
    }
}

fn positive(sum: u64) -> u64 {
    if sum > u64::MAX / 2 { 0 } else { sum }
}
