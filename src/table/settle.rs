//! What a lead can do: settle its flight, or change its terms.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::builder::{OnCancel, OnLeaseExpired};
use super::deadlock;
use super::engine::{After, Inner, find_lead};
use super::flight::{Cause, Flight, Followers, LeadId, Terms};
use super::form::{Draft, Form, Kept};
use super::index::Spot;
use super::line::{Entry, Guard, Place, SPOT_BITS, hash_of};
use super::local::{Here, Local};
use super::seat::Verdict;
use super::window::expiry;
use crate::clock::{self, Span};
use crate::error::{Error, ErrorKind};

/// A lead, and where its key is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeadRef {
    pub id: LeadId,
    pub hash: u32,
    /// `None`: of the hash no more is known than what the id tells.
    pub tag: Option<NonZero<u8>>,
}

impl LeadRef {
    #[inline(always)]
    pub fn of(id: LeadId, spot: Spot) -> Self {
        Self { id, hash: spot.hash(), tag: NonZero::new(spot.tag() | 0x80) }
    }

    /// A lead known by its id alone.
    #[cfg(any(feature = "capi", feature = "store"))]
    #[inline(always)]
    pub fn named(id: LeadId) -> Self {
        Self { id, hash: hash_of(id), tag: None }
    }
}

/// What a leader may ask about its lead.
#[cfg_attr(not(feature = "capi"), allow(dead_code))]
pub(crate) struct Details {
    pub attempt: u32,
    pub checkpoint: Option<Arc<[u8]>>,
}

impl<F: Form> Inner<F> {
    /// Holds the line of a live lead, or says that it is stale.
    #[inline(always)]
    fn lead(&self, here: &Local<F>, lead: LeadRef) -> Result<(Guard<'_, F>, Place), Error> {
        self.find_live(lead).ok_or_else(|| {
            here.tally.stale.up();
            ErrorKind::Stale.into()
        })
    }

    #[inline(always)]
    fn find_live(&self, lead: LeadRef) -> Option<(Guard<'_, F>, Place)> {
        match lead.tag {
            Some(tag) => {
                let mut line = self.index.hold(lead.hash);
                find_lead(&mut line, Some(tag), lead.id).map(|place| (line, place))
            }
            None => self.lead_by_id(lead.id),
        }
    }

    /// An id tells the last bits of its key's hash, which is one line as long as there are no more
    /// lines than those tell apart.
    #[inline(never)]
    fn lead_by_id(&self, id: LeadId) -> Option<(Guard<'_, F>, Place)> {
        let first = hash_of(id);
        let mut hash = first;
        loop {
            let mut line = self.index.hold(hash);
            if let Some(place) = find_lead(&mut line, None, id) {
                return Some((line, place));
            }
            drop(line);
            hash += 1 << SPOT_BITS;
            if hash as usize >= self.index.len() {
                return None;
            }
        }
    }

    /// The case that is to be fast: a flight that nobody joined, and a response that isn't kept, so
    /// that nobody has to see it. What it does is what `complete_in_full` would.
    #[inline(always)]
    pub fn complete_at_once<D: Draft<F>>(&self, lead: LeadRef, ttl: Option<Span>) -> bool {
        let kept = ttl.unwrap_or(self.usual.ttl) != 0;
        if kept || !D::asks_nothing(&self.form) || self.forked() {
            return false;
        }
        let Some(here) = self.locals.mine() else { return false };
        let mut line = self.index.hold(lead.hash);
        let Some(mut flight) = line.take_plain(lead.tag.map_or(0, NonZero::get), lead.id) else {
            return false;
        };
        drop(line);
        self.landed(here);
        let thread = flight.thread();
        let key = F::clear(&mut flight.key);
        here.keep_spare(flight);
        deadlock::lead_settled(thread);
        drop(key);
        true
    }

