//! The verbs of a table: begin, and what leads and followers do afterwards.
//!
//! Each verb looks up its record, makes one transition under the shard's lock, releases the lock,
//! and then does what the transition left to be done. The hash of a key comes from outside, so
//! nothing here knows the hasher.

use std::borrow::Borrow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::builder::{Config, OnCancel, OnLeaseExpired, Weigher};
use super::deadlock;
use super::flight::{Cause, Flight, Followers, LeadId, Place, Terms};
use super::seat::{Room, Seat, Verdict, Waker};
use super::shard::{
    After, Record, RecordState, SHARD_BITS, Shard, State, StoredKey, dismiss, shard_of,
};
use super::stats::Stats;
use super::window::{Completed, Window, expiry};
use super::{Key, Value};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, MutexGuard};
use crate::timer::{Alarm, Alarmed, Kind, Timer};

pub(crate) struct Inner<K, V> {
    pub config: Config<K, V>,
    pub(super) shards: Box<[Shard<K, V>]>,
    pub(super) window: Window,
    in_flight: AtomicUsize,
    /// Whether some flight may have lost its leader: only then is it worth looking for one.
    pub(super) losses: AtomicBool,
    pub(super) alarms: Arc<Timer>,
    pub(super) reaper: Arc<Timer>,
    /// When the reaper comes next, in nanoseconds since `made`.
    pub(super) sweep_at: AtomicU64,
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

/// How a follower left the line.
pub(super) enum Left {
    /// It was in line and is no longer.
    Gone,
    /// The lead was on offer to it, and it has it now.
    Leads(Granted),
    /// The outcome is in the room.
    Settled,
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
            losses: AtomicBool::new(false),
            alarms: Timer::shared(Kind::Transition),
            reaper: Timer::shared(Kind::Reaping),
            sweep_at: AtomicU64::new(u64::MAX),
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

    /// Leads, replays, or takes a place in line.
    pub fn begin<Q>(
        &self,
        hash: u64,
        key: &Q,
        own: impl Fn() -> StoredKey<K>,
        ask: &Ask<'_>,
        waker: Option<&Arc<dyn Waker>>,
    ) -> Result<Step<K, V>, Error>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.check_fork()?;
        // Made once the key turns out to be vacant, with the shard unlocked: cloning a key is user
        // code, and making room may have to look into other shards.
        let mut fresh: Option<(Slot<'_>, StoredKey<K>)> = None;
        loop {
            let mut after = After::default();
            let mut state = self.lock(hash);
            if state.closed {
                return Err(ErrorKind::Closed.into());
            }
            let found = state.find_mut(hash, |record| record.visible_as(hash, key));
            let step = match found.map(|record| (record.fingerprint.as_deref(), &mut record.state))
            {
                Some((fingerprint, RecordState::Completed(completed)))
                    if clock::now() < completed.expires =>
                {
                    if fingerprint != ask.fingerprint {
                        return Err(ErrorKind::Mismatch.into());
                    }
                    let value = Arc::clone(&completed.value);
                    state.tally.replayed += 1;
                    return Ok(Step::Replay(value));
                }
                Some((_, RecordState::Completed(_))) => {
                    after.garbage = self.drop_completed(hash, &mut state, key);
                    None
                }
                Some((fingerprint, RecordState::Flying(_))) => {
                    if fingerprint != ask.fingerprint {
                        return Err(ErrorKind::Mismatch.into());
                    }
                    Some(self.join(hash, &mut state, key, ask, waker, &mut after))
                }
                None => match fresh.take() {
                    Some((slot, key)) => {
                        slot.keep();
                        return Ok(Step::Lead(self.launch(hash, &mut state, key, ask)));
                    }
                    None => None,
                },
            };
            drop(state);
            after.run();
            match step {
                Some(step) => return step,
                None if fresh.is_some() => {}
                None => {
                    let slot = self.reserve_flight()?;
                    fresh = Some((slot, own()));
                }
            }
        }
    }

