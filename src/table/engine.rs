//! The insides of a table: its shards, limits and timers, and what the verbs in `begin`, `settle`,
//! `clear` and `upkeep` share. The hash of a key comes from outside: nothing here knows the hasher.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::builder::Config;
use super::flight::{Flight, LeadId, Terms};
use super::seat::{Room, Seat};
use super::shard::{After, Record, SHARD_BITS, Shard, State};
use super::stats::Stats;
use super::window::Window;
use super::{Key, Value};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard};
use crate::timer::{Alarm, AlarmKey, Alarmed, Kind, Timer};

pub(crate) struct Inner<K, V> {
    pub config: Config<K, V>,
    pub(super) shards: Box<[Shard<K, V>]>,
    pub(super) window: Window,
    pub(super) in_flight: AtomicUsize,
    /// The earliest moment at which some flight may have lost its leader, in nanoseconds since
    /// `made`: before it there is none to look for.
    pub(super) losses_from: AtomicU64,
    pub(super) alarms: Arc<Timer>,
    pub(super) reaper: Arc<Timer>,
    /// When the reaper comes next, in nanoseconds since `made`.
    pub(super) sweep_at: AtomicU64,
    pub(super) sweep_alarm: Mutex<Option<AlarmKey>>,
    pub(super) made: Instant,
    generation: u64,
    pub(super) me: Weak<Self>,
}

/// One request to begin.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub terms: Terms,
    pub fingerprint: Option<&'a [u8]>,
    /// Whether to stand in line if the key is in flight, and how.
    pub follow: Follow,
    /// When a follower that doesn't block leaves the line by itself.
    pub deadline: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    No,
    /// A thread will block in the seat at once.
    Blocking,
    /// The follower will be told through its waker, or will come and look.
    Later,
}

/// A lead as it is given.
#[derive(Clone, Copy)]
pub(crate) struct Granted {
    pub id: LeadId,
    pub attempt: u32,
}

pub(crate) enum Step<K, V> {
    Lead(Granted),
    Replay(Arc<V>),
    Follow(Arc<Room<K, V>>, Arc<Seat>),
}

impl<K: Key, V: Value> Inner<K, V> {
    pub fn new(config: Config<K, V>) -> Arc<Self> {
        // Before the timers, which must be this generation's.
        let generation = fork::enrol();
        let cores = std::thread::available_parallelism().map_or(4, std::num::NonZero::get);
        let shards = (cores * 4).next_power_of_two().clamp(8, 1 << SHARD_BITS);
        Arc::new_cyclic(|me| Self {
            window: Window::new(config.max_completed, config.max_bytes),
            config,
            shards: (0..shards).map(Shard::new).collect(),
            in_flight: AtomicUsize::new(0),
            losses_from: AtomicU64::new(u64::MAX),
            alarms: Timer::shared(Kind::Transition),
            reaper: Timer::shared(Kind::Reaping),
            sweep_at: AtomicU64::new(u64::MAX),
            sweep_alarm: Mutex::new(None),
            made: clock::now(),
            generation,
            me: Weak::clone(me),
        })
    }

    pub fn forked(&self) -> bool {
        fork::generation() != self.generation
    }

    pub fn check_fork(&self) -> Result<(), Error> {
        if self.forked() { Err(ErrorKind::Forked.into()) } else { Ok(()) }
    }

    pub(super) fn shard(&self, hash: u64) -> &Shard<K, V> {
        // Bits in the middle: the index uses the lowest and the topmost.
        let number = usize::try_from((hash >> 32) & (self.shards.len() as u64 - 1)).unwrap_or(0);
        &self.shards[number]
    }

    pub(super) fn lock(&self, hash: u64) -> MutexGuard<'_, State<K, V>> {
        self.shard(hash).state.lock()
    }

    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        if self.forked() {
            return stats;
        }
        for shard in &self.shards {
            stats += shard.state.lock().tally;
            stats.shared += shard.shared.load(Ordering::Relaxed);
            stats.bypassed += shard.bypassed.load(Ordering::Relaxed);
        }
        (stats.completed, stats.completed_bytes) = self.window.held();
        stats
    }

    pub(super) fn reserve_flight(&self) -> Result<Slot<'_>, Error> {
        loop {
            let reserved = self
                .in_flight
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                    (now < self.config.max_in_flight).then_some(now + 1)
                })
                .is_ok();
            if reserved {
                return Ok(Slot(Some(&self.in_flight)));
            }
            if !self.reclaim_lost() {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    "too many keys in flight; raise max_in_flight, or try again later",
                ));
            }
        }
    }

    /// An alarm for a lease, if somebody needs it: a follower in line.
    pub(super) fn watch_lease(&self, hash: u64, flight: &mut Flight<K, V>) {
        let (Some(at), Some(id)) = (flight.lease_until, flight.lead) else { return };
        self.expect_losses(at);
        if flight.standing.is_some() {
            // Somebody has been asked already, and the alarm is the offer's.
            return;
        }
        let watched = flight.alarm.is_some_and(|(lead, _)| lead == id);
        if !watched && flight.waiting() > 0 {
            self.unwatch(flight);
            let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
            flight.alarm = Some((id, self.alarms.set(at, me, Alarm::Lease { hash, id })));
        }
    }

    /// From `at` on a flight may be without its leader.
    pub(super) fn expect_losses(&self, at: Instant) {
        let at = self.nanos(at);
        // Looked at first: a line that every begin wrote would be fought over.
        if at < self.losses_from.load(Ordering::Relaxed) {
            self.losses_from.fetch_min(at, Ordering::Relaxed);
        }
    }

    pub(super) fn unwatch(&self, flight: &mut Flight<K, V>) {
        if let Some((_, alarm)) = flight.alarm.take() {
            self.alarms.cancel(alarm);
        }
    }

    /// An alarm for an offer that may go unread.
    pub(super) fn watch_offer(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        number: u64,
        after: &After<K, V>,
    ) {
        let Some(offer) = &after.offer else { return };
        let id = offer.id;
        let flight = flight_of(state, hash, |record| record.numbered(number));
        self.unwatch(flight);
        if !offer.seat.blocking
            && let Some(at) = clock::after(self.config.offer)
        {
            let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
            flight.alarm = Some((id, self.alarms.set(at, me, Alarm::Offer { hash, id })));
        }
    }
}

/// Room for one more flight, given back unless it is used.
pub(super) struct Slot<'a>(Option<&'a AtomicUsize>);

impl Slot<'_> {
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Some(in_flight) = self.0 {
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The flight of a record that was just found.
pub(super) fn flight_of<K, V>(
    state: &mut State<K, V>,
    hash: u64,
    which: impl Fn(&Record<K, V>) -> bool,
) -> &mut Flight<K, V> {
    state.find_mut(hash, which).and_then(Record::flight_mut).expect("found under this lock")
}

pub(super) fn flight_mut_where<K, V>(
    state: &mut State<K, V>,
    hash: u64,
    which: impl Fn(&Record<K, V>) -> bool,
) -> Option<&mut Flight<K, V>> {
    state.find_mut(hash, which)?.flight_mut()
}
