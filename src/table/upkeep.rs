//! What a table does that nobody asked for just now: it answers its alarms, gives back expired
//! memory, and makes room.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::begin::take_place;
use super::builder::OnLeaseExpired;
use super::engine::{Inner, flight_mut_where};
use super::flight::{Cause, LeadId};
use super::seat::{Seat, Told, Verdict};
use super::shard::{After, Record, RecordState, State};
use super::{Key, Value};
use crate::clock;
use crate::error::ErrorKind;
use crate::timer::{Alarm, AlarmKey, Alarmed};

impl<K: Key, V: Value> Alarmed for Inner<K, V> {
    fn ring(&self, alarm: Alarm) {
        if self.forked() {
            return;
        }
        match alarm {
            Alarm::Lease { hash, id } => self.lease_passed(hash, id),
            Alarm::Offer { hash, id } => self.offer_lapsed(hash, id),
            Alarm::Deadline { hash, ticket } => {
                let place = {
                    let mut state = self.lock(hash);
                    let place = take_place(&mut state, hash, ticket.load(Ordering::Relaxed));
                    state.tally.timeouts += u64::from(place.is_some());
                    place
                };
                if let Some(place) = place {
                    place.seat.tell(Told::TimedOut);
                }
            }
            Alarm::Sweep => self.sweep(),
        }
    }
}

impl<K: Key, V: Value> Inner<K, V> {
    fn hold(&self) -> bool {
        self.config.on_lease_expired == OnLeaseExpired::Hold
    }

    /// A lease that somebody waits on has passed, unless it was renewed.
    fn lease_passed(&self, hash: u64, id: LeadId) {
        let mut state = self.lock(hash);
        let which = |record: &Record<K, V>| record.led_by(id);
        let Some(flight) = flight_mut_where(&mut state, hash, which) else { return };
        if !flight.overdue() {
            // Somebody has been asked already; or the lease was renewed, and has an alarm of its own.
            return;
        }
        flight.alarm = None;
        let number = flight.number;
        let after = if flight.detached {
            state.restart_followers(hash, which)
        } else if flight.waiting() > 0 {
            let mut after = After::default();
            self.offer_on(&mut state, hash, number, Cause::TakenOver, &mut after);
            after
        } else {
            After::default()
        };
        drop(state);
        after.run();
    }

    /// An offer that wasn't accepted passes to the next in line, and its follower goes to the back.
    /// Alone it keeps the offer, until a new begin takes it. A line in which nobody else may lead
    /// has waited long enough.
    fn offer_lapsed(&self, hash: u64, id: LeadId) {
        let mut after = After::default();
        let mut state = self.lock(hash);
        let which = |record: &Record<K, V>| record.offers(id);
        let Some(flight) = flight_mut_where(&mut state, hash, which) else { return };
        let (number, waiting) = (flight.number, flight.waiting());
        let Some(standing) = &mut flight.standing else { return };
        let cause = standing.cause;
        if waiting == 0 && !clock::passed(standing.place.deadline) {
            standing.lapsed = true;
            return;
        }
        let others = flight.followers.as_ref().is_some_and(|followers| {
            followers.line.values().any(|place| self.may_lead(cause, &place.terms))
        });
        state.take_back(hash, number, true, &mut after);
        if others {
            self.offer_on(&mut state, hash, number, cause, &mut after);
        } else {
            self.unled(&mut state, hash, number, cause, &mut after);
        }
        drop(state);
        after.run();
    }

    /// A follower goes away for good, and passes on what was offered to it.
    pub(super) fn give_up(&self, hash: u64, seat: &Arc<Seat>) {
        let mut state = self.lock(hash);
        if let Some(place) = take_place(&mut state, hash, seat.ticket.load(Ordering::Relaxed)) {
            drop(state);
            drop(place);
            return;
        }
        let which = |record: &Record<K, V>| record.offered_to(seat);
        let Some(flight) = flight_mut_where(&mut state, hash, which) else { return };
        let Some(standing) = flight.standing.take() else { return };
        let number = flight.number;
        let after = if !flight.detached {
            let mut after = After::default();
            self.offer_on(&mut state, hash, number, standing.cause, &mut after);
            after
        } else if flight.lead.is_none() {
            self.end_detached(&mut state, hash, number)
        } else {
            state.restart_followers(hash, |record| record.numbered(number))
        };
        drop(state);
        after.run();
    }

    /// Drops one flight that lost its leader and that nobody waits for, to make room for another.
    /// Its attempts are forgotten, which policy HOLD forbids unless nobody can see it any more.
    pub(super) fn reclaim_lost(&self) -> bool {
        // A refused begin must not cost a look at every record: none is lost before this moment.
        let now = clock::now();
        if self.nanos(now) < self.losses_from.load(Ordering::Relaxed) {
            return false;
        }
        self.losses_from.store(u64::MAX, Ordering::Relaxed);
        let mut next = None::<Instant>;
        let found = self.shards.iter().any(|shard| {
            let mut state = shard.state.lock();
            let lost = state.records.iter().find(|record| {
                let lost = self.lost(record);
                let until = record.flight().and_then(|flight| flight.lease_until);
                if !lost && let Some(until) = until {
                    next = Some(next.map_or(until, |next| next.min(until)));
                }
                lost
            });
            let Some(hash) = lost.map(|record| record.hash) else { return false };
            let verdict = || Verdict::Failed(ErrorKind::Overloaded);
            let after = state.end(hash, |record| self.lost(record), verdict);
            self.landed_with(&after);
            drop(state);
            after.run();
            true
        });
        if found {
            self.expect_losses(now);
        } else if let Some(next) = next {
            // One that is overdue and not lost has a line, or is held: no hurry to look again.
            self.expect_losses(next.max(now + Duration::from_millis(100)));
        }
        found
    }