    /// A vacant key: the caller leads its first attempt.
    fn launch(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        key: StoredKey<K>,
        ask: &Ask<'_>,
    ) -> Granted {
        let id = state.next_id();
        let flight = Flight::new(id, ask.terms);
        if flight.lease_until.is_some() {
            self.losses.store(true, Ordering::Relaxed);
        }
        let fingerprint = ask.fingerprint.map(Arc::from);
        state.insert(Record { hash, key, fingerprint, state: RecordState::Flying(flight) });
        self.grant(hash, state, id, 1, &ask.terms)
    }

    /// Counts a lead that is given now, to the calling thread.
    fn grant(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        id: LeadId,
        attempt: u32,
        terms: &Terms,
    ) -> Granted {
        state.tally.leads += 1;
        if terms.named {
            state.names.insert(id, hash);
        }
        deadlock::lead_taken(terms.thread);
        Granted { id, attempt }
    }

    /// The key is in flight: follow, or take over where that is due.
    fn join<Q>(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        key: &Q,
        ask: &Ask<'_>,
        waker: Option<&Arc<dyn Waker>>,
        after: &mut After<K, V>,
    ) -> Result<Step<K, V>, Error>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let visible = |record: &Record<K, V>| record.visible_as(hash, key);
        let hold = self.config.on_lease_expired == OnLeaseExpired::Hold;
        let flight = flight_of(state, hash, visible);
        let lapsed = flight.standing.as_ref().is_some_and(|standing| standing.lapsed);
        if flight.overdue() || lapsed {
            if hold && !ask.terms.recover && !lapsed {
                return Err(ErrorKind::Unknown.into());
            }
            let cause = flight.standing.as_ref().map_or(Cause::TakenOver, |s| s.cause);
            if let (Some(id), true) = (flight.lead, flight.standing.is_some()) {
                after.revoked = state.requeue(hash, id);
                flight_of(state, hash, visible).attempt -= 1;
            }
            if !lapsed {
                after.offer = state.promote(hash, visible, cause, |terms| !hold || terms.recover);
            }
            if after.offer.is_none() {
                return Ok(Step::Lead(self.take_over(hash, state, visible, cause, ask)));
            }
            self.watch_offer(hash, after);
        }
        if ask.follow == Follow::No {
            state.tally.timeouts += 1;
            return Err(ErrorKind::Timeout.into());
        }
        let flight = flight_of(state, hash, visible);
        if flight.waiting() >= self.config.max_waiters {
            return Err(ErrorKind::Overloaded.into());
        }
        let ticket = state.next_ticket();
        let seat = Arc::new(Seat::new(ticket, ask.follow == Follow::Blocking, waker.cloned()));
        let flight = flight_of(state, hash, visible);
        let thread = flight.terms.thread;
        let followers = flight.followers.get_or_insert_with(|| {
            Box::new(Followers { room: Arc::new(Room::new(thread)), line: Default::default() })
        });
        let room = Arc::clone(&followers.room);
        followers.line.insert(ticket, Place { seat: Arc::clone(&seat), terms: ask.terms });
        self.watch_lease(hash, flight);
        state.tally.waiting += 1;
        Ok(Step::Follow(room, seat))
    }

    /// The caller leads a flight that lost its leader.
    fn take_over(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        which: impl Fn(&Record<K, V>) -> bool,
        cause: Cause,
        ask: &Ask<'_>,
    ) -> Granted {
        let id = state.next_id();
        let flight = flight_of(state, hash, which);
        let before = flight.lead;
        flight.succeed(id, ask.terms);
        let attempt = flight.attempt;
        self.watch_lease(hash, flight);
        if let Some(before) = before {
            state.names.remove(&before);
        }
        count(&mut state.tally, cause);
        self.grant(hash, state, id, attempt, &ask.terms)
    }

    /// A follower takes up the lead it was offered. `None`: the offer has lapsed.
    pub(super) fn accept(&self, hash: u64, id: LeadId, seat: &Arc<Seat>) -> Option<Granted> {
        let mut state = self.lock(hash);
        let flight = flight_mut_where(&mut state, hash, |record| {
            record.offered_to(seat) && record.named_by(id)
        })?;
        let cause = flight.standing.take()?.cause;
        let (attempt, terms) = (flight.attempt, flight.terms);
        flight.lease_until = clock::after(terms.lease);
        if flight.lease_until.is_some() {
            self.losses.store(true, Ordering::Relaxed);
        }
        self.watch_lease(hash, flight);
        count(&mut state.tally, cause);
        Some(self.grant(hash, &mut state, id, attempt, &terms))
    }

