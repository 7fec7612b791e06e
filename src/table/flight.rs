//! One execution in progress, and the line of those who wait for it.
//!
//! | lead | offer | the flight is | until |
//! |-|-|-|-|
//! | some | none | led | its lead settles; or, once overdue, somebody takes over |
//! | none | some | on offer to a follower | the follower accepts, or the offer passes on |
//! | some | some | overdue, and on offer | the follower accepts; or the lead settles or renews after all |
//! | none | none | orphaned: abandoned with nobody in line | the next begin (or `Unknown`, by policy) |
//!
//! These are plain transitions on plain data: the caller holds the key's line, and does what
//! they return ([`Offer`]s to tell) after releasing it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::form::Form;
use super::seat::{Room, Seat};
use crate::clock::{self, Moment, NEVER, Span};
use crate::timer::AlarmKey;

/// Names a lead. Unique in the process and growing with every leader of a key, so it is the
/// fencing token and the C handle at once. Never 0.
pub(crate) type LeadId = u64;

/// What a request asks for, should it lead. A follower carries its own until it is promoted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub lease: Span,
    pub ttl: Span,
    /// The thread that promises to settle the lead, or 0: see `deadlock`.
    pub thread: u32,
    /// May lead where an earlier attempt's outcome is unknown.
    pub recover: bool,
}

impl Terms {
    /// Whether they say nothing but what the table says anyway; and the thread.
    #[inline]
    pub fn are(&self, usual: &Terms) -> bool {
        self.lease == usual.lease && self.ttl == usual.ttl && self.recover == usual.recover
    }
}

pub(super) struct Seated {
    pub seat: Arc<Seat>,
    pub terms: Terms,
    pub deadline: Moment,
}

/// Why a lead passes on. It decides which counter the new one shows up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The last leader said that nothing happened.
    Cancelled,
    /// The last leader was lost, or is overdue: something may have happened.
    TakenOver,
}

/// The lead stands ready for a follower that hasn't taken it up.
pub(super) struct Standing {
    /// The lead that it will be.
    pub id: LeadId,
    pub place: Seated,
    pub cause: Cause,
    /// Nobody else was in line when its time was up: the next begin may have it.
    pub lapsed: bool,
}

/// A follower to tell of its offer.
pub(super) struct Offer {
    pub seat: Arc<Seat>,
    pub id: LeadId,
}

pub(super) struct Followers<F: Form> {
    pub room: Arc<Room<F>>,
    /// By ticket, which is by arrival.
    pub line: BTreeMap<u64, Seated>,
}

pub(super) struct Flight<F: Form> {
    /// 0: nobody leads.
    lead: LeadId,
    pub lease_until: Moment,
    /// What most flights haven't got.
    extras: Option<Box<Extras<F>>>,
    /// Which line it stands in.
    pub hash: u32,
    /// The leader's, of its terms.
    thread: u32,
    /// `None` in a flight that is kept for reuse.
    pub key: Option<F::Key>,
}

/// Followers, terms of its own, a second attempt: a flight with none of it needs 32 bytes and its key.
pub(super) struct Extras<F: Form> {
    pub terms: Terms,
    pub attempt: u32,
    /// Hidden from look-ups by `forget`.
    pub detached: bool,
    pub fingerprint: Option<Box<[u8]>>,
    pub standing: Option<Standing>,
    pub followers: Option<Followers<F>>,
    pub checkpoint: Option<Arc<[u8]>>,
    /// The alarm for the lease of that lead, or while it is on offer, for the offer.
    pub alarm: Option<(LeadId, AlarmKey)>,
}

impl<F: Form> Extras<F> {
    fn with(terms: Terms, fingerprint: Option<&[u8]>) -> Box<Self> {
        let mut extras = Self::new(terms);
        extras.fingerprint = fingerprint.map(Box::from);
        extras
    }

    fn new(terms: Terms) -> Box<Self> {
        Box::new(Self {
            terms,
            attempt: 1,
            detached: false,
            fingerprint: None,
            standing: None,
            followers: None,
            checkpoint: None,
            alarm: None,
        })
    }
}

impl<F: Form> Flight<F> {
    /// One for later.
    pub fn blank() -> Box<Self> {
        Box::new(Self { lead: 0, lease_until: NEVER, extras: None, hash: 0, thread: 0, key: None })
    }

    /// The first attempt; the key is written by the caller.
    #[inline(always)]
    pub fn depart(&mut self, id: LeadId, hash: u32, terms: &Terms) {
        self.lead = id;
        self.hash = hash;
        self.thread = terms.thread;
        self.lease_until = clock::after(terms.lease);
    }

