//! Begin: lead, replay, follow, or take over; and how a follower becomes a leader or leaves.
//!
//! Each verb looks up its record, makes one transition under the shard's lock, releases the lock,
//! and then does what the transition left to be done.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::deadlock;
use super::engine::{Ask, Follow, Granted, Inner, Slot, Step, flight_mut_where, flight_of};
use super::flight::{Cause, Flight, Followers, LeadId, Place, Terms};
use super::seat::{Room, Seat, Waker};
use super::shard::{After, Record, RecordState, State, StoredKey};
use super::stats::Stats;
use super::{Key, Value};
use crate::clock;
use crate::error::{Error, ErrorKind};

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
        let mut flight = Flight::new(id, ask.terms);
        self.watch_lease(hash, &mut flight);
        let fingerprint = ask.fingerprint.map(Arc::from);
        state.insert(Record { hash, key, fingerprint, state: RecordState::Flying(flight) });
        grant(state, hash, id, 1, &ask.terms)
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
        let flight = flight_of(state, hash, visible);
        let number = flight.number;
        if let Some(standing) = &flight.standing {
            let (cause, lapsed) = (standing.cause, standing.lapsed);
            if !self.may_lead(cause, &ask.terms) {
                return Err(ErrorKind::Unknown.into());
            }
            if lapsed {
                // The one it was offered to had its time.
                state.take_back(hash, number, true, after);
                return Ok(Step::Lead(self.take_over(hash, state, number, cause, ask)));
            }
        } else if flight.overdue() {
            let cause = Cause::TakenOver;
            if !self.may_lead(cause, &ask.terms) {
                return Err(ErrorKind::Unknown.into());
            }
            after.offer = state.promote(hash, number, cause, |terms| self.may_lead(cause, terms));
            if after.offer.is_none() {
                return Ok(Step::Lead(self.take_over(hash, state, number, cause, ask)));
            }
            self.watch_offer(hash, state, number, after);
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
            Box::new(Followers { room: Arc::new(Room::new(thread)), line: BTreeMap::new() })
        });
        let room = Arc::clone(&followers.room);
        let place = Place { seat: Arc::clone(&seat), terms: ask.terms, deadline: ask.deadline };
        followers.line.insert(ticket, place);
        self.watch_lease(hash, flight);
        state.tally.waiting += 1;
        Ok(Step::Follow(room, seat))
    }

    /// The caller leads a flight that lost its leader.
    fn take_over(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        number: u64,
        cause: Cause,
        ask: &Ask<'_>,
    ) -> Granted {
        let id = state.next_id();
        self.succeed(hash, state, number, id, cause, &ask.terms)
    }

    /// A follower takes up the lead it was offered. `None`: the offer has lapsed.
    pub(super) fn accept(&self, hash: u64, id: LeadId, seat: &Arc<Seat>) -> Option<Granted> {
        let which = |record: &Record<K, V>| record.offered_to(seat) && record.offers(id);
        self.accept_in(&mut self.lock(hash), hash, which)
    }

    fn accept_in(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        which: impl Fn(&Record<K, V>) -> bool,
    ) -> Option<Granted> {
        let flight = flight_mut_where(state, hash, which)?;
        let number = flight.number;
        let standing = flight.standing.take()?;
        let (id, cause, terms) = (standing.id, standing.cause, standing.place.terms);
        Some(self.succeed(hash, state, number, id, cause, &terms))
    }

    /// A flight gets a new leader; the one before, if it still has one, is overtaken.
    fn succeed(
        &self,
        hash: u64,
        state: &mut State<K, V>,
        number: u64,
        id: LeadId,
        cause: Cause,
        terms: &Terms,
    ) -> Granted {
        let flight = flight_of(state, hash, |record| record.numbered(number));
        let before = flight.lead;
        flight.succeed(id, *terms);
        let attempt = flight.attempt;
        self.unwatch(flight);
        self.watch_lease(hash, flight);
        if let Some(before) = before {
            state.names.remove(&before);
        }
        count(&mut state.tally, cause);
        grant(state, hash, id, attempt, terms)
    }

    /// A follower leaves. If it was promoted meanwhile it leads; if the flight ended, it looks.
    pub(super) fn leave(&self, hash: u64, seat: &Arc<Seat>, timed_out: bool) -> Left {
        let mut state = self.lock(hash);
        if take_place(&mut state, hash, seat.ticket.load(Ordering::Relaxed)).is_some() {
            state.tally.timeouts += u64::from(timed_out);
            return Left::Gone;
        }
        let granted = self.accept_in(&mut state, hash, |record| record.offered_to(seat));
        granted.map_or(Left::Settled, Left::Leads)
    }
}

/// Counts a lead that is given now, to the calling thread.
fn grant<K, V>(
    state: &mut State<K, V>,
    hash: u64,
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