    /// A follower leaves. If it was promoted meanwhile it leads; if the flight ended, it looks.
    pub(super) fn leave(&self, hash: u64, seat: &Arc<Seat>, timed_out: bool) -> Left {
        let offered = {
            let mut state = self.lock(hash);
            if take_place(&mut state, hash, seat.ticket.load(Ordering::Relaxed)).is_some() {
                state.tally.timeouts += u64::from(timed_out);
                return Left::Gone;
            }
            flight_mut_where(&mut state, hash, |record| record.offered_to(seat))
                .and_then(|flight| flight.lead)
        };
        // Between the two looks the offer may lapse; then the follower stands in line again.
        match offered.map(|id| self.accept(hash, id, seat)) {
            Some(Some(granted)) => Left::Leads(granted),
            Some(None) => self.leave(hash, seat, timed_out),
            None => Left::Settled,
        }
    }

    /// Shares `value` with the followers and keeps it for `ttl` (`None`: the request's own).
    pub fn complete(
        &self,
        hash: u64,
        id: LeadId,
        value: V,
        ttl: Option<Duration>,
    ) -> Result<(), (Error, V)> {
        if let Err(error) = self.check_fork() {
            return Err((error, value));
        }
        let keep = self.config.retain.as_ref().is_none_or(|keep| keep(&value));
        let mut value = Some(value);
        let mut weight = None;
        let result = loop {
            let mut state = self.lock(hash);
            let Some(record) = state.find_mut(hash, |record| record.led_by(id)) else {
                state.tally.stale += 1;
                break Err(ErrorKind::Stale);
            };
            let weight = match (weight, &self.config.weigher) {
                (Some(weight), _) => weight,
                (None, Weigher::None) => *weight.insert(0),
                (None, Weigher::Trusted(weigh)) => {
                    *weight.insert(value.as_ref().map_or(0, |value| weigh(record.key.get(), value)))
                }
                (None, Weigher::User(weigh)) => {
                    let StoredKey::Shared(key) = &record.key else { unreachable!("see keep_key") };
                    let key = Arc::clone(key);
                    drop(state);
                    weight = value.as_ref().map(|value| weigh(&key, value));
                    continue;
                }
            };
            if weight > self.config.max_weight {
                break Err(ErrorKind::TooLarge);
            }
            let Some(flight) = record.flight() else { break Err(ErrorKind::Stale) };
            let thread = flight.terms.thread;
            let ttl = ttl.unwrap_or(flight.terms.ttl);
            let retain = keep && !flight.detached && !ttl.is_zero() && self.window.admits(weight);
            if !retain || state.closed {
                let after = self.end(&mut state, hash, id, || {
                    Verdict::Shared(Arc::new(value.take().expect("taken once")))
                });
                drop(state);
                deadlock::lead_settled(thread);
                after.run();
                break Ok(());
            }
            if !self.window.reserve(weight) {
                drop(state);
                self.evict_soonest();
                continue;
            }
            let value = Arc::new(value.take().expect("taken once"));
            let (after, expires) = self.retain(&mut state, hash, id, value, ttl, weight);
            self.publish_soonest(hash, &state);
            drop(state);
            deadlock::lead_settled(thread);
            after.run();
            self.schedule_sweep(expires);
            return Ok(());
        };
        match (result, value) {
            (Err(kind), Some(value)) => Err((kind.into(), value)),
            _ => Ok(()),
        }
    }