    /// What its leader asked for that isn't usual.
    pub fn pack(&mut self, terms: &Terms, usual: &Terms, fingerprint: Option<&[u8]>) {
        if fingerprint.is_some() || !terms.are(usual) {
            self.extras = Some(Extras::with(*terms, fingerprint));
        }
    }

    pub fn extras(&self) -> Option<&Extras<F>> {
        self.extras.as_deref()
    }

    pub fn extras_mut(&mut self) -> Option<&mut Extras<F>> {
        self.extras.as_deref_mut()
    }

    /// Its extras, made if it had none.
    pub fn widen(&mut self, usual: &Terms) -> &mut Extras<F> {
        let thread = self.thread;
        self.extras.get_or_insert_with(|| Extras::new(Terms { thread, ..*usual }))
    }

    /// Whether nothing became of it but that it was led.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.extras.is_none()
    }

    pub fn take_extras(&mut self) -> Option<Box<Extras<F>>> {
        self.extras.take()
    }

    pub fn lead(&self) -> Option<LeadId> {
        (self.lead != 0).then_some(self.lead)
    }

    /// Whether that lead holds it. 0 is nobody's: a flight without a lead is held by none.
    #[inline(always)]
    pub fn led_by(&self, id: LeadId) -> bool {
        id != 0 && self.lead == id
    }

    pub fn ttl(&self, usual: &Terms) -> Span {
        self.extras().map_or(usual.ttl, |extras| extras.terms.ttl)
    }

    pub fn lease(&self, usual: &Terms) -> Span {
        self.extras().map_or(usual.lease, |extras| extras.terms.lease)
    }

    /// The leader's thread, if it promised to settle there.
    pub fn thread(&self) -> u32 {
        self.thread
    }

    pub fn attempt(&self) -> u32 {
        self.extras().map_or(1, |extras| extras.attempt)
    }

    pub fn detached(&self) -> bool {
        self.extras().is_some_and(|extras| extras.detached)
    }

    pub fn fingerprint(&self) -> Option<&[u8]> {
        self.extras()?.fingerprint.as_deref()
    }

    pub fn standing(&self) -> Option<&Standing> {
        self.extras()?.standing.as_ref()
    }

    pub fn followers_mut(&mut self) -> Option<&mut Followers<F>> {
        self.extras_mut()?.followers.as_mut()
    }

    pub fn offers(&self, id: LeadId) -> bool {
        self.standing().is_some_and(|standing| standing.id == id)
    }

    /// Whether its lead is on offer to the follower in that seat.
    pub fn offered_to(&self, seat: &Arc<Seat>) -> bool {
        self.standing().is_some_and(|standing| Arc::ptr_eq(&standing.place.seat, seat))
    }

    /// Whether somebody should take over: the lead is gone, or its lease has passed, and nobody has
    /// been asked to.
    pub fn overdue(&self) -> bool {
        self.standing().is_none() && (self.lead == 0 || clock::passed(self.lease_until))
    }

    pub fn waiting(&self) -> usize {
        let followers = self.extras().and_then(|extras| extras.followers.as_ref());
        followers.map_or(0, |followers| followers.line.len())
    }

    /// Hands the lead to a new leader; the old lead, if any, is stale from here.
    pub fn succeed(&mut self, id: LeadId, terms: Terms, usual: &Terms) {
        self.lead = id;
        self.thread = terms.thread;
        self.lease_until = clock::after(terms.lease);
        let extras = self.widen(usual);
        extras.attempt = extras.attempt.saturating_add(1);
        extras.terms = terms;
        extras.standing = None;
        self.show_leader();
    }

    /// Offers the lead to the first in line, or to the first that `may` have it. Until it accepts,
    /// an overdue lead may still settle.
    pub fn promote(
        &mut self,
        id: LeadId,
        cause: Cause,
        may: impl Fn(&Terms) -> bool,
    ) -> Option<Offer> {
        let extras = self.extras_mut()?;
        let line = &mut extras.followers.as_mut()?.line;
        let ticket = *line.iter().find(|(_, place)| may(&place.terms))?.0;
        let place = line.remove(&ticket)?;
        let seat = Arc::clone(&place.seat);
        extras.standing = Some(Standing { id, place, cause, lapsed: false });
        self.show_leader();
        Some(Offer { seat, id })
    }

    /// Nobody leads any more.
    pub fn lose_lead(&mut self) {
        self.lead = 0;
        self.thread = 0;
        self.lease_until = NEVER;
        self.show_leader();
    }

    fn show_leader(&self) {
        let Some(extras) = self.extras() else { return };
        let Some(followers) = &extras.followers else { return };
        let leader = match (self.lead, &extras.standing) {
            (0, Some(standing)) => standing.place.terms.thread,
            _ => self.thread,
        };
        followers.room.leader.store(leader, Ordering::Relaxed);
    }
}
