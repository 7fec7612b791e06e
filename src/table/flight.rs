//! One execution in progress, and the line of those who wait for it.
//!
//! | lead | offer | the flight is | until |
//! |-|-|-|-|
//! | some | none | led | its lead settles; or, once overdue, somebody takes over |
//! | none | some | on offer to a follower | the follower accepts, or the offer passes on |
//! | some | some | overdue, and on offer | the follower accepts; or the lead settles or renews after all |
//! | none | none | orphaned: abandoned with nobody in line | the next begin (or `Unknown`, by policy) |
//!
//! These are plain transitions on plain data: the caller holds the shard's lock, and does what
//! they return ([`Offer`]s to tell) after releasing it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::seat::{Room, Seat};
use crate::clock;
use crate::timer::AlarmKey;

/// Names a lead. Unique in the process and growing with every leader of a key, so it is the
/// fencing token and the C handle at once.
pub(crate) type LeadId = u64;

/// What a request asks for, should it lead. A follower carries its own until it is promoted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub lease: Duration,
    pub ttl: Duration,
    /// The thread that promises to settle the lead, or 0: see `deadlock`.
    pub thread: u64,
    /// May lead where an earlier attempt's outcome is unknown.
    pub recover: bool,
    /// Whether the lead will be found again by its id alone.
    pub named: bool,
}

pub(super) struct Place {
    pub seat: Arc<Seat>,
    pub terms: Terms,
    pub deadline: Option<Instant>,
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
    pub place: Place,
    pub cause: Cause,
    /// Nobody else was in line when its time was up: the next begin may have it.
    pub lapsed: bool,
}

/// A follower to tell of its offer.
pub(super) struct Offer {
    pub seat: Arc<Seat>,
    pub id: LeadId,
}

pub(super) struct Followers<K, V> {
    pub room: Arc<Room<K, V>>,
    /// By ticket, which is by arrival.
    pub line: BTreeMap<u64, Place>,
}

pub(super) struct Flight<K, V> {
    /// Its first lead's id: names the flight whoever leads it.
    pub number: u64,
    pub lead: Option<LeadId>,
    pub attempt: u32,
    pub terms: Terms,
    pub lease_until: Option<Instant>,
    pub detached: bool,
    pub standing: Option<Box<Standing>>,
    /// Boxed: most flights never have a follower.
    pub followers: Option<Box<Followers<K, V>>>,
    pub checkpoint: Option<Arc<[u8]>>,
    /// The alarm for the lease of that lead, or while it is on offer, for the offer.
    pub alarm: Option<(LeadId, AlarmKey)>,
}

impl<K, V> Flight<K, V> {
    pub fn new(id: LeadId, terms: Terms) -> Self {
        Self {
            number: id,
            lead: Some(id),
            attempt: 1,
            terms,
            lease_until: clock::after(terms.lease),
            detached: false,
            standing: None,
            followers: None,
            checkpoint: None,
            alarm: None,
        }
    }

    /// Whether somebody should take over: the lead is gone, or its lease has passed, and nobody has
    /// been asked to.
    pub fn overdue(&self) -> bool {
        self.standing.is_none() && (self.lead.is_none() || clock::passed(self.lease_until))
    }

    pub fn waiting(&self) -> usize {
        self.followers.as_ref().map_or(0, |followers| followers.line.len())
    }

    /// Hands the lead to a new leader; the old lead, if any, is stale from here.
    pub fn succeed(&mut self, id: LeadId, terms: Terms) {
        self.lead = Some(id);
        self.attempt = self.attempt.saturating_add(1);
        self.terms = terms;
        self.lease_until = clock::after(terms.lease);
        self.standing = None;
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
        let followers = self.followers.as_mut()?;
        let ticket = *followers.line.iter().find(|(_, place)| may(&place.terms))?.0;
        let place = followers.line.remove(&ticket)?;
        let seat = Arc::clone(&place.seat);
        self.standing = Some(Box::new(Standing { id, place, cause, lapsed: false }));
        self.show_leader();
        Some(Offer { seat, id })
    }

    /// Nobody leads any more.
    pub fn lose_lead(&mut self) {
        self.lead = None;
        self.lease_until = None;
        self.show_leader();
    }

    fn show_leader(&self) {
        let Some(followers) = &self.followers else { return };
        let leader = match (self.lead, &self.standing) {
            (Some(_), _) => self.terms.thread,
            (None, Some(standing)) => standing.place.terms.thread,
            (None, None) => 0,
        };
        followers.room.leader.store(leader, Ordering::Relaxed);
    }
}