    /// Turns a flight into a completed response, in place.
    fn retain(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        id: LeadId,
        value: Arc<V>,
        ttl: Duration,
        weight: usize,
    ) -> (After<K, V>, Instant) {
        let seq = state.next_completion();
        let expires = expiry(ttl);
        let shared = Arc::clone(&value);
        let completed = RecordState::Completed(Completed { value, expires, seq, weight });
        let record = state.find_mut(hash, |record| record.led_by(id)).expect("found above");
        let flying = std::mem::replace(&mut record.state, completed);
        let mut after = After::default();
        state.names.remove(&id);
        state.expiry.insert((expires, seq), hash);
        state.tally.in_flight -= 1;
        state.tally.completed += 1;
        state.tally.completed_bytes += weight as u64;
        if let RecordState::Flying(mut flight) = flying {
            self.landed(&flight);
            after.dismissed = dismiss(&mut state.tally, &mut flight, || Verdict::Shared(shared));
        }
        (after, expires)
    }

    /// Nothing happened: the next in line leads, or all fail, by policy.
    pub fn cancel(&self, hash: u64, id: LeadId) -> Result<(), Error> {
        self.settle(hash, id, |state| {
            state.tally.cancels += 1;
            if detached(state, hash, id) {
                return self.end_detached(state, hash, id);
            }
            match self.config.on_cancel {
                OnCancel::Promote => self.hand_on(state, hash, id, Cause::Cancelled),
                OnCancel::FailAll => {
                    self.end(state, hash, id, || Verdict::Failed(ErrorKind::Cancelled))
                }
            }
        })
    }

    /// It may have happened: the lead is lost.
    pub fn abandon(&self, hash: u64, id: LeadId) -> Result<(), Error> {
        self.settle(hash, id, |state| {
            if detached(state, hash, id) {
                return self.end_detached(state, hash, id);
            }
            self.hand_on(state, hash, id, Cause::TakenOver)
        })
    }

    /// Not to be shared: every follower does its own work.
    pub fn decline(&self, hash: u64, id: LeadId) -> Result<(), Error> {
        self.settle(hash, id, |state| self.end(state, hash, id, || Verdict::Bypass))
    }

    fn settle(
        &self,
        hash: u64,
        id: LeadId,
        transition: impl FnOnce(&mut State<K, V>) -> After<K, V>,
    ) -> Result<(), Error> {
        self.check_fork()?;
        let mut state = self.lock(hash);
        let thread = lead_mut(&mut state, hash, id)?.terms.thread;
        let after = transition(&mut state);
        drop(state);
        deadlock::lead_settled(thread);
        after.run();
        Ok(())
    }

    /// The lead `id` is over without an outcome: offers it to the next in line. With nobody there
    /// the flight ends if nothing happened, and else waits for a begin to take over.
    pub(super) fn hand_on(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        id: LeadId,
        cause: Cause,
    ) -> After<K, V> {
        let which = |record: &Record<K, V>| record.named_by(id);
        let hold =
            cause == Cause::TakenOver && self.config.on_lease_expired == OnLeaseExpired::Hold;
        let mut after = After {
            offer: state.promote(hash, which, cause, |terms| !hold || terms.recover),
            ..After::default()
        };
        if after.offer.is_some() {
            self.watch_offer(hash, &after);
        } else if cause == Cause::Cancelled {
            return self.end(state, hash, id, || Verdict::Failed(ErrorKind::Cancelled));
        } else {
            let State { records, tally, names, .. } = state;
            let Some(flight) = records.find_mut(hash, which).and_then(Record::flight_mut) else {
                return after;
            };
            // Under HOLD there may be a line that nobody in it may lead.
            after.dismissed = dismiss(tally, flight, || Verdict::Failed(ErrorKind::Unknown));
            flight.orphan();
            self.unwatch_lease(flight);
            names.remove(&id);
            self.losses.store(true, Ordering::Relaxed);
        }
        after
    }

    /// Ends a flight led by `id`.
    pub(super) fn end(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        id: LeadId,
        verdict: impl FnOnce() -> Verdict<K, V>,
    ) -> After<K, V> {
        let after = state.end(hash, |record| record.named_by(id), verdict);
        self.landed_with(&after);
        after
    }

    pub(super) fn end_detached(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        id: LeadId,
    ) -> After<K, V> {
        let after = state.end_detached(hash, |record| record.named_by(id));
        self.landed_with(&after);
        after
    }

