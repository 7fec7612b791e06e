//! Begin: lead, replay, follow, or take over; and how a follower becomes a leader or leaves.
//!
//! Each verb finds its entry, makes one transition while it holds the line, lets the line go, and
//! then does what the transition left to be done.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::deadlock;
use super::engine::{After, Ask, Follow, Granted, Inner, Joined, Step, find_flight};
use super::flight::{Cause, Flight, Followers, LeadId, Seated, Terms};
use super::form::{Form, Probe, Response};
use super::index::Spot;
use super::line::{Entry, Guard, Place, View};
use super::local::{Here, Local};
use super::seat::{Room, Seat, Waker};
use crate::clock::{self, NEVER};
use crate::error::{Error, ErrorKind};

/// What a begin found that asked for nothing unusual.
pub(crate) enum AtOnce<R> {
    Lead(LeadId),
    /// What was made of the response.
    Replay(R),
    /// It would lead, once its key is made owned.
    Vacant,
    /// Something else, or something was in the way.
    No,
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

impl<F: Form> Inner<F> {
    /// Leads, replays, or takes a place in line.
    pub fn begin<P: Probe<F>>(
        &self,
        probe: &P,
        ask: &Ask<'_>,
        waker: Option<&Arc<dyn Waker>>,
    ) -> Result<Step<F>, Error> {
        match self.begin_at_once(probe, &ask.terms, ask.fingerprint, None, F::Response::clone) {
            AtOnce::Lead(id) => Ok(Step::Lead(Granted { id, attempt: 1 })),
            AtOnce::Replay(response) => Ok(Step::Replay(response)),
            AtOnce::Vacant | AtOnce::No => self.begin_in_full(probe, ask, waker),
        }
    }

    /// The two cases that are to be fast: a vacant key whose caller asks for nothing unusual, and a
    /// replay. What it does is what `begin_in_full` would. `take` makes what is given of a response,
    /// while its line is held.
    #[inline(always)]
    pub fn begin_at_once<P: Probe<F>, R>(
        &self,
        probe: &P,
        terms: &Terms,
        fingerprint: Option<&[u8]>,
        own: Option<F::Key>,
        take: impl FnOnce(&F::Response) -> R,
    ) -> AtOnce<R> {
        if self.forked() {
            return AtOnce::No;
        }
        let spot = probe.spot();
        let usual = fingerprint.is_none() && terms.are(&self.usual);
        let Some(here) = self.locals.mine() else { return AtOnce::No };
        // A key's clone is user code, so it is made with nothing held.
        let light = probe.light();
        let mut line = self.index.hold(spot.hash());
        if self.is_closed() {
            return AtOnce::No;
        }
        if let Some(place) = find(&mut line, spot, probe) {
            let View::Completed(response) = line.view(place) else { return AtOnce::No };
            if own.is_some()
                || !clock::before(response.expires())
                || response.fingerprint() != fingerprint
            {
                return AtOnce::No;
            }
            let taken = take(&response);
            drop(line);
            here.tally.replayed.up();
            return AtOnce::Replay(taken);
        }
        let (true, Some(vacant)) = (usual, line.vacant()) else { return AtOnce::No };
        if light.is_none() && own.is_none() {
            return AtOnce::Vacant;
        }
        let Some(mut flight) = here.take_spare() else { return AtOnce::No };
        if !self.reserve(here) {
            here.keep_spare(flight);
            return AtOnce::No;
        }
        match light {
            Some(light) if own.is_none() => probe.write(light, &mut flight.key),
            _ => flight.key = own,
        }
        let id = line.next_id(spot.hash());
        flight.depart(id, spot.hash(), terms);
        if flight.lease_until != NEVER {
            self.expect_losses(flight.lease_until);
        }
        line.fill(vacant, spot.tag(), Entry::Flying(flight));
        drop(line);
        grant(here, terms);
        AtOnce::Lead(id)
    }

    /// [`begin_at_once`](Self::begin_at_once) for a key that it found vacant and that is made owned
    /// first. Not for a response that was completed meanwhile: so it answers in a register, and what the
    /// caller has of a replay stays in some too.
    #[inline(never)]
    pub fn lead_owning<P: Probe<F>>(&self, probe: &P, terms: &Terms) -> Option<NonZero<LeadId>> {
        let own = Some(probe.own());
        match self.begin_at_once(probe, terms, None, own, |_| ()) {
            AtOnce::Lead(id) => NonZero::new(id),
            _ => None,
        }
    }

