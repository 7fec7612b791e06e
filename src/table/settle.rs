//! What a lead can do: settle its flight, or change its terms.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::builder::{OnCancel, OnLeaseExpired, Weigher};
use super::deadlock;
use super::engine::{Inner, flight_of};
use super::flight::{Cause, Flight, LeadId, Terms};
use super::seat::Verdict;
use super::shard::{After, Record, RecordState, State, StoredKey, dismiss};
use super::window::{Completed, expiry};
use super::{Key, Value};
use crate::clock;
use crate::error::{Error, ErrorKind};

/// What a leader may ask about its lead.
#[cfg_attr(not(feature = "capi"), allow(dead_code))]
pub(crate) struct Details {
    pub attempt: u32,
    pub checkpoint: Option<Arc<[u8]>>,
}

/// The flight of a lead that settles.
#[derive(Clone, Copy)]
struct Settled {
    number: u64,
    detached: bool,
}

impl<K: Key, V: Value> Inner<K, V> {
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
            let (number, thread) = (flight.number, flight.terms.thread);
            let ttl = ttl.unwrap_or(flight.terms.ttl);
            let retain = keep && !flight.detached && !ttl.is_zero() && self.window.admits(weight);
            if !retain || state.closed {
                let after = self.end(&mut state, hash, number, || {
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
        if let RecordState::Flying(mut flight) = flying {
            self.landed(&flight);
            after.dismissed = dismiss(&mut state.tally, &mut flight, || Verdict::Shared(shared));
        }
        (after, expires)
    }

    /// Nothing happened: the next in line leads, or all fail, by policy.
    pub fn cancel(&self, hash: u64, id: LeadId) -> Result<(), Error> {
        self.settle(hash, id, |state, flight| {
            state.tally.cancels += 1;
            match self.config.on_cancel {
                _ if flight.detached => self.end_detached(state, hash, flight.number),
                OnCancel::Promote => self.lose(state, hash, flight.number, Cause::Cancelled),
                OnCancel::FailAll => {
                    self.end(state, hash, flight.number, || Verdict::Failed(ErrorKind::Cancelled))
                }
            }
        })
    }

    /// It may have happened: the lead is lost.
    pub fn abandon(&self, hash: u64, id: LeadId) -> Result<(), Error> {
        self.settle(hash, id, |state, flight| {
            if flight.detached {
                self.end_detached(state, hash, flight.number)
            } else {
                self.lose(state, hash, flight.number, Cause::TakenOver)
            }
        })
    }

    /// Not to be shared: every follower does its own work.
    pub fn decline(&self, hash: u64, id: LeadId) -> Result<(), Error> {
        self.settle(hash, id, |state, flight| {
            self.end(state, hash, flight.number, || Verdict::Bypass)
        })
    }

    fn settle(
        &self,
        hash: u64,
        id: LeadId,
        transition: impl FnOnce(&mut State<K, V>, Settled) -> After<K, V>,
    ) -> Result<(), Error> {
        self.check_fork()?;
        let mut state = self.lock(hash);
        let flight = lead_mut(&mut state, hash, id)?;
        let thread = flight.terms.thread;
        let flight = Settled { number: flight.number, detached: flight.detached };
        let after = transition(&mut state, flight);
        drop(state);
        deadlock::lead_settled(thread);
        after.run();
        Ok(())
    }

    /// The lead is over without an outcome.
    fn lose(&self, state: &mut State<K, V>, hash: u64, number: u64, cause: Cause) -> After<K, V> {
        let flight = flight_of(state, hash, |record| record.numbered(number));
        let before = flight.lead;
        flight.lose_lead();
        let on_offer = match &mut flight.standing {
            // It was overdue, and somebody has been asked; that nothing happened is news to it.
            Some(standing) if cause == Cause::Cancelled => {
                standing.cause = cause;
                true
            }
            standing => standing.is_some(),
        };
        if let Some(before) = before {
            state.names.remove(&before);
        }
        let mut after = After::default();
        if !on_offer {
            self.offer_on(state, hash, number, cause, &mut after);
        }
        after
    }

    /// Whether a follower may have a lead that is free for that reason.
    pub(super) fn may_lead(&self, cause: Cause, terms: &Terms) -> bool {
        let held = self.config.on_lease_expired == OnLeaseExpired::Hold;
        cause == Cause::Cancelled || !held || terms.recover
    }

    /// Offers the lead of a flight to the next in line.
    pub(super) fn offer_on(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        number: u64,
        cause: Cause,
        after: &mut After<K, V>,
    ) {
        after.offer = state.promote(hash, number, cause, |terms| self.may_lead(cause, terms));
        if after.offer.is_some() {
            self.watch_offer(hash, state, number, after);
        } else {
            self.unled(state, hash, number, cause, after);
        }
    }

    /// Nobody in line may lead. An overdue lead may still settle; a flight without a lead ends if
    /// nothing happened, and else waits for a begin.
    pub(super) fn unled(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        number: u64,
        cause: Cause,
        after: &mut After<K, V>,
    ) {
        let closed = state.closed;
        let State { records, tally, .. } = &mut *state;
        let found = records.find_mut(hash, |record| record.numbered(number));
        let Some(flight) = found.and_then(Record::flight_mut) else { return };
        self.unwatch(flight);
        // Under HOLD there may be a line that nobody in it may lead.
        after.dismissed = dismiss(tally, flight, || Verdict::Failed(ErrorKind::Unknown));
        if flight.lead.is_none() && (cause == Cause::Cancelled || closed) {
            // Nothing happened; or nobody will ever take over.
            after.garbage = state.remove(hash, |record| record.numbered(number));
            self.landed_with(after);
        } else {
            self.expect_losses(self.made);
        }
    }

    /// Ends a flight.
    pub(super) fn end(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        number: u64,
        verdict: impl FnOnce() -> Verdict<K, V>,
    ) -> After<K, V> {
        let after = state.end(hash, |record| record.numbered(number), verdict);
        self.landed_with(&after);
        after
    }

    pub(super) fn end_detached(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        number: u64,
    ) -> After<K, V> {
        let after = state.end_detached(hash, |record| record.numbered(number));
        self.landed_with(&after);
        after
    }

    pub(super) fn landed_with(&self, after: &After<K, V>) {
        if let Some(flight) = after.garbage.as_ref().and_then(Record::flight) {
            self.landed(flight);
        }
    }

    /// One flight fewer.
    pub(super) fn landed(&self, flight: &Flight<K, V>) {
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
        let number = flight.number;
        let mut after = After::default();
        // Somebody may have been asked to take over already; it goes back to where it stood.
        state.take_back(hash, number, false, &mut after);
        let flight = lead_mut(&mut state, hash, id)?;
        self.unwatch(flight);
        self.watch_lease(hash, flight);
        drop(state);
        after.run();
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
    pub fn details(&self, hash: u64, id: LeadId) -> Result<Details, Error> {
        self.check_fork()?;
        let mut state = self.lock(hash);
        let flight = lead_mut(&mut state, hash, id)?;
        Ok(Details { attempt: flight.attempt, checkpoint: flight.checkpoint.clone() })
    }

    /// The hash of a named lead's key.
    #[cfg(feature = "capi")]
    pub fn resolve(&self, id: LeadId) -> Result<u64, Error> {
        self.check_fork()?;
        // An invented one may name a shard that there isn't: any other will not know it either.
        let shard = self.shards.get(super::shard::shard_of(id)).unwrap_or(&self.shards[0]);
        let mut state = shard.state.lock();
        let hash = state.names.get(&id).copied();
        if hash.is_none() {
            state.tally.stale += 1;
        }
        hash.ok_or_else(|| ErrorKind::Stale.into())
    }
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