    pub(super) fn landed_with(&self, after: &After<K, V>) {
        if let Some(flight) = after.garbage.as_ref().and_then(Record::flight) {
            self.landed(flight);
        }
    }

    /// One flight fewer.
    fn landed(&self, flight: &Flight<K, V>) {
        if let Some((_, alarm)) = flight.alarm {
            self.alarms.cancel(alarm);
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives the lead `lease` from now.
    pub fn renew(&self, hash: u64, id: LeadId, lease: Option<Duration>) -> Result<(), Error> {
        self.check_fork()?;
        let mut state = self.lock(hash);
        let flight = lead_mut(&mut state, hash, id)?;
        let lease = lease.map_or(flight.terms.lease, |lease| self.config.lease_granted(lease));
        flight.lease_until = clock::after(lease);
        self.unwatch_lease(flight);
        self.watch_lease(hash, flight);
        if flight.lease_until.is_some() {
            self.losses.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Leaves `bytes` for a successor.
    pub fn set_checkpoint(&self, hash: u64, id: LeadId, bytes: &[u8]) -> Result<(), Error> {
        self.check_fork()?;
        let bytes = Arc::from(bytes);
        let mut state = self.lock(hash);
        lead_mut(&mut state, hash, id)?.checkpoint = Some(bytes);
        Ok(())
    }

    /// The attempt and the checkpoint of a live lead.
    pub fn details(&self, hash: u64, id: LeadId) -> Result<(u32, Option<Arc<[u8]>>), Error> {
        self.check_fork()?;
        let mut state = self.lock(hash);
        let flight = lead_mut(&mut state, hash, id)?;
        Ok((flight.attempt, flight.checkpoint.clone()))
    }

    /// The hash of a named lead's key.
    pub fn resolve(&self, id: LeadId) -> Result<u64, Error> {
        self.check_fork()?;
        let Some(shard) = self.shards.get(shard_of(id)) else {
            return Err(ErrorKind::Stale.into());
        };
        let mut state = shard.state.lock();
        let hash = state.names.get(&id).copied();
        if hash.is_none() {
            state.tally.stale += 1;
        }
        hash.ok_or_else(|| ErrorKind::Stale.into())
    }

    /// Drops a completed response; hides a flight from everyone but its lead and its followers.
    pub fn forget<Q>(&self, hash: u64, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.check_fork()?;
        let visible = |record: &Record<K, V>| record.visible_as(hash, key);
        let mut state = self.lock(hash);
        let Some(record) = state.find_mut(hash, visible) else { return Ok(false) };
        let after = match &mut record.state {
            RecordState::Completed(_) => {
                After { garbage: self.drop_completed(hash, &mut state, key), ..After::default() }
            }
            RecordState::Flying(flight) if flight.lead.is_none() => {
                let after = state.end_detached(hash, visible);
                self.landed_with(&after);
                after
            }
            RecordState::Flying(flight) => {
                flight.detached = true;
                self.watch_lease(hash, flight);
                After::default()
            }
        };
        drop(state);
        after.run();
        Ok(true)
    }

    /// Takes a completed response out of the index, the window and the counts.
    fn drop_completed<Q>(&self, hash: u64, state: &mut State<K, V>, key: &Q) -> Option<Record<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let record = state.remove(hash, |record| record.visible_as(hash, key))?;
        if let RecordState::Completed(completed) = &record.state {
            self.window.release(completed.weight);
        }
        self.publish_soonest(hash, state);
        Some(record)
    }

    /// Refuses new begins and tells every follower; leads still settle.
    pub fn close(&self) {
        if self.forked() {
            return;
        }
        for shard in &self.shards {
            let mut state = shard.state.lock();
            let State { records, expiry, tally, closed, .. } = &mut *state;
            *closed = true;
            let mut dismissed = Vec::new();
            for flight in records.iter_mut().filter_map(Record::flight_mut) {
                let on_offer = flight.standing.is_some();
                dismissed.extend(dismiss(tally, flight, || Verdict::Failed(ErrorKind::Closed)));
                if on_offer {
                    flight.orphan();
                }
            }
            // What has no leader will never settle; what is completed will never be replayed.
            let garbage: Vec<_> = records
                .extract_if(|record| record.flight().is_none_or(|flight| flight.lead.is_none()))
                .collect();
            for record in &garbage {
                match &record.state {
                    RecordState::Flying(flight) => {
                        tally.in_flight -= 1;
                        self.landed(flight);
                    }
                    RecordState::Completed(completed) => {
                        tally.completed -= 1;
                        tally.completed_bytes -= completed.weight as u64;
                        self.window.release(completed.weight);
                    }
                }
            }
            expiry.clear();
            shard.soonest.store(u64::MAX, Ordering::Relaxed);
            drop(state);
            for followers in dismissed {
                After { dismissed: Some(followers), ..After::default() }.run();
            }
        }
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
        stats
    }

    fn reserve_flight(&self) -> Result<Slot<'_>, Error> {
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

    /// An alarm for a lease, if somebody needs it: a follower in line, or a detached flight that
    /// nobody will look at again.
    pub(super) fn watch_lease(&self, hash: u64, flight: &mut Flight<K, V>) {
        let (Some(at), Some(id)) = (flight.lease_until, flight.lead) else { return };
        let watched = flight.alarm.is_some_and(|(lead, _)| lead == id);
        if !watched && (flight.waiting() > 0 || flight.detached) {
            self.unwatch_lease(flight);
            let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
            flight.alarm = Some((id, self.alarms.set(at, me, Alarm::Lease { hash, id })));
        }
    }

    fn unwatch_lease(&self, flight: &mut Flight<K, V>) {
        if let Some((_, alarm)) = flight.alarm.take() {
            self.alarms.cancel(alarm);
        }
    }

    /// An alarm for an offer that may go unread.
    pub(super) fn watch_offer(&self, hash: u64, after: &After<K, V>) {
        let Some(offer) = after.offer.as_ref().filter(|offer| !offer.seat.blocking) else { return };
        if let Some(at) = clock::after(self.config.offer) {
            let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
            self.alarms.set(at, me, Alarm::Offer { hash, id: offer.id });
        }
    }
}

/// Room for one more flight, given back unless it is used.
struct Slot<'a>(Option<&'a AtomicUsize>);

impl Slot<'_> {
    fn keep(mut self) {
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

/// The flight that `id` leads, or `Stale`.
fn lead_mut<K, V>(
    state: &mut State<K, V>,
    hash: u64,
    id: LeadId,
) -> Result<&mut Flight<K, V>, Error> {
    let State { records, tally, .. } = state;
    records.find_mut(hash, |record| record.led_by(id)).and_then(Record::flight_mut).ok_or_else(
        || {
            tally.stale += 1;
            ErrorKind::Stale.into()
        },
    )
}

fn detached<K, V>(state: &mut State<K, V>, hash: u64, id: LeadId) -> bool {
    flight_of(state, hash, |record| record.led_by(id)).detached
}

/// Counts a lead that isn't its flight's first.
fn count(tally: &mut Stats, cause: Cause) {
    match cause {
        Cause::Cancelled => tally.promotions += 1,
        Cause::TakenOver => tally.takeovers += 1,
    }
}

/// Takes the place with that ticket out of its line.
pub(super) fn take_place<K, V>(state: &mut State<K, V>, hash: u64, ticket: u64) -> Option<Place> {
    let in_line = |record: &Record<K, V>| {
        record
            .flight()
            .and_then(|flight| flight.followers.as_ref())
            .is_some_and(|followers| followers.line.contains_key(&ticket))
    };
    let place = flight_mut_where(state, hash, in_line)?.followers.as_mut()?.line.remove(&ticket)?;
    state.tally.waiting -= 1;
    Some(place)
}

pub(super) fn flight_mut_where<K, V>(
    state: &mut State<K, V>,
    hash: u64,
    which: impl Fn(&Record<K, V>) -> bool,
) -> Option<&mut Flight<K, V>> {
    state.find_mut(hash, which)?.flight_mut()
}