    #[inline(never)]
    pub fn begin_in_full<P: Probe<F>>(
        &self,
        probe: &P,
        ask: &Ask<'_>,
        waker: Option<&Arc<dyn Waker>>,
    ) -> Result<Step<F>, Error> {
        self.check_fork()?;
        let spot = probe.spot();
        // Making a key owned is user code, so it happens with nothing held, once the key turned out
        // to be vacant.
        let mut own = None;
        loop {
            let here = self.here();
            let mut line = self.index.hold(spot.hash());
            if self.is_closed() {
                return Err(ErrorKind::Closed.into());
            }
            if let Some(place) = find(&mut line, spot, probe) {
                match self.meet(here, spot, line, place, ask, waker) {
                    Some(step) => return step,
                    None => continue,
                }
            }
            if !P::OURS && own.is_none() {
                drop(line);
                drop(here);
                own = Some(probe.own());
                continue;
            }
            if !self.reserve(&here) {
                drop(line);
                drop(here);
                self.make_room()?;
                continue;
            }
            let mut flight = here.take_spare().unwrap_or_else(Flight::blank);
            flight.key = Some(own.take().unwrap_or_else(|| probe.own()));
            let id = line.next_id(spot.hash());
            flight.depart(id, spot.hash(), &ask.terms);
            flight.pack(&ask.terms, &self.usual, ask.fingerprint);
            if flight.lease_until != NEVER {
                self.expect_losses(flight.lease_until);
            }
            let place = line.insert(spot.tag(), Entry::Flying(flight), &self.index.crowded);
            drop(line);
            grant(&here, &ask.terms);
            if place.is_past_the_last() && self.index.is_crowded() {
                drop(here);
                self.index.grow(|| self.is_closed());
            }
            return Ok(Step::Lead(Granted { id, attempt: 1 }));
        }
    }

    /// The key isn't vacant. `None`: it is now.
    fn meet(
        &self,
        here: Here<'_, F>,
        spot: Spot,
        mut line: Guard<'_, F>,
        place: Place,
        ask: &Ask<'_>,
        waker: Option<&Arc<dyn Waker>>,
    ) -> Option<Result<Step<F>, Error>> {
        let mut after = After::default();
        let step = match line.view(place) {
            View::Completed(response) if !clock::before(response.expires()) => {
                after = self.drop_completed(&mut line, place);
                None
            }
            View::Completed(response) if response.fingerprint() == ask.fingerprint => {
                let response = F::Response::clone(&response);
                here.tally.replayed.up();
                Some(Ok(Step::Replay(response)))
            }
            View::Flying(flight) if flight.fingerprint() == ask.fingerprint => {
                Some(self.join(&here, spot, &mut line, place, ask, waker, &mut after))
            }
            _ => Some(Err(ErrorKind::Mismatch.into())),
        };
        drop(line);
        drop(here);
        self.finish(after);
        step
    }