    /// Shares what the leader made with the followers and keeps it for `ttl` (`None`: the request's
    /// own).
    #[inline(never)]
    pub fn complete_in_full<D: Draft<F>>(
        &self,
        lead: LeadRef,
        mut draft: D,
        ttl: Option<Span>,
    ) -> Result<(), (Error, D)> {
        if let Err(error) = self.check_fork() {
            return Err((error, draft));
        }
        let keep = draft.is_kept(&self.form);
        loop {
            let here = self.here();
            let (mut line, place) = match self.lead(&here, lead) {
                Ok(found) => found,
                Err(error) => return Err((error, draft)),
            };
            let flight = line.flight(place);
            let Some(key) = &flight.key else { unreachable!("a flight in a line has a key") };
            let weight = match draft.weigh(&self.form, key) {
                Ok(weight) => weight,
                Err(chore) => {
                    drop(line);
                    drop(here);
                    draft.work(&self.form, chore);
                    continue;
                }
            };
            if weight > self.config.max_weight {
                return Err((ErrorKind::TooLarge.into(), draft));
            }
            let ttl = ttl.unwrap_or_else(|| flight.ttl(&self.usual));
            let retain = keep
                && ttl != 0
                && !flight.detached()
                && self.shared.window.admits(weight)
                && !self.is_closed();
            if retain && !self.shared.window.reserve(weight) {
                drop(line);
                drop(here);
                self.evict();
                continue;
            }
            if retain {
                self.retain(here, line, place, draft, ttl, weight);
            } else {
                self.share(here, line, place, draft);
            }
            return Ok(());
        }
    }

    /// Ends a flight with a response that isn't kept.
    fn share<D: Draft<F>>(
        &self,
        here: Here<'_, F>,
        mut line: Guard<'_, F>,
        place: Place,
        draft: D,
    ) {
        let mut flight = self.land(&here, &mut line, place);
        let thread = flight.thread();
        let mut draft = Some(draft);
        let dismissed = self.dismiss(&here, &mut flight, || {
            Verdict::Shared(draft.take().expect("taken once").share())
        });
        drop(line);
        self.settled(here, flight, thread, dismissed);
    }

    /// Turns a flight into a completed response, in place.
    fn retain<D: Draft<F>>(
        &self,
        here: Here<'_, F>,
        mut line: Guard<'_, F>,
        place: Place,
        draft: D,
        ttl: Span,
        weight: usize,
    ) {
        let expires = expiry(ttl);
        let flight = line.flight(place);
        let (hash, thread) = (flight.hash, flight.thread());
        let key = flight.key.take().expect("a flight in a line has a key");
        let fingerprint = flight.extras_mut().and_then(|extras| extras.fingerprint.take());
        self.index.mark_held(&line, hash);
        let response = draft.keep(key, Kept { hash, expires, weight, fingerprint });
        let shared = response.clone();
        let Entry::Flying(mut flight) = line.replace(place, Entry::Completed(response)) else {
            unreachable!("the place of a flight")
        };
        self.unwatch(&mut flight);
        self.landed(&here);
        let dismissed = self.dismiss(&here, &mut flight, || Verdict::Shared(shared));
        drop(line);
        self.settled(here, flight, thread, dismissed);
        self.schedule_sweep(expires);
    }

    /// What follows the end of a flight, with its line let go: its followers are told, what is left
    /// of it is kept for another, and its key is dropped, which is user code.
    fn settled(
        &self,
        here: Here<'_, F>,
        mut flight: Box<Flight<F>>,
        thread: u32,
        dismissed: Option<Followers<F>>,
    ) {
        let key = F::clear(&mut flight.key);
        let extras = flight.take_extras();
        here.keep_spare(flight);
        drop(here);
        deadlock::lead_settled(thread);
        if let Some(followers) = dismissed {
            followers.dismiss();
        }
        drop((key, extras));
    }

    /// Nothing happened: the next in line leads, or all fail, by policy.
    pub fn cancel(&self, lead: LeadRef) -> Result<(), Error> {
        self.settle(lead, |here, line, place, after| {
            here.tally.cancels.up();
            match self.config.on_cancel {
                _ if line.flight(place).detached() => self.end_detached(here, line, place, after),
                OnCancel::Promote => self.lose(here, line, place, Cause::Cancelled, after),
                OnCancel::FailAll => {
                    let verdict = || Verdict::Failed(ErrorKind::Cancelled);
                    self.end(here, line, place, verdict, after);
                }
            }
        })
    }

    /// It may have happened: the lead is lost.
    pub fn abandon(&self, lead: LeadRef) -> Result<(), Error> {
        self.settle(lead, |here, line, place, after| {
            if line.flight(place).detached() {
                self.end_detached(here, line, place, after);
            } else {
                self.lose(here, line, place, Cause::TakenOver, after);
            }
        })
    }