    fn lost(&self, record: &Record<K, V>) -> bool {
        record.flight().is_some_and(|flight| {
            (!self.hold() || flight.detached)
                && flight.waiting() == 0
                && flight.standing.is_none()
                && flight.overdue()
        })
    }

    /// Drops the response that would expire soonest.
    pub(super) fn evict_soonest(&self) {
        let soonest = self.shards.iter().min_by_key(|shard| shard.soonest.load(Ordering::Relaxed));
        let Some(shard) = soonest else { return };
        let evicted = {
            let mut state = shard.state.lock();
            let mut early = false;
            let evicted = self.pop_expiry(&mut state, |expires| {
                early = clock::now() < expires;
                true
            });
            state.tally.evictions += u64::from(evicted.is_some() && early);
            shard.soonest.store(self.soonest_in(&state), Ordering::Relaxed);
            evicted
        };
        if evicted.is_none() {
            // Somebody else is between counting a response in and publishing it, or evicted it.
            crate::sync::yield_now();
        }
    }

    /// Takes out the response that expires first, if `may`.
    fn pop_expiry(
        &self,
        state: &mut State<K, V>,
        mut may: impl FnMut(Instant) -> bool,
    ) -> Option<Record<K, V>> {
        let (&(expires, seq), &hash) = state.expiry.first_key_value()?;
        if !may(expires) {
            return None;
        }
        let record = state.remove(hash, |record| match &record.state {
            RecordState::Completed(completed) => {
                completed.seq == seq && completed.expires == expires
            }
            RecordState::Flying(_) => false,
        })?;
        if let RecordState::Completed(completed) = &record.state {
            self.window.release(completed.weight);
        }
        Some(record)
    }

    /// Drops what has expired, in batches short enough that no caller notices the lock.
    fn sweep(&self) {
        const BATCH: usize = 64;
        self.cancel_sweep(&mut self.sweep_alarm.lock());
        for shard in &self.shards {
            loop {
                let now = clock::now();
                let expired: Vec<_> = {
                    let mut state = shard.state.lock();
                    let expired = std::iter::from_fn(|| {
                        self.pop_expiry(&mut state, |expires| expires <= now)
                    })
                    .take(BATCH)
                    .collect();
                    shard.soonest.store(self.soonest_in(&state), Ordering::Relaxed);
                    expired
                };
                let more = expired.len() == BATCH;
                for record in expired {
                    // A destructor's panic is its owner's; the others still go.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(record)));
                }
                if !more {
                    break;
                }
            }
        }
        let soonest = self.shards.iter().map(|shard| shard.soonest.load(Ordering::Relaxed)).min();
        if let Some(soonest) = soonest.filter(|soonest| *soonest != u64::MAX) {
            self.schedule_sweep(self.made + Duration::from_nanos(soonest));
        }
    }

    /// Has the reaper come soon after `expires`, unless it comes earlier anyway. Look-ups are exact
    /// without it; a short delay lets it take many at once.
    pub(super) fn schedule_sweep(&self, expires: Instant) {
        const DELAY: Duration = Duration::from_millis(10);
        let at = expires.max(clock::now()) + DELAY;
        let nanos = self.nanos(at);
        if nanos >= self.sweep_at.load(Ordering::Relaxed) {
            return;
        }
        let mut alarm = self.sweep_alarm.lock();
        if alarm.is_none_or(|alarm| at < alarm.at()) {
            self.cancel_sweep(&mut alarm);
            let me = Weak::clone(&self.me) as Weak<dyn Alarmed>;
            *alarm = Some(self.reaper.set(at, me, Alarm::Sweep));
            self.sweep_at.store(nanos, Ordering::Relaxed);
        }
    }

    /// At most one alarm to sweep is ever set.
    pub(super) fn cancel_sweep(&self, alarm: &mut Option<AlarmKey>) {
        if let Some(alarm) = alarm.take() {
            self.reaper.cancel(alarm);
        }
        self.sweep_at.store(u64::MAX, Ordering::Relaxed);
    }

    pub(super) fn publish_soonest(&self, hash: u64, state: &State<K, V>) {
        self.shard(hash).soonest.store(self.soonest_in(state), Ordering::Relaxed);
    }

    fn soonest_in(&self, state: &State<K, V>) -> u64 {
        state.expiry.first_key_value().map_or(u64::MAX, |(&(expires, _), _)| self.nanos(expires))
    }

    pub(super) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.made).as_nanos()).unwrap_or(u64::MAX - 1)
    }
}