    /// Tries to have one flight fewer.
    #[cold]
    fn make_room(&self) -> Result<(), Error> {
        if self.reclaim_lost() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Overloaded,
            "too many keys in flight; raise max_in_flight, or try again later",
        ))
    }

    /// The key is in flight: follow, or take over where that is due.
    #[allow(clippy::too_many_arguments)] // all of what begin has at hand
    fn join(
        &self,
        here: &Local<F>,
        spot: Spot,
        line: &mut Guard<'_, F>,
        place: Place,
        ask: &Ask<'_>,
        waker: Option<&Arc<dyn Waker>>,
        after: &mut After<F>,
    ) -> Result<Step<F>, Error> {
        let hash = spot.hash();
        // Ids and tickets come from one sequence. One is drawn in advance, used or not.
        let number = line.next_id(hash);
        let flight = line.flight(place);
        let standing = flight.standing().map(|standing| (standing.cause, standing.lapsed));
        if let Some((cause, lapsed)) = standing {
            if !self.may_lead(cause, &ask.terms) {
                return Err(ErrorKind::Unknown.into());
            }
            if lapsed {
                // The one it was offered to had its time.
                let ticket = line.next_id(hash);
                self.take_back(here, line, place, Some(ticket), after);
                return Ok(Step::Lead(self.succeed(here, line, place, number, cause, &ask.terms)));
            }
        } else if flight.overdue() {
            let cause = Cause::TakenOver;
            if !self.may_lead(cause, &ask.terms) {
                return Err(ErrorKind::Unknown.into());
            }
            after.offer = flight.promote(number, cause, |terms| self.may_lead(cause, terms));
            let Some(offer) = &after.offer else {
                return Ok(Step::Lead(self.succeed(here, line, place, number, cause, &ask.terms)));
            };
            here.tally.left.up();
            self.watch_offer(hash, flight, offer);
        }
        if ask.follow == Follow::No {
            here.tally.timeouts.up();
            return Err(ErrorKind::Timeout.into());
        }
        let ticket = line.next_id(hash);
        let flight = line.flight(place);
        if flight.waiting() >= self.config.max_waiters {
            return Err(ErrorKind::Overloaded.into());
        }
        let thread = flight.thread();
        let followers = flight.widen(&self.usual).followers.get_or_insert_with(|| Followers {
            room: Arc::new(Room::new(thread)),
            line: BTreeMap::new(),
        });
        let room = Arc::clone(&followers.room);
        let blocking = ask.follow == Follow::Blocking;
        let seat = Seat::new(ticket, blocking, waker.cloned(), Arc::clone(&room.gate));
        let seat = Arc::new(seat);
        let seated = Seated { seat: Arc::clone(&seat), terms: ask.terms, deadline: ask.deadline };
        followers.line.insert(ticket, seated);
        self.watch_lease(hash, flight);
        // Not by a clone of the caller's: that one lies in the handle, and `self` is used after this.
        let inner = self.me.upgrade().expect("its caller holds it");
        here.tally.joined.up();
        Ok(Step::Follow(Joined { inner, room, seat }))
    }

    /// A follower takes up the lead it was offered. `None`: the offer has lapsed.
    pub(super) fn accept(&self, hash: u32, id: LeadId, seat: &Arc<Seat>) -> Option<Granted> {
        let here = self.here();
        let mut line = self.index.hold(hash);
        let place = find_flight(&mut line, |flight| flight.offered_to(seat) && flight.offers(id))?;
        self.accept_in(&here, &mut line, place)
    }

    fn accept_in(&self, here: &Local<F>, line: &mut Guard<'_, F>, place: Place) -> Option<Granted> {
        let standing = line.flight(place).extras_mut()?.standing.take()?;
        let terms = standing.place.terms;
        Some(self.succeed(here, line, place, standing.id, standing.cause, &terms))
    }

    /// A flight gets a new leader; the one before, if it still has one, is overtaken.
    fn succeed(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        id: LeadId,
        cause: Cause,
        terms: &Terms,
    ) -> Granted {
        let flight = line.flight(place);
        flight.succeed(id, *terms, &self.usual);
        self.unwatch(flight);
        self.watch_lease(flight.hash, flight);
        match cause {
            Cause::Cancelled => here.tally.promotions.up(),
            Cause::TakenOver => here.tally.takeovers.up(),
        }
        grant(here, terms);
        Granted { id, attempt: flight.attempt() }
    }

    /// A follower leaves. If it was promoted meanwhile it leads; if the flight ended, it looks.
    pub(super) fn leave(&self, hash: u32, seat: &Arc<Seat>, timed_out: bool) -> Left {
        let here = self.here();
        let mut line = self.index.hold(hash);
        if take_seat(&here, &mut line, seat.ticket.load(Ordering::Relaxed)).is_some() {
            here.tally.timeouts.add(u64::from(timed_out));
            return Left::Gone;
        }
        let offered = find_flight(&mut line, |flight| flight.offered_to(seat));
        let granted = offered.and_then(|place| self.accept_in(&here, &mut line, place));
        granted.map_or(Left::Settled, Left::Leads)
    }
}

/// The entry of a key, unless it is hidden.
#[inline(always)]
pub(super) fn find<F: Form, P: Probe<F>>(
    line: &mut Guard<'_, F>,
    spot: Spot,
    probe: &P,
) -> Option<Place> {
    line.find(spot.tag(), |view| match view {
        View::Completed(response) => response.hash() == spot.hash() && probe.is_response(response),
        View::Flying(flight) => {
            flight.hash == spot.hash()
                && !flight.detached()
                && flight.key.as_ref().is_some_and(|key| probe.is_key(key))
        }
    })
}

/// Counts a lead that is given now, to the calling thread.
#[inline(always)]
fn grant<F: Form>(here: &Local<F>, terms: &Terms) {
    here.tally.leads.up();
    deadlock::lead_taken(terms.thread);
}

/// Takes the follower with that ticket out of its line.
pub(super) fn take_seat<F: Form>(
    here: &Local<F>,
    line: &mut Guard<'_, F>,
    ticket: u64,
) -> Option<Seated> {
    let place = line.find_any(|view| match view {
        View::Flying(flight) => {
            flight.followers_mut().is_some_and(|followers| followers.line.contains_key(&ticket))
        }
        View::Completed(_) => false,
    })?;
    let seated = line.flight(place).followers_mut()?.line.remove(&ticket)?;
    here.tally.left.up();
    Some(seated)
}