    /// `cancel`, but those who wait have a response, which isn't kept.
    pub fn cancel_with(&self, lead: LeadRef, response: F::Response) -> Result<(), Error> {
        // What nobody waits for is dropped with nothing locked.
        let mut response = Some(response);
        self.settle(lead, |here, line, place, after| {
            here.tally.cancels.up();
            self.end(here, line, place, || share(&mut response), after);
        })
    }

    /// `abandon`, likewise: the lead is lost, and the next begin may take over.
    pub fn abandon_with(&self, lead: LeadRef, response: F::Response) -> Result<(), Error> {
        let mut response = Some(response);
        self.settle(lead, |here, line, place, after| {
            let flight = line.flight(place);
            if flight.detached() {
                self.end(here, line, place, || share(&mut response), after);
            } else {
                flight.lose_lead();
                self.end_unled(here, line, place, Cause::TakenOver, || share(&mut response), after);
            }
        })
    }

    /// Not to be shared: every follower does its own work.
    pub fn decline(&self, lead: LeadRef) -> Result<(), Error> {
        self.settle(lead, |here, line, place, after| {
            self.end(here, line, place, || Verdict::Bypass, after);
        })
    }

    fn settle(
        &self,
        lead: LeadRef,
        transition: impl FnOnce(&Local<F>, &mut Guard<'_, F>, Place, &mut After<F>),
    ) -> Result<(), Error> {
        self.check_fork()?;
        let mut after = After::default();
        let thread = {
            let here = self.here();
            let (mut line, place) = self.lead(&here, lead)?;
            let thread = line.flight(place).thread();
            transition(&here, &mut line, place, &mut after);
            thread
        };
        deadlock::lead_settled(thread);
        self.finish(after);
        Ok(())
    }

    /// The lead is over without an outcome.
    fn lose(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        cause: Cause,
        after: &mut After<F>,
    ) {
        let flight = line.flight(place);
        flight.lose_lead();
        let standing = flight.extras_mut().and_then(|extras| extras.standing.as_mut());
        match standing {
            // It was overdue, and somebody has been asked; that nothing happened is news to it.
            Some(standing) if cause == Cause::Cancelled => standing.cause = cause,
            Some(_) => {}
            None => self.offer_on(here, line, place, cause, after),
        }
    }

    /// Whether a follower may have a lead that is free for that reason.
    pub(super) fn may_lead(&self, cause: Cause, terms: &Terms) -> bool {
        let held = self.config.on_lease_expired == OnLeaseExpired::Hold;
        cause == Cause::Cancelled || !held || terms.recover
    }

    /// Offers the lead of a flight to the next in line.
    pub(super) fn offer_on(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        cause: Cause,
        after: &mut After<F>,
    ) {
        let hash = line.flight(place).hash;
        let id = line.next_id(hash);
        let flight = line.flight(place);
        after.offer = flight.promote(id, cause, |terms| self.may_lead(cause, terms));
        match &after.offer {
            Some(offer) => {
                here.tally.left.up();
                self.watch_offer(hash, flight, offer);
            }
            None => self.unled(here, line, place, cause, after),
        }
    }

    /// Nobody in line may lead.
    pub(super) fn unled(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        cause: Cause,
        after: &mut After<F>,
    ) {
        // Under HOLD there may be a line that nobody in it may lead.
        let unknown = || Verdict::Failed(ErrorKind::Unknown);
        self.end_unled(here, line, place, cause, unknown, after);
    }

    /// Nobody in line leads: they have that verdict. An overdue lead may still settle; a flight without
    /// a lead ends if nothing happened, and else waits for a begin.
    fn end_unled(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        cause: Cause,
        verdict: impl FnOnce() -> Verdict<F>,
        after: &mut After<F>,
    ) {
        let flight = line.flight(place);
        self.unwatch(flight);
        after.dismissed = self.dismiss(here, flight, verdict);
        if flight.lead().is_none() && (cause == Cause::Cancelled || self.is_closed()) {
            // Nothing happened; or nobody will ever take over.
            after.garbage = Some(Entry::Flying(self.land(here, line, place)));
        } else {
            self.expect_losses(0);
        }
    }

    /// Ends a flight, and makes its key vacant.
    pub(super) fn end(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        verdict: impl FnOnce() -> Verdict<F>,
        after: &mut After<F>,
    ) {
        let mut flight = self.land(here, line, place);
        after.dismissed = self.dismiss(here, &mut flight, verdict);
        after.garbage = Some(Entry::Flying(flight));
    }

    /// Ends a detached flight without an outcome: its followers begin again, with its key.
    pub(super) fn end_detached(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        after: &mut After<F>,
    ) {
        self.restart_followers(here, line, place, after);
        after.garbage = Some(Entry::Flying(self.land(here, line, place)));
    }

    /// Has the followers of a detached flight begin again, and leaves it to its lead.
    pub(super) fn restart_followers(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        after: &mut After<F>,
    ) {
        let flight = line.flight(place);
        self.unwatch(flight);
        let (key, again) = F::twin(flight.key.take().expect("a flight in a line has a key"));
        flight.key = Some(key);
        let fingerprint = flight.fingerprint().map(Box::from);
        after.dismissed = self.dismiss(here, flight, || Verdict::Restart(again, fingerprint));
    }

    /// Takes back an offer that nobody accepted. Its follower keeps its place or, if it had its
    /// time, goes to the back with a new ticket; and away, if its deadline passed meanwhile.
    pub(super) fn take_back(
        &self,
        here: &Local<F>,
        line: &mut Guard<'_, F>,
        place: Place,
        to_back: Option<u64>,
        after: &mut After<F>,
    ) {
        let Some(extras) = line.flight(place).extras_mut() else { return };
        let Some(standing) = extras.standing.take() else { return };
        let (id, seated) = (standing.id, standing.place);
        if clock::passed(seated.deadline) {
            here.tally.timeouts.up();
            after.timed_out = Some(seated.seat);
        } else if let Some(followers) = extras.followers.as_mut() {
            if let Some(ticket) = to_back {
                seated.seat.ticket.store(ticket, Ordering::Relaxed);
            }
            after.revoked = Some((Arc::clone(&seated.seat), id));
            followers.line.insert(seated.seat.ticket.load(Ordering::Relaxed), seated);
            here.tally.joined.up();
        }
    }

    /// Gives the lead `lease` from now.
    pub fn renew(&self, lead: LeadRef, lease: Option<Span>) -> Result<(), Error> {
        self.check_fork()?;
        let mut after = After::default();
        {
            let here = self.here();
            let (mut line, place) = self.lead(&here, lead)?;
            let flight = line.flight(place);
            let hash = flight.hash;
            let lease = lease.unwrap_or_else(|| flight.lease(&self.usual));
            flight.lease_until = clock::after(lease);
            // Somebody may have been asked to take over already; it goes back to where it stood.
            self.take_back(&here, &mut line, place, None, &mut after);
            let flight = line.flight(place);
            self.unwatch(flight);
            self.watch_lease(hash, flight);
        }
        self.finish(after);
        Ok(())
    }

    /// Leaves `bytes` for a successor.
    pub fn set_checkpoint(&self, lead: LeadRef, bytes: &[u8]) -> Result<(), Error> {
        self.check_fork()?;
        let bytes = Arc::from(bytes);
        let here = self.here();
        let (mut line, place) = self.lead(&here, lead)?;
        let before = line.flight(place).widen(&self.usual).checkpoint.replace(bytes);
        drop(line);
        drop(before);
        Ok(())
    }

    /// The attempt and the checkpoint of a live lead.
    pub fn details(&self, lead: LeadRef) -> Result<Details, Error> {
        self.check_fork()?;
        let here = self.here();
        let (mut line, place) = self.lead(&here, lead)?;
        let flight = line.flight(place);
        let checkpoint = flight.extras().and_then(|extras| extras.checkpoint.clone());
        Ok(Details { attempt: flight.attempt(), checkpoint })
    }

    /// How many followers wait for what that lead settles; none, if it is stale.
    pub fn waiting(&self, lead: LeadRef) -> usize {
        self.find_live(lead).map_or(0, |(mut line, place)| line.flight(place).waiting())
    }
}

/// What those who wait are told of a response that isn't kept.
fn share<F: Form>(response: &mut Option<F::Response>) -> Verdict<F> {
    Verdict::Shared(response.take().expect("told once"))
}
